"""From what happens in the cluster to keys in the work queue.

kopf's watches (`kopf_loop`) go on by themselves, but do not tell what was deleted while one was
interrupted, nor when all was told; `Watches.compare` does, by a full listing at the start and from
time to time.
"""

import logging
from collections.abc import Callable, Iterable
from typing import cast

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
    SERVICES,
    Api,
    Kube,
    Object,
)
from spanyard_core.resources.kinds import Build, Kind
from spanyard_operator.cache import KEPT, OWN, Cache, owner_key
from spanyard_operator.names import OURS
from spanyard_operator.workqueue import Key, WorkQueue

log = logging.getLogger("spanyard.operator")

SELECTED = (PODS, APPS_DEPLOYMENTS, REPLICA_SETS, SERVICES)
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
        self._stories: dict[str, object] = {}
        """By uid: what was told last to those that look at an object."""

    def seen(self, api: Api, type_: str | None, found: Object) -> None:
        """One event of a watch."""
        if api in REFERENCED:
            about = found["metadata"]
            for key in self._referenced(api, about.get("namespace", ""), about["name"]):
                self._queue.add(key)
            return
        gone = type_ == "DELETED"
        if self._cache.drop(api, found) if gone else self._cache.put(api, found):
            for key in self._touched(api, found, news=self._is_news(api, found, gone=gone)):
                self._queue.add(key)

    def _is_news(self, api: Api, found: Object, *, gone: bool) -> bool:
        uid, story = str(found["metadata"].get("uid", "")), self._story(api, found)
        before = self._stories.pop(uid, None)
        if not gone and story is not None:
            self._stories[uid] = story
        return gone or story != before

    def _story(self, api: Api, found: Object) -> object:
        """What others than the object itself care about."""
        about = found["metadata"]
        namespace, name = str(about.get("namespace", "")), str(about["name"])
        if api == PROJECTS:
            return True
        if api == BUILDS and (build := self._cache.build(namespace, name)) is not None:
            return build.status.phase, build.status.artifact.digest
        return None

    def _touched(self, api: Api, found: Object, *, news: bool) -> set[Key]:
        """Whose turn it is when this object changed; with `news` also those that look at it."""
        about = found["metadata"]
        namespace, name = str(about.get("namespace", "")), str(about["name"])
        if api == NAMESPACES:
            return set()  # read when a pod is made
        if api not in OWN.values():
            kind, _, owner = owner_key(found).partition("/")
            return {Key(cast("Kind", kind), namespace, owner)} if owner else set()
        mine = {Key(cast("Kind", api.kind), namespace, name)}
        if api == PROJECTS:
            return mine | (self._that_wait(namespace, name) if news else set())
        project = str((found.get("spec") or {}).get("project", ""))
        if project:
            mine.add(Key("Project", namespace, project))
        if api == BUILDS and news:
            mine |= {
                Key("Deployment", namespace, one.metadata.name)
                for one in self._cache.deployments(namespace, project)
                if one.spec.follow or (one.spec.build_ref and one.spec.build_ref.name == name)
            }
        return mine

    def _that_wait(self, namespace: str, project: str) -> set[Key]:
        """For their project to be there."""
        builds = self._cache.builds(namespace, project)
        servers = self._cache.deployments(namespace, project)
        waiting = {Key("Build", namespace, b.metadata.name) for b in builds if _waits(b)}
        return waiting | {Key("Deployment", namespace, d.metadata.name) for d in servers}

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
                    for key in sorted(
                        self._touched(api, one, news=self._is_news(api, one, gone=False))
                    ):
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
        if api == BUILDS and (build := self._cache.build(namespace, name)) is not None:
            made["spec"] = {"project": build.spec.project}
        elif api == DEPLOYMENTS and (server := self._cache.deployment(namespace, name)) is not None:
            made["spec"] = {"project": server.spec.project}
        elif api in OWN.values():
            pass
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


def _waits(build: Build) -> bool:
    return build.status.phase == "Queued"
