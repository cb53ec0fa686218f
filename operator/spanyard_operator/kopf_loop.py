"""kopf, reduced to its watches: each event goes to one thin handler.

Only `kopf.on.event` is used: kopf then writes nothing to any object, no annotation and no finalizer,
and keeps no state (docs/adr/0020).
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import aiohttp

from spanyard_core.errors import SpanyardError
from spanyard_core.kube import NAMESPACES, Api
from spanyard_core.kube.access import Access
from spanyard_operator.cache import KEPT
from spanyard_operator.names import OURS
from spanyard_operator.watches import REFERENCED, SELECTED, Watches


class WatchesEndedError(SpanyardError):
    """kopf gave up: the API server failed too often. The process begins anew."""


Signals = Callable[[], None]


async def run_kopf(
    watches: Watches, access: Access, namespaces: Iterable[str], signals: Signals
) -> None:
    """Watch for ever. Raises what kopf raises. `signals` sets the process's signal handlers again."""
    kopf = _kopf()
    registry = kopf.OperatorRegistry()
    settings = _settings(kopf)

    async def login(**_: Any) -> Any:
        # kopf closes it, and asks for another one when the server refuses the token.
        return kopf.AiohttpSession(
            server=access.server, aiohttp_session=_session(access), default_namespace="default"
        )

    kopf.on.login(registry=registry)(login)

    def watched(api: Api) -> None:
        async def handler(event: Any, **_: Any) -> None:
            watches.seen(api, event["type"], dict(event["object"]))

        kopf.on.event(api.group, api.version, api.plural, registry=registry, id=api.plural)(handler)

    given = list(namespaces)
    for api in (*KEPT, *REFERENCED):
        if api == NAMESPACES and given:
            continue  # those are compared from time to time: one reads them, and has no right to all
        watched(api)
        if api in SELECTED:
            settings.watching.label_selectors[api.group, api.version, api.plural] = OURS
    await _run(
        kopf.spawn_tasks(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not given,
            namespaces=given,
        ),
        signals,
    )


async def _run(spawned: Awaitable[Collection["asyncio.Task[Any]"]], signals: Signals) -> None:
    """kopf's own way (`kopf.operator`) takes the process's signals, and at its end cancels every task of
    the loop: also those that must still end in order, as the release of the Lease."""
    tasks = await spawned
    signals()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        why = [repr(task.exception()) for task in done if task.exception() is not None]
        raise WatchesEndedError(f"the watches ended: {'; '.join(why) or 'without a reason'}")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _settings(kopf: Any) -> Any:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # kinds and namespaces are known at the start
    settings.execution.max_workers = 1  # no handler runs in a thread
    # The server ends a watch by then. kopf itself ends one that was silent for 70 s, bookmarks
    # included: a connection that died unnoticed costs a minute.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 1.0
    diffs, progress = _no_memory(kopf)
    settings.persistence.diffbase_storage = diffs()
    settings.persistence.progress_storage = progress()
    return settings


def _no_memory(kopf: Any) -> tuple[type, type]:
    """What kopf would remember between two events of an object. Nothing here asks for it, and making
    it ready, three deep copies of each object, took two thirds of the operator's CPU."""

    class NoDiffs(kopf.DiffBaseStorage):  # type: ignore[misc] # kopf is imported late
        def build(self, *, body: Any, extra_fields: Any = None) -> dict[str, Any]:
            return {}

        def fetch(self, *, body: Any) -> None:
            return None

        def store(self, *, body: Any, patch: Any, essence: Any) -> None:
            pass

    class NoProgress(kopf.ProgressStorage):  # type: ignore[misc] # kopf is imported late
        def fetch(self, *, key: Any, body: Any) -> None:
            return None

        def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
            pass

        def purge(self, *, key: Any, body: Any, patch: Any) -> None:
            pass

        def touch(self, *, body: Any, patch: Any, value: Any) -> None:
            pass

        def clear(self, *, essence: Any) -> Any:
            return essence

    return NoDiffs, NoProgress


def _session(access: Access) -> aiohttp.ClientSession:
    async def with_token(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        token = await access.token(False)
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)

    trust = access.trust
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=True if trust is None else trust),
        headers=dict(access.headers),
        proxy=access.proxy or None,
        middlewares=(with_token,),
    )


def _kopf() -> Any:
    """kopf, without the official client, which it imports for its type hints where it is there:
    that costs 60 MB."""
    absent = "kubernetes" not in sys.modules
    if absent:
        sys.modules["kubernetes"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import kopf
    finally:
        if absent:
            del sys.modules["kubernetes"]
    return kopf
