"""`KubeClient`: the API server over HTTP."""

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import aiohttp
import msgspec

from spanyard_core.clock import Clock, SystemClock
from spanyard_core.kube import access
from spanyard_core.kube.access import Access
from spanyard_core.kube.apis import Api
from spanyard_core.kube.errors import KubeError, KubeUnavailableError
from spanyard_core.kube.protocol import FIELD_MANAGER, ByteStream, Object, WatchEvent
from spanyard_core.kube.watching import Page, watched

REQUEST_S = 30.0
"""One request, a page of a listing included."""
PAGE = 500
CONNECTIONS = 64
"""At a time: watches hold one each."""
Objects = list[Object]
"""Named here: in the class, `list` is a method."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"


class KubeClient:
    """See `protocol.Kube`."""

    def __init__(self, given: Access, *, clock: Clock | None = None) -> None:
        self.access = given
        self.namespace = given.namespace
        self.writes: Counter[tuple[str, str]] = Counter()
        self._clock = clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    async def in_cluster(cls) -> Self:
        """As the pod's service account. Raises SettingError outside a pod."""
        clock = SystemClock()
        return cls(access.in_cluster(clock), clock=clock)

    @classmethod
    async def from_kubeconfig(cls, path: str = "", context: str = "") -> Self:
        """As a kubeconfig says. Raises SettingError."""
        clock = SystemClock()
        return cls(access.from_kubeconfig(clock, path, context), clock=clock)

    async def close(self) -> None:
        """Give back connections; watches and streams must have ended."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- one object --------------------------------------------------------------------------

    async def get(
        self, api: Api, name: str, namespace: str = "", *, subresource: str = ""
    ) -> Object | None:
        """See the protocol."""
        return await self._maybe("GET", api.path(namespace, name, subresource))

    async def create(
        self,
        api: Api,
        body: Object,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """See the protocol."""
        self._count("create", api, subresource, dry_run=dry_run)
        return await self._json(
            "POST",
            api.path(namespace or _namespace(body), name, subresource),
            _query(dry_run=dry_run, manager=FIELD_MANAGER),
            body=_typed(api, body) if not subresource else body,
        )

    async def apply(
        self,
        api: Api,
        body: Object,
        namespace: str = "",
        *,
        manager: str = FIELD_MANAGER,
        force: bool = True,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """See the protocol."""
        self._count("apply", api, subresource, dry_run=dry_run)
        name = str(body["metadata"]["name"])
        query = _query(dry_run=dry_run, manager=manager)
        query["force"] = "true" if force else "false"
        return await self._json(
            "PATCH",
            api.path(namespace or _namespace(body), name, subresource),
            query,
            body=_typed(api, body),
            kind=_APPLY,
        )

    async def merge(
        self, api: Api, name: str, patch: Object, namespace: str = "", *, subresource: str = ""
    ) -> Object | None:
        """See the protocol."""
        self._count("merge", api, subresource)
        path = api.path(namespace, name, subresource)
        try:
            return await self._maybe(
                "PATCH", path, _query(manager=FIELD_MANAGER), body=patch, kind=_MERGE
            )
        except KubeError as error:
            # Another one has the name now, which the server calls a change of the uid.
            if error.status == 422 and "metadata.uid" in str(error):
                raise KubeError(str(error), status=409, reason="Conflict") from error
            raise

    async def delete(
        self,
        api: Api,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        propagation: str = "Background",
        grace: int | None = None,
    ) -> bool:
        """See the protocol."""
        self._count("delete", api, "")
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            answer = await self._maybe("DELETE", api.path(namespace, name), body=options)
        except KubeError as error:
            if error.status == 409 and uid:  # another one has the name now
                return False
            raise
        return answer is not None

    # --- many --------------------------------------------------------------------------------

    async def list(
        self, api: Api, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Objects:
        """See the protocol."""
        selectors = _selectors(labels, fields)
        try:
            return await self._listed(api, namespace, selectors)
        except KubeError as error:
            if error.status != 410:
                raise
        # The pages' snapshot was forgotten meanwhile: all at once, which cannot come to that.
        return await self._listed(api, namespace, selectors, page=0)

    async def _listed(
        self, api: Api, namespace: str, selectors: Mapping[str, str], *, page: int = PAGE
    ) -> Objects:
        pages = self._pages(api, namespace, selectors, page)
        return [item async for found in pages for item in found.items]

    def watch(
        self, api: Api, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """See the protocol."""
        selectors = _selectors(labels, fields)
        path = api.path(namespace)

        def lines(query: Mapping[str, str]) -> AsyncIterator[bytes]:
            return self._lines(path, {**selectors, **query})

        return watched(
            f"{api.plural} of {namespace or 'all namespaces'}",
            lambda: self._pages(api, namespace, selectors),
            lines,
            self._clock,
            random.Random(),
        )

    async def _pages(
        self, api: Api, namespace: str, query: Mapping[str, str], page: int = PAGE
    ) -> AsyncIterator[Page]:
        """`page`: items of each; 0: all in one."""
        path, more = api.path(namespace), ""
        while True:
            asked = {**query, "limit": str(page)} | ({"continue": more} if more else {})
            body = await self._json("GET", path, asked)
            about = body.get("metadata") or {}
            items = body.get("items") or []
            for item in items:  # lists leave out what all items share
                item.setdefault("apiVersion", api.api_version)
                item.setdefault("kind", api.kind)
            yield Page(items, str(about.get("resourceVersion", "")))
            more = about.get("continue") or ""
            if not more:
                return

    # --- bytes -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: dict[str, str] | None = None
    ) -> AsyncIterator[ByteStream]:
        """See the protocol."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_S)
        async with self._answer("GET", path, query or {}, timeout=timeout) as answer:
            yield _Stream(answer)

    async def _lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        limit = float(query.get("timeoutSeconds", 300)) + REQUEST_S
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=REQUEST_S)
        async with self._answer("GET", path, query, timeout=timeout) as answer:
            rest = bytearray()
            async for piece in _Stream(answer):
                rest += piece
                # Objects have up to megabytes: split once per piece, not once per search.
                if b"\n" in piece:
                    *whole, last = bytes(rest).split(b"\n")
                    rest = bytearray(last)
                    for line in whole:
                        if line:
                            yield line

    # --- requests ----------------------------------------------------------------------------

    def _count(self, verb: str, api: Api, subresource: str, *, dry_run: bool = False) -> None:
        if not dry_run:
            self.writes[verb, f"{api.plural}/{subresource}" if subresource else api.plural] += 1

    async def _maybe(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> Object | None:
        try:
            return await self._json(method, path, query or {}, body=body, kind=kind)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        data = None if body is None else msgspec.json.encode(body)
        async with self._answer(
            method, path, query, timeout=timeout, data=data, kind=kind
        ) as answer:
            with _network(method, path):
                raw = await answer.read()
        try:
            made: Any = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise KubeUnavailableError(f"{method} {path}: the answer is no JSON") from error
        return made if isinstance(made, dict) else {}

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
        kind: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one request, once more with another token when that was refused."""
        for renew in (False, True):
            headers = {"Accept": "application/json", **self.access.headers}
            token = await self.access.token(renew)
            if token:
                headers["Authorization"] = f"Bearer {token}"
            if data is not None:
                headers["Content-Type"] = kind
            with _network(method, path):
                answer = await self._opened().request(
                    method,
                    self.access.server + path,
                    params=query,
                    headers=headers,
                    data=data,
                    timeout=timeout,
                    proxy=self.access.proxy or None,
                    allow_redirects=False,
                )
            async with answer:
                if answer.status == 401 and token and not renew:
                    continue
                if answer.status >= 300:
                    raise await _refusal(method, path, answer)
                yield answer
                return

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trust = self.access.trust
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS, ssl=True if trust is None else trust
            )
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        return self._session


class _Stream:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _network("GET", self._answer.url.path):
            async for piece in self._answer.content.iter_any():
                yield piece


@contextlib.contextmanager
def _network(method: str, path: str) -> Any:
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        told = str(error) or type(error).__name__
        raise KubeUnavailableError(f"{method} {path}: the API server is away: {told}") from error


async def _refusal(
    method: str, path: str, answer: aiohttp.ClientResponse
) -> KubeError | KubeUnavailableError:
    with _network(method, path):
        raw = await answer.read()
    try:
        said: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        said = None
    if not isinstance(said, dict):
        said = {"message": raw[:500].decode(errors="replace")}
    told = f"{method} {path}: {said.get('message') or answer.reason} ({answer.status})"
    if answer.status == 429 or answer.status >= 500:
        wait = answer.headers.get("Retry-After", "")
        return KubeUnavailableError(told, retry_after=float(wait) if wait.isdigit() else 0.0)
    reason = str(said.get("reason", ""))
    return KubeError(told, status=answer.status, reason=reason, causes=_causes(said))


def _causes(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    details = said.get("details")
    found = details.get("causes") if isinstance(details, dict) else None
    return [
        # CEL rules of the whole object name no field: Go's nil.
        (str(one.get("field", "")).removeprefix("<nil>"), str(one.get("message", "")))
        for one in found or ()
        if isinstance(one, dict)
    ]


def _query(*, dry_run: bool = False, manager: str = "") -> dict[str, str]:
    made = {"fieldManager": manager} if manager else {}
    return made | {"dryRun": "All"} if dry_run else made


def _selectors(labels: str, fields: str) -> dict[str, str]:
    made = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in made.items() if value}


def _typed(api: Api, body: Object) -> Object:
    return {"apiVersion": api.api_version, "kind": api.kind, **body}


def _namespace(body: Object) -> str:
    return str((body.get("metadata") or {}).get("namespace", ""))
