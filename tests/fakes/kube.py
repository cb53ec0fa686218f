"""`FakeKube`: an API server in memory, with what our code relies on of the real one.

Versions, uids, generations, conflicts, status subresources, server-side apply by manager,
finalizers, garbage collection by owner, watches. One contract suite runs on it and on the real one
(`tests/contract/test_kube.py`).
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from spanyard_core.clock import Clock, SystemClock, rfc3339
from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    BUILDS,
    DEPLOYMENTS,
    EVENTS,
    INGRESSES,
    NAMESPACES,
    PODS,
    PROJECTS,
    REPLICA_SETS,
    VOLUME_CLAIMS,
    Api,
    ByteStream,
    KubeError,
    Object,
    WatchEvent,
)
from spanyard_core.kube.protocol import FIELD_MANAGER
from tests.fakes.kube_objects import copied, merged, parts, same, selected, without

WITH_STATUS = {
    PROJECTS, BUILDS, DEPLOYMENTS, PODS, APPS_DEPLOYMENTS, REPLICA_SETS, NAMESPACES, INGRESSES,
    VOLUME_CLAIMS,
}  # fmt: skip
"""Kinds whose status is written by its subresource alone."""
_FIRST_STATUS: dict[Api, Object] = {
    BUILDS: {"observedGeneration": 0, "phase": "Queued"},
    PROJECTS: {"observedGeneration": 0},
    DEPLOYMENTS: {"observedGeneration": 0},
}
_Place = tuple[Api, str, str]
Hook = Callable[[str, Api, str], None]
"""Verb, kind, name; may raise, as a network or a killed process would."""


class FakeKube:
    """See `spanyard_core.kube.protocol.Kube`; `namespaces` need not be made first."""

    def __init__(self, clock: Clock | None = None, *, pods_linger: bool = False) -> None:
        """With `pods_linger` a deleted pod stays, marked, until `finish_pod`: a kubelet ends it."""
        self.writes: Counter[tuple[str, str]] = Counter()
        self.reads: Counter[tuple[str, str]] = Counter()
        self.logs: dict[str, bytes] = {}
        """What `stream` answers, by path."""
        self.before: Hook = lambda verb, api, name: None
        """Called before anything is done: the request got lost."""
        self.after: Hook = lambda verb, api, name: None
        """Called when it is done: the answer got lost."""
        self.turns: Callable[[], int] = lambda: 1
        """How often others have their turn while a request is under way, and its answer is."""
        self._clock = clock or SystemClock()
        self._pods_linger = pods_linger
        self._objects: dict[_Place, Object] = {}
        self._applied: dict[tuple[_Place, str], Object] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._history: list[tuple[Api, WatchEvent]] = []
        self._changed = asyncio.Event()

    # --- for tests ---------------------------------------------------------------------------

    def all(self, api: Api, namespace: str = "") -> list[Object]:
        """What is stored, without a request."""
        return [
            copied(found)
            for (a, ns, _), found in sorted(self._objects.items(), key=lambda i: i[0][1:])
            if a == api and (not namespace or ns == namespace)
        ]

    def put(self, api: Api, body: Object) -> Object:
        """Make or replace an object with its status, without a request."""
        made = copied(body)
        made = {"apiVersion": api.api_version, "kind": api.kind, **made}
        place = _place(api, made)
        before = self._objects.get(place)
        about = made.setdefault("metadata", {})
        if before is None:
            self._born(api, made)
        else:
            for name in ("uid", "creationTimestamp", "generation"):
                about.setdefault(name, before["metadata"].get(name))
        return self._store(api, made, "ADDED" if before is None else "MODIFIED")

    def change(self, api: Api, name: str, namespace: str, patch: Object) -> Object:
        """Merge into an object and its status, as another controller or a user would."""
        found = self._objects[api, namespace, name]
        made = merged(found, patch)
        if made.get("spec") != found.get("spec"):
            made["metadata"]["generation"] = found["metadata"].get("generation", 1) + 1
        return self._store(api, made, "MODIFIED")

    def finish_pod(self, name: str, namespace: str) -> None:
        """A kubelet has ended a pod that is to be deleted; or its node's objects were removed."""
        if (PODS, namespace, name) in self._objects:
            self._remove(PODS, namespace, name)

    # --- one object --------------------------------------------------------------------------

    async def get(
        self, api: Api, name: str, namespace: str = "", *, subresource: str = ""
    ) -> Object | None:
        """See the protocol."""
        await self._asked("get", api, name)
        found = self._objects.get((api, _in(api, namespace), name))
        answer = self._read("get", api, name, found)
        await self._others()
        return answer

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
        made = {"apiVersion": api.api_version, "kind": api.kind, **copied(body)}
        about = made.setdefault("metadata", {})
        if "name" not in about and "generateName" in about:
            about["name"] = f"{about['generateName']}{next(self._uids)}"
        await self._asked("create", api, name or str(about.get("name", "")))
        self._count("create", api, subresource, dry_run=dry_run)
        if subresource:
            return made
        if api.namespaced:
            about["namespace"] = namespace or about.get("namespace") or "default"
        place = _place(api, made)
        if place in self._objects:
            raise KubeError(
                f'{api.plural} "{about["name"]}" already exists', status=409, reason="AlreadyExists"
            )
        if api in WITH_STATUS:
            made.pop("status", None)
            if api in _FIRST_STATUS:
                made["status"] = dict(_FIRST_STATUS[api])
        self._born(api, made)
        if dry_run:
            return made
        self._store(api, made, "ADDED")
        return await self._answered("create", api, about["name"], made)

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
        """See the protocol. Lists are replaced whole; nobody's field conflicts."""
        said = {"apiVersion": api.api_version, "kind": api.kind, **copied(body)}
        about = said["metadata"]
        await self._asked("apply", api, about["name"])
        self._count("apply", api, subresource, dry_run=dry_run)
        if api.namespaced:
            about["namespace"] = namespace or about.get("namespace") or "default"
        place = _place(api, said)
        before = self._objects.get(place)
        self._check(api, about, before)
        if before is None and about.get("uid"):
            raise KubeError("the object is gone", status=409, reason="Conflict")
        previous = self._applied.get((place, manager), {})
        made = merged(without(before or {}, previous, said), said)
        if api in WITH_STATUS:
            made = parts(before or {}, made, "status" if subresource == "status" else "")
        about = made["metadata"]
        if dry_run:
            return made
        self._applied[place, manager] = said
        if before is None:
            self._born(api, made)
            self._store(api, made, "ADDED")
        elif same(before, made):
            made = before
        else:
            if before.get("spec") != made.get("spec"):
                made["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
            self._store(api, made, "MODIFIED")
        return await self._answered("apply", api, about["name"], made)

    async def merge(
        self, api: Api, name: str, patch: Object, namespace: str = "", *, subresource: str = ""
    ) -> Object | None:
        """See the protocol."""
        await self._asked("merge", api, name)
        self._count("merge", api, subresource)
        before = self._objects.get((api, _in(api, namespace), name))
        if before is None:
            return None
        self._check(api, patch.get("metadata") or {}, before)
        made = merged(before, patch)
        if api in WITH_STATUS:
            made = parts(before, made, "status" if subresource == "status" else "")
        made["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        if not same(before, made):
            if before.get("spec") != made.get("spec"):
                made["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
            if made["metadata"].get("deletionTimestamp") and not made["metadata"].get("finalizers"):
                self._remove(api, _in(api, namespace), name)
            else:
                self._store(api, made, "MODIFIED")
        return await self._answered("merge", api, name, made)

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
        await self._asked("delete", api, name)
        self._count("delete", api, "")
        namespace = _in(api, namespace)
        found = self._objects.get((api, namespace, name))
        if found is None or (uid and found["metadata"]["uid"] != uid):
            return False
        lingers = api == PODS and self._pods_linger and grace != 0
        if found["metadata"].get("finalizers") or lingers:
            if not found["metadata"].get("deletionTimestamp"):
                marked = copied(found)
                marked["metadata"]["deletionTimestamp"] = self._now()
                self._store(api, marked, "MODIFIED")
        else:
            self._remove(api, namespace, name)
        self.after("delete", api, name)
        return True

    # --- many --------------------------------------------------------------------------------

    async def list(
        self, api: Api, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> "list[Object]":
        """See the protocol."""
        await self._asked("list", api, "")
        self.reads["list", api.plural] += 1
        return [o for o in self.all(api, namespace) if selected(o, labels, fields)]

    async def watch(
        self, api: Api, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """See the protocol."""
        at = len(self._history)
        for found in await self.list(api, namespace, labels=labels, fields=fields):
            yield WatchEvent("ADDED", found)
        yield WatchEvent("SYNCED")
        while True:
            changed = self._changed
            while at < len(self._history):
                of, event = self._history[at]
                at += 1
                if (
                    of == api
                    and (not namespace or event.object["metadata"].get("namespace") == namespace)
                    and selected(event.object, labels, fields)
                ):
                    yield WatchEvent(event.type, copied(event.object))
            if at == len(self._history):
                await changed.wait()

    @asynccontextmanager
    async def stream(
        self, path: str, query: dict[str, str] | None = None
    ) -> AsyncIterator[ByteStream]:
        """See the protocol; answers what stands in `logs`."""
        if path not in self.logs:
            raise KubeError(f"{path} not found", status=404, reason="NotFound")
        yield _Bytes(self.logs[path])

    # --- inside ------------------------------------------------------------------------------

    async def _asked(self, verb: str, api: Api, name: str) -> None:
        await self._others()
        self.before(verb, api, name)

    async def _others(self) -> None:
        for _ in range(self.turns()):
            await asyncio.sleep(0)

    def _read(self, verb: str, api: Api, name: str, found: Object | None) -> Object | None:
        self.reads[verb, api.plural] += 1
        return copied(found)

    async def _answered(self, verb: str, api: Api, name: str, made: Object) -> Object:
        self.after(verb, api, name)
        answer: Object = copied(made)
        await self._others()
        return answer

    def _count(self, verb: str, api: Api, subresource: str, *, dry_run: bool = False) -> None:
        if not dry_run:
            self.writes[verb, f"{api.plural}/{subresource}" if subresource else api.plural] += 1

    def _check(self, api: Api, about: Object, before: Object | None) -> None:
        if before is None:
            return
        for name in ("resourceVersion", "uid"):
            if about.get(name) and about[name] != before["metadata"].get(name):
                raise KubeError(
                    f'{api.plural} "{before["metadata"]["name"]}": the object has been modified',
                    status=409,
                    reason="Conflict",
                )

    def _born(self, api: Api, made: Object) -> None:
        about = made["metadata"]
        about.setdefault("uid", f"uid-{next(self._uids):06d}")
        about.setdefault("creationTimestamp", self._now())
        about["generation"] = 1
        if api == PODS:
            made.setdefault("status", {}).setdefault("phase", "Pending")

    def _store(self, api: Api, made: Object, type_: Any) -> Object:
        made["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[_place(api, made)] = copied(made)
        self._told(api, WatchEvent(type_, copied(made)))
        return made

    def _remove(self, api: Api, namespace: str, name: str) -> None:
        gone = self._objects.pop((api, namespace, name))
        for key in [key for key in self._applied if key[0] == (api, namespace, name)]:
            del self._applied[key]
        gone = copied(gone)
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._told(api, WatchEvent("DELETED", gone))
        uid = gone["metadata"]["uid"]
        for (of, ns, child), found in list(self._objects.items()):
            owners = found["metadata"].get("ownerReferences") or ()
            if of != EVENTS and any(owner.get("uid") == uid for owner in owners):
                self._remove(of, ns, child)

    def _told(self, api: Api, event: WatchEvent) -> None:
        self._history.append((api, event))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _now(self) -> str:
        return rfc3339(self._clock.time_ns())[:19] + "Z"


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


def _in(api: Api, namespace: str) -> str:
    return namespace if api.namespaced else ""


def _place(api: Api, body: Object) -> _Place:
    about = body["metadata"]
    return api, _in(api, str(about.get("namespace", ""))), str(about["name"])
