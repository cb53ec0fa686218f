"""Storage without credentials: the gateway signs each request, the bytes go to the bucket itself.

What is signed is one method, key, length and digest, and that the object is not there yet; so a
pod can add objects of its own, and neither replace, read nor delete others. Where the gateway
takes the bytes itself (a directory), the signed address is its own.

A signature that was refused (too old, a clock that is off) is asked for again, with the token read
anew. Each call gives up after a few seconds; who waits longer is the caller's to decide.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import msgspec

from spanyard_core.chunks import decode_facts
from spanyard_core.clock import Clock, SystemClock
from spanyard_core.errors import (
    BadRecordError,
    ObjectExistsError,
    ObjectNotFoundError,
    SettingError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.object_names import PENDING
from spanyard_core.retry import Backoff
from spanyard_core.storage.keys import check_key
from spanyard_core.storage.protocol import ObjectInfo
from spanyard_sidecar.pod_token import PodToken

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

SCHEME = "gateway+"
SIGN_PATH = "/internal/objects/sign"
TRIES = 4
FIRST_PAUSE_S = 0.2
SIGN_TIMEOUT_S = 10.0
STALLED_S = 30.0
"""An upload or download that does not move for so long has failed."""
PIECE = 1 << 20
"""Bytes of a file in memory at a time."""
KEPT_DIGESTS = 64
_TEXT = 300
"""Characters of an answer that go into a message."""


class _Signed(msgspec.Struct, rename="camel"):
    method: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    exists: bool = False
    sha256: str = ""
    size: int = 0


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


_signed = msgspec.json.Decoder(_Signed)
_problem = msgspec.json.Decoder(_Problem)
_Body = Callable[[], Any]
"""The bytes to send, made anew for each try."""


class _AgainError(Exception):
    """This try failed; the text says how. `renew`: perhaps the token or the signature is too old."""

    def __init__(self, text: str, *, renew: bool = False, refused: bool = False) -> None:
        super().__init__(text)
        self.renew = renew
        self.refused = refused


class GatewayStorage:
    """See `Storage`; what the gateway signs for nobody raises StorageRefusedError."""

    def __init__(self, url: str, *, token_file: str = "", clock: Clock | None = None) -> None:
        """`url`: `gateway+http://host:port`, with the gateway's base path where it has one.

        Raises SettingError.
        """
        address = url.removeprefix(SCHEME).rstrip("/")
        parts = urlsplit(address)
        if (
            not url.startswith(SCHEME)
            or parts.scheme not in {"http", "https"}
            or not parts.netloc
            or "@" in parts.netloc
            or parts.query
            or parts.fragment
        ):
            raise SettingError(
                f"storage URL {url!r} is not the address of a gateway; "
                "use gateway+http://host:port or gateway+https://host:port"
            )
        self._address = address
        self._clock = clock or SystemClock()
        self._token = PodToken(token_file)
        self._session: ClientSession | None = None
        self._digests: OrderedDict[str, str] = OrderedDict()
        """Of objects that were found to be there, newest last: they are asked for next."""

    @property
    def url(self) -> str:
        return f"{SCHEME}{self._address}"

    # -- writing -------------------------------------------------------------------------------

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Like `Storage.write`, and create-if-absent always: nothing is ever replaced."""
        wish = {"op": "put", "key": check_key(key), "size": len(data)}
        wish["sha256"] = hashlib.sha256(data).hexdigest()
        if writer := _writer(key, data):
            wish["writer"] = writer
        await self._put(wish, lambda: _slices(data), replace=not if_absent)

    async def write_file(self, key: str, path: Path) -> None:
        """Like `Storage.write_file`, but an object that is there and differs is not replaced:
        ObjectExistsError."""
        size, digest = await asyncio.to_thread(_measure, path)
        wish = {"op": "put", "key": check_key(key), "size": size, "sha256": digest}
        await self._put(wish, lambda: _pieces(path), replace=True)

    async def _put(self, wish: dict[str, Any], body: _Body, *, replace: bool) -> None:
        """Without `replace`, an object that is there is ObjectExistsError even if it is the same,
        as `Storage` has it."""
        try:
            await self._tried(wish, lambda signed: self._send(signed, wish, body))
        except ObjectExistsError:
            if not replace or self._digests.get(wish["key"]) != wish["sha256"]:
                raise

    async def _send(self, signed: _Signed, wish: Mapping[str, Any], body: _Body) -> None:
        headers = {**signed.headers, "Content-Length": str(wish["size"])}
        async with self._asked(signed, headers, body()) as answer:
            if answer.status not in {200, 201, 204}:
                # 412: somebody's object is there, perhaps ours by an answer that was lost; 409: two
                # at once. Whose it is, the next signing says.
                refused = answer.status in {400, 411, 413, 422}
                raise _AgainError(await _said(answer), renew=answer.status == 403, refused=refused)
            await answer.read()

    # -- reading -------------------------------------------------------------------------------

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        wish = {"op": "get", "key": check_key(key)}
        data: bytes = await self._tried(wish, lambda signed: self._receive(signed, start, length))
        return data

    async def _receive(self, signed: _Signed, start: int, length: int | None) -> bytes:
        headers = dict(signed.headers)
        if start or length is not None:
            # A range of no bytes cannot be asked for; whether there is an object, one byte tells.
            last = "" if length is None else start + max(length, 1) - 1
            headers["Range"] = f"bytes={start}-{last}"
        async with self._asked(signed, headers) as answer:
            if answer.status == 416:
                return b""
            if answer.status == 404:
                raise ObjectNotFoundError("the object has gone since its reading was signed")
            if answer.status not in {200, 206}:
                raise _AgainError(await _said(answer), renew=answer.status == 403)
            if answer.status == 200:
                left = start
                while left and (piece := await answer.content.read(min(left, PIECE))):
                    left -= len(piece)
            if length is None:
                return bytes(await answer.content.read())
            data = bytearray()
            while len(data) < length and (piece := await answer.content.read(length - len(data))):
                data += piece
            return bytes(data)

    async def exists(self, key: str) -> bool:
        try:
            await self.digest(key)
        except ObjectNotFoundError:
            return False
        return True

    async def digest(self, key: str) -> str:
        kept = self._digests.pop(key, "")
        if kept:
            return kept
        wish = {"op": "head", "key": check_key(key)}
        try:
            found: _Signed = await self._tried(wish, _as_it_is)
        except ObjectExistsError:
            return self._digests.pop(key)
        return found.sha256

    # -- what no pod may -----------------------------------------------------------------------

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        _refuse("list objects")

    async def delete(self, key: str) -> None:
        _refuse("delete an object")

    async def move(self, source: str, target: str) -> None:
        _refuse("move an object")

    def local_path(self, key: str) -> Path | None:
        return None

    async def close(self) -> None:
        """Give back connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- asking --------------------------------------------------------------------------------

    async def _tried(self, wish: Mapping[str, Any], use: Callable[[_Signed], Any]) -> Any:
        import aiohttp

        backoff = Backoff(SystemRandom(), first=FIRST_PAUSE_S, most=2.0)
        what = f"{self.url}: cannot {wish['op']} {wish['key']}"
        renew = False
        for left in reversed(range(TRIES)):
            try:
                return await use(await self._sign(wish, renew=renew))
            except _AgainError as error:
                if error.refused or (not left and error.renew):
                    raise StorageRefusedError(f"{what}: {error}") from None
                renew, problem = error.renew, str(error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = str(error) or type(error).__name__
            if left:
                await self._clock.sleep(backoff.next())
        raise StorageError(f"{what}: {problem}")

    async def _sign(self, wish: Mapping[str, Any], *, renew: bool) -> _Signed:
        import aiohttp

        session = self._connected()
        key = wish["key"]
        async with session.post(
            self._address + SIGN_PATH,
            data=msgspec.json.encode(wish),
            headers={**self._token.headers(renew=renew), "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=SIGN_TIMEOUT_S),
            allow_redirects=False,
        ) as answer:
            if answer.status == 404:
                raise ObjectNotFoundError(f"{self.url}: there is no object {key}")
            if answer.status in {401, 403}:
                raise _AgainError(await _said(answer), renew=True)
            if answer.status in {400, 411, 413, 415, 422}:
                raise _AgainError(await _said(answer), refused=True)
            if answer.status not in {200, 409}:
                raise _AgainError(await _said(answer))
            try:
                signed = _signed.decode(await answer.read())
            except msgspec.DecodeError as error:
                raise _AgainError(f"the gateway's answer is not readable: {error}") from None
            if answer.status == 409:
                self._digests[key] = signed.sha256
                self._digests.move_to_end(key)
                while len(self._digests) > KEPT_DIGESTS:
                    self._digests.popitem(last=False)
                raise ObjectExistsError(f"{self.url}: there is an object {key} already")
            return signed

    def _asked(self, signed: _Signed, headers: Mapping[str, str], body: Any = None) -> Any:
        import aiohttp
        from yarl import URL

        url = signed.url if "://" in signed.url else self._address + signed.url
        return self._connected().request(
            signed.method,
            URL(url, encoded=True),  # as it was signed
            data=body,
            headers=headers,
            skip_auto_headers=("Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None, connect=10, sock_read=STALLED_S),
            allow_redirects=False,
        )

    def _connected(self) -> "ClientSession":
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=True,  # a bucket may be behind a proxy
            )
        return self._session


async def _as_it_is(signed: _Signed) -> _Signed:
    return signed


def _writer(key: str, data: bytes) -> str:
    """Who wrote it, where the key is one of a chunk: the gateway checks it against the pod."""
    if not key.startswith((f"{PENDING}/", "builds/")):
        return ""
    try:
        return decode_facts(data)[0].writer
    except BadRecordError:
        return ""  # an artifact, its facts


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()


async def _said(answer: "ClientResponse") -> str:
    """What an answer says, in words."""
    raw = await answer.content.read(4096)
    try:
        found = _problem.decode(raw)
        text = found.detail or found.title
    except msgspec.DecodeError:
        text = raw.decode("utf-8", "replace")
    where = answer.url.host or ""
    return f"{where} answers {answer.status}: {' '.join(text.split())[:_TEXT]}"


def _refuse(what: str) -> NoReturn:
    raise StorageRefusedError(f"a pod may not {what}; the gateway signs reading and adding alone")
