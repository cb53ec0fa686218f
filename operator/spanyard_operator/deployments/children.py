"""The children as they are in the cluster: applied when they differ, never onto somebody else's.

Server-side apply costs a request that changes something, so it is left out where nothing is to be
changed: what was applied last is remembered by hash, with the version that came of it, and after a
restart the child itself is compared.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from spanyard_core.kube import APPS_DEPLOYMENTS, SERVICES, Api, KubeError, Object
from spanyard_core.resources.conditions import Because
from spanyard_core.resources.kinds import Deployment
from spanyard_operator.context import Context
from spanyard_operator.deployments.comparing import covers
from spanyard_operator.names import owned_by
from spanyard_operator.outcomes import StalledError, WaitingError, stalled

APPLIED = "spanyard.dev/applied"
"""Annotation of children: hash of what was said last, so that a field that is no longer said goes."""
WATCHED = (APPS_DEPLOYMENTS, SERVICES)
"""A change of these by somebody is seen and undone at once, of the others at the next comparison."""
SOON_S = 2.0
TAKEN_S = 30.0
"""Seconds between two looks at a name that somebody else has."""


@dataclass(frozen=True, slots=True)
class _Applied:
    hash: str
    uid: str
    version: str
    at: float


class Children:
    """Those of all Deployments."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._applied: dict[tuple[Api, str, str], _Applied] = {}

    async def apply(self, api: Api, desired: Object, owner: Deployment) -> Object | None:
        """Let it be as desired. The answer when something was asked, None when nothing had to be.

        Raises StalledError (`NameTaken`), WaitingError while a predecessor's child goes, KubeError.
        """
        place = self._place(api, desired)
        digest = _digest(desired)
        if self._is_applied(place, digest):
            return None
        body = _marked(desired, digest)
        live = await self._context.kube.get(api, place[2], place[1])
        if live is None:
            answer = await self._create(api, body, owner)
        elif not owned_by(live, owner.metadata.uid):
            raise not_ours(api, live, owner)
        elif live["metadata"].get("annotations", {}).get(APPLIED) == digest and covers(live, body):
            answer = live
        else:
            # The uid: should it be another one by now, the API server refuses.
            body["metadata"]["uid"] = live["metadata"]["uid"]
            answer = await self._context.kube.apply(api, body, place[1])
        self._remember(place, digest, answer)
        return answer

    async def _create(self, api: Api, body: Object, owner: Deployment) -> Object:
        try:
            # Without force: what appeared this moment is somebody's, and conflicts.
            return await self._context.kube.apply(
                api, body, body["metadata"]["namespace"], force=False
            )
        except KubeError as error:
            if not error.conflict:
                raise
            live = await self._context.kube.get(
                api, body["metadata"]["name"], body["metadata"]["namespace"]
            )
            if live is not None and not owned_by(live, owner.metadata.uid):
                raise not_ours(api, live, owner) from error
            raise

    async def remove(self, api: Api, name: str, owner: Deployment) -> None:
        """Let there be none, if it is ours."""
        namespace = owner.metadata.namespace
        self._applied.pop((api, namespace, name), None)
        live = await self._context.kube.get(api, name, namespace)
        if live is not None and owned_by(live, owner.metadata.uid):
            await self._context.kube.delete(api, name, namespace, uid=live["metadata"]["uid"])

    def forget(self, namespace: str, name: str) -> None:
        """All children of this name."""
        for place in [p for p in self._applied if p[1:] == (namespace, name)]:
            del self._applied[place]

    def _is_applied(self, place: tuple[Api, str, str], digest: str) -> bool:
        """Whether this was said last, and nobody has changed it since, as far as we see."""
        memo = self._applied.get(place)
        if memo is None or memo.hash != digest:
            return False
        api, namespace, name = place
        if api not in WATCHED:
            age = self._context.clock.monotonic() - memo.at
            return age < self._context.settings.resync_interval
        live = self._context.cache.get(api, name, namespace)
        return live is not None and _version(live) == memo.version

    def _remember(self, place: tuple[Api, str, str], digest: str, answer: Object) -> None:
        if place[0] in WATCHED:
            self._context.cache.put(place[0], answer)
        uid = answer["metadata"]["uid"]
        now = self._context.clock.monotonic()
        self._applied[place] = _Applied(digest, uid, _version(answer), now)

    @staticmethod
    def _place(api: Api, desired: Object) -> tuple[Api, str, str]:
        return api, desired["metadata"]["namespace"], desired["metadata"]["name"]


def _version(live: Mapping[str, Any]) -> str:
    """Another one when somebody changed the spec; a status does not count, where that is known."""
    about = live["metadata"]
    return f"{about.get('uid')}/{about.get('generation') or about.get('resourceVersion')}"


def _marked(desired: Object, digest: str) -> Object:
    about = desired["metadata"]
    annotations = {**(about.get("annotations") or {}), APPLIED: digest}
    return {**desired, "metadata": {**about, "annotations": annotations}}


def _digest(desired: Object) -> str:
    return hashlib.sha256(msgspec.json.encode(desired, order="sorted")).hexdigest()[:16]


def not_ours(api: Api, live: Mapping[str, Any], owner: Deployment) -> StalledError | WaitingError:
    """Why it cannot be applied: another one's, or that of a Deployment that is gone."""
    name = live["metadata"]["name"]
    if _predecessors(live["metadata"].get("ownerReferences") or (), owner):
        story = f"the {api.kind} {name} of an earlier Deployment of this name is being removed"
        return WaitingError(Because("Starting", story), again=SOON_S)
    article = "an" if api.kind[0] in "AEIOU" else "a"
    return stalled("NameTaken", name=f"{article} {api.kind} {name}", again=TAKEN_S)


def _predecessors(owners: Sequence[Mapping[str, Any]], owner: Deployment) -> bool:
    return any(
        one.get("apiVersion") == owner.api_version
        and one.get("kind") == owner.kind
        and one.get("name") == owner.metadata.name
        and one.get("uid") != owner.metadata.uid
        for one in owners
    )
