"""What the collector asks of the gateway: hints of new objects, and how far a file is stored.

Both are optional. Hints are best effort: listing finds every object, a hint saves seconds. aiohttp
is imported when the first request is made.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from spanyard_core.clock import Clock
from spanyard_core.errors import StorageError
from spanyard_sidecar.metrics import CollectorMetrics, Seldom
from spanyard_sidecar.model import Stored
from spanyard_sidecar.pod_token import PodToken

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger("spanyard.sidecar")

TIMEOUT_S = 5.0
KEYS_PER_HINT = 500
MAX_WAITING = 10_000
"""Keys that wait for the gateway; beyond, the oldest go: listing finds them."""
MAX_ANSWER = 1 << 20


class Http(Protocol):
    """The seam: one request, one answer. Raises OSError or TimeoutError when nobody answers."""

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]: ...

    async def get(self, path: str, query: dict[str, str]) -> tuple[int, bytes]: ...


class GatewayHttp:
    """The gateway at `address`, such as `http://spanyard-gateway:8080`."""

    def __init__(self, address: str, token: PodToken | None = None) -> None:
        """`token` is shown with every request."""
        self._address = address.rstrip("/")
        self._token = token or PodToken("")
        self._session: ClientSession | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        return await self._request(
            "POST", path, data=body, headers={"Content-Type": "application/json"}
        )

    async def get(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        return await self._request("GET", path, params=query)

    async def _request(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                connector=aiohttp.TCPConnector(limit=4),
            )
        given = options.pop("headers", {})
        try:
            for renew in (False, True):
                headers = {**given, **self._token.headers(renew=renew)}
                async with self._session.request(
                    method, self._address + path, headers=headers, **options
                ) as answer:
                    if answer.status == 401 and not renew:
                        continue  # renewed in its file meanwhile
                    return answer.status, await answer.content.read(MAX_ANSWER)
        except aiohttp.ClientError as error:
            raise OSError(f"{self._address}: {error}") from error
        raise AssertionError("two rounds, and the second answers or raises")

    async def close(self) -> None:
        """Give back connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class GatewayHinter:
    """Tells about new objects; one request at a time, many keys in each."""

    def __init__(self, http: Http, clock: Clock, metrics: CollectorMetrics) -> None:
        self._http = http
        self._metrics = metrics
        self._seldom = Seldom(clock.monotonic)
        self._keys: deque[str] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()

    def tell(self, keys: Sequence[str]) -> None:
        """These objects are there. Returns at once, raises nothing."""
        dropped = len(self._keys) + len(keys) - MAX_WAITING
        if dropped > 0:
            self._metrics.hints.labels("dropped").inc(dropped)
        self._keys.extend(keys)
        self._wake.set()

    async def run(self) -> None:
        """Send, for ever. One attempt per hint: later it would be no use."""
        while True:
            if not self._keys:
                self._wake.clear()
                await self._wake.wait()
            await self.send()

    async def send(self) -> None:
        """Send what waits, at most one request's worth."""
        keys = [self._keys.popleft() for _ in range(min(KEYS_PER_HINT, len(self._keys)))]
        if not keys:
            return
        try:
            status, _ = await self._http.post(
                "/internal/hints", msgspec.json.encode({"keys": keys})
            )
            problem = "" if status < 300 else f"it answers {status}"
        except (OSError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        self._metrics.hints.labels("failed" if problem else "sent").inc(len(keys))
        if problem and self._seldom("hint"):
            log.warning(
                "the gateway takes no hints (%s); new objects show when storage is listed", problem
            )


class GatewayIndex:
    """Implements `SourceIndex`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def stored_through(self, project: str, fingerprint: str) -> Stored | None:
        """How far the file is stored, None when nothing of it is. Raises StorageError."""
        query = {"project": project, "fingerprint": fingerprint}
        try:
            status, body = await self._http.get("/internal/sources", query)
        except (OSError, TimeoutError) as error:
            raise StorageError(
                f"the gateway does not answer: {error or type(error).__name__}"
            ) from error
        if status != 200:
            raise StorageError(f"the gateway answers {status}: {body[:200]!r}")
        try:
            stored = _answers.decode(body).stored
        except msgspec.DecodeError as error:
            raise StorageError(f"the gateway's answer is not readable: {error}") from error
        if stored is None:
            return None
        return Stored(stored.writer, stored.last_seq, stored.to_offset, stored.pending)


class _Stored(msgspec.Struct, rename="camel"):
    writer: str
    last_seq: int
    to_offset: int
    pending: list[tuple[int, int]] = []


class _Answer(msgspec.Struct):
    stored: _Stored | None


_answers = msgspec.json.Decoder(_Answer)
