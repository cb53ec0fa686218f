"""From what happens in the cluster to keys in the work queue.

kopf's watches (`kopf_loop`) go on by themselves, but do not tell what was deleted while one was
interrupted, nor when all was told; `Watches.compare` does, by a full listing at the start and from
time to time.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    BUILDS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    PROJECTS,
    REPLICA_SETS,
    SECRETS,
    Api,
    Kube,
    Object,
)
from spanyard_operator.cache import KEPT, OWN, Cache, owner_key
from spanyard_operator.names import OURS
from spanyard_operator.workqueue import Key, WorkQueue

log = logging.getLogger("spanyard.operator")

SELECTED = (PODS, APPS_DEPLOYMENTS, REPLICA_SETS)
"""Only those with our label are watched."""
REFERENCED = (SECRETS, CONFIG_MAPS)
"""Watched for their changes, not kept."""
Referenced = Callable[[Api, str, str], Iterable[Key]]
"""Which of our objects refer to the Secret or ConfigMap of this namespace and name."""


def nothing_refers(api: Api, namespace: str, name: str) -> Iterable[Key]:
    """Until deployments say what they refer to."""
    return ()


class Watches:
    """Feeds cache and queue."""

    def __init__(
        self, cache: Cache, queue: WorkQueue, *, referenced: Referenced = nothing_refers
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._referenced = referenced

    def seen(self, api: Api, type_: str | None, found: Object) -> None:
        """One event of a watch."""
        if api in REFERENCED:
            about = found["metadata"]
            for key in self._referenced(api, about.get("namespace", ""), about["name"]):
                self._queue.add(key)
            return
        before = self._touched(api, found) if type_ == "DELETED" else set()
        if self._cache.drop(api, found) if type_ == "DELETED" else self._cache.put(api, found):
            for key in before | self._touched(api, found):
                self._queue.add(key)

    def _touched(self, api: Api, found: Object) -> set[Key]:
        """Whose turn it is when this object changed."""
        about = found["metadata"]
        namespace, name = str(about.get("namespace", "")), str(about["name"])
        if api == PROJECTS:
            mine = [Key("Project", namespace, name)]
            mine += [
                Key("Build", namespace, b.metadata.name)
                for b in self._cache.builds(namespace, name)
                if b.status.phase == "Queued"
            ]
            mine += [
                Key("Deployment", namespace, d.metadata.name)
                for d in self._cache.deployments(namespace, name)
                if not d.status.revisions
            ]
            return set(mine)
        if api in (BUILDS, DEPLOYMENTS):
            project = str((found.get("spec") or {}).get("project", ""))
            kind: Any = api.kind
            mine = [Key(kind, namespace, name)]
            mine += [Key("Project", namespace, project)] if project else []
            if api == BUILDS:
                mine += [
                    Key("Deployment", namespace, d.metadata.name)
                    for d in self._cache.deployments(namespace, project)
                    if d.spec.follow or (d.spec.build_ref and d.spec.build_ref.name == name)
                ]
            return set(mine)
        if api == NAMESPACES:
            return set()  # read when a pod is made
        owner_kind, _, owner = owner_key(found).partition("/")
        return {Key(owner_kind, namespace, owner)} if owner else set()  # type: ignore[arg-type]

    async def compare(self, kube: Kube, namespaces: Iterable[str] = ()) -> int:
        """List all that is kept, take what is new and drop what has gone; returns how many differed.

        At the start this fills the cache, so that nobody decides on half a picture.
        """
        differed = 0
        for api in KEPT:
            found = await listed(kube, api, namespaces)
            there = {str(one["metadata"].get("uid", "")) for one in found}
            # Objects of one second are told apart by their versions: builds wait in this order.
            for one in sorted(found, key=_made):
                if self._cache.put(api, one):
                    differed += 1
                    for key in sorted(self._touched(api, one)):
                        self._queue.add(key)
            for namespace, name, uid in self._cache.names(api):
                if uid not in there:
                    gone = await kube.get(api, name, namespace)  # it may have come meanwhile
                    if gone is None or gone["metadata"].get("uid") != uid:
                        differed += 1
                        self.seen(api, "DELETED", self._trace(api, namespace, name, uid))
        return differed

    def _trace(self, api: Api, namespace: str, name: str, uid: str) -> Object:
        """Enough of an object that has gone to tell whose turn it is."""
        about: Object = {"namespace": namespace, "name": name, "uid": uid}
        made: Object = {"metadata": about}
        if api in OWN.values():
            for resource in (*self._cache.builds(namespace), *self._cache.deployments(namespace)):
                if resource.metadata.uid == uid:
                    made["spec"] = {"project": resource.spec.project}
        elif (kept := self._cache.get(api, name, namespace)) is not None:
            about["labels"] = kept["metadata"].get("labels") or {}
        return made


async def listed(kube: Kube, api: Api, namespaces: Iterable[str]) -> list[Object]:
    """All objects of a kind that the operator works with."""
    labels = OURS if api in SELECTED else ""
    if api == NAMESPACES:
        wanted = [await kube.get(api, name) for name in namespaces]
        found = [one for one in wanted if one is not None]
        return found if wanted else await kube.list(api)
    given = list(namespaces)
    if not given:
        return await kube.list(api, labels=labels)
    return [one for namespace in given for one in await kube.list(api, namespace, labels=labels)]


def _made(found: Object) -> tuple[str, int]:
    about = found["metadata"]
    version = str(about.get("resourceVersion", ""))
    return str(about.get("creationTimestamp", "")), int(version) if version.isdigit() else 0
