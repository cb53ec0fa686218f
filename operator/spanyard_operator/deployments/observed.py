"""What is seen of a rollout that the apps controller does: its Deployment, ReplicaSets and pods; pure.

Told as the groups that `spanyard_core.resources.rollout` speaks of. A ReplicaSet carries the number
and hash of its revision in labels, so all of this can be found again after a restart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_core.resources.kinds import Failure, Revision
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.rollout import Group
from spanyard_operator.deployments import troubles
from spanyard_operator.deployments.troubles import Told
from spanyard_operator.names import REVISION, REVISION_HASH

_ORDER = "deployment.kubernetes.io/revision"
_TEMPLATE = "pod-template-hash"
_FORBIDDEN = 'pods "'


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A look at it."""

    serving: Group | None = None
    candidate: Group | None = None
    complete: bool = False
    """The newest revision serves alone, with all its replicas. Told by ReplicaSets, not by the
    Deployment's status, which may come later: between the two nobody would seem to serve."""
    late: bool = False
    """The apps controller gave up waiting for the newest revision."""
    replicas: int = 0
    ready: int = 0
    """Of all revisions together."""
    number: int = 0
    """Of the newest revision; 0 when there is no child yet."""
    hash: str = ""
    known: tuple[Revision, ...] = ()
    """Revisions that ReplicaSets tell of, whatever a status says."""


def look(
    apps: Mapping[str, Any] | None,
    sets: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    *,
    wanted: int,
    revisions: Sequence[Revision],
    told: Told,
) -> Seen:
    """`sets` and `pods` are all of this Deployment; `wanted` replicas are asked for."""
    if apps is None:
        return Seen()
    number, hash_ = revision_of(_labels(apps))
    uid = apps["metadata"].get("uid")
    ours = sorted((s for s in sets if _owner(s) == uid), key=_age)
    newest = next((s for s in reversed(ours) if revision_of(_labels(s)) == (number, hash_)), None)
    others = [s for s in ours if s is not newest and (_replicas(s) or _asked(s))]
    status = apps.get("status") or {}
    current = (status.get("observedGeneration") or 0) >= (apps["metadata"].get("generation") or 0)
    complete = newest is not None and not others and _asked(newest) == wanted <= _ready(newest)
    of = _Pods(pods, told)
    state = {r.number: r.state for r in revisions}
    group = of.group(newest, number, hash_, wanted, apps)
    candidate: Group | None = None
    serving: Group | None = None
    if complete or (not others and state.get(number) == "Serving"):
        serving = group if wanted or group.running else None
    else:
        candidate = group if wanted else None
        old = _what_serves(others, state)
        if old is not None:
            serving = of.group(old, *revision_of(_labels(old)), _asked(old), None)
    return Seen(
        serving=serving,
        candidate=candidate,
        complete=complete and bool(wanted),
        late=current and candidate is not None and _is_late(status),
        # Not the Deployment's own counts: they come a moment after those of its ReplicaSets.
        replicas=sum(map(_replicas, ours)),
        ready=sum(map(_ready, ours)),
        number=number,
        hash=hash_,
        known=tuple(_known(ours)),
    )


def _is_late(status: Mapping[str, Any]) -> bool:
    progressing = _condition(status, "Progressing")
    return (
        progressing.get("status") == "False"
        and progressing.get("reason") == "ProgressDeadlineExceeded"
    )


def _what_serves(
    others: Sequence[Mapping[str, Any]], state: Mapping[int, str]
) -> Mapping[str, Any] | None:
    """Of the older ReplicaSets: the one that served, else one that has ready pods."""
    served = [s for s in others if state.get(revision_of(_labels(s))[0]) == "Serving"]
    if served:
        return max(served, key=lambda s: (_ready(s), _age(s)))
    answering = [s for s in others if _ready(s)]
    return max(answering, key=_age, default=None)


@dataclass(frozen=True)
class _Pods:
    pods: Iterable[Mapping[str, Any]]
    told: Told

    def of(self, replica_set: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        uid = replica_set["metadata"].get("uid")
        mine = (p for p in self.pods if _owner(p) == uid and not _is_leaving(p))
        return sorted(mine, key=lambda p: p["metadata"]["name"])

    def group(
        self,
        replica_set: Mapping[str, Any] | None,
        number: int,
        hash_: str,
        wanted: int,
        apps: Mapping[str, Any] | None,
    ) -> Group:
        """`apps` is the Deployment when this is its newest revision."""
        pods = self.of(replica_set) if replica_set is not None else []
        unready = [p for p in pods if not troubles.is_ready(p)]
        found = (troubles.failure(p, self.told) for p in unready)
        failure = next((f for f in found if f is not None), None)
        running = _replicas(replica_set) if replica_set is not None else 0
        if failure is None:
            failure = _refused(replica_set, apps)
        said = (troubles.trouble(p, self.told) for p in unready)
        return Group(
            number=number,
            hash=hash_,
            since=0.0,
            wanted=wanted,
            running=running,
            ready=_ready(replica_set) if replica_set is not None else 0,
            restarts=sum(troubles.restarts(p) for p in pods),
            failure=failure,
            trouble=next((t for t in said if t), ""),
        )


def _refused(
    replica_set: Mapping[str, Any] | None, apps: Mapping[str, Any] | None
) -> Failure | None:
    """Pods that were never made: Pod Security, a quota, an admission webhook."""
    for one in (replica_set, apps):
        condition = _condition((one or {}).get("status") or {}, "ReplicaFailure")
        if condition.get("status") == "True":
            detail = str(condition.get("message") or condition.get("reason") or "")
            if detail.startswith(_FORBIDDEN):  # with a name that is another one at each try
                detail = detail.partition('" ')[2] or detail
            return explain("PodRefused", pod="its pods", detail=detail)
    return None


def _known(sets: Iterable[Mapping[str, Any]]) -> Iterable[Revision]:
    for one in sets:
        number, hash_ = revision_of(_labels(one))
        if number:
            started = str(one["metadata"].get("creationTimestamp") or "")
            state = "Serving" if _ready(one) else "Replaced"
            yield Revision(
                number=number,
                hash=hash_,
                state="Serving" if state == "Serving" else "Replaced",
                started_at=started,
                templates=[h for h in (_labels(one).get(_TEMPLATE),) if h],
            )


def revision_of(labels: Mapping[str, str]) -> tuple[int, str]:
    """Number and hash in the labels of a pod template; (0, "") where there are none."""
    number = labels.get(REVISION, "")
    return int(number) if number.isdecimal() else 0, labels.get(REVISION_HASH, "")


def _labels(one: Mapping[str, Any]) -> Mapping[str, str]:
    return one["metadata"].get("labels") or {}


def _owner(one: Mapping[str, Any]) -> str:
    owners = one["metadata"].get("ownerReferences") or []
    return next((str(o.get("uid")) for o in owners if o.get("controller")), "")


def _age(replica_set: Mapping[str, Any]) -> tuple[int, str]:
    metadata = replica_set["metadata"]
    order = (metadata.get("annotations") or {}).get(_ORDER, "")
    return int(order) if order.isdecimal() else 0, str(metadata.get("creationTimestamp") or "")


def _asked(replica_set: Mapping[str, Any]) -> int:
    return int((replica_set.get("spec") or {}).get("replicas") or 0)


def _replicas(replica_set: Mapping[str, Any]) -> int:
    return int((replica_set.get("status") or {}).get("replicas") or 0)


def _ready(replica_set: Mapping[str, Any]) -> int:
    return int((replica_set.get("status") or {}).get("readyReplicas") or 0)


def _is_leaving(pod: Mapping[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    return next((c for c in status.get("conditions") or [] if c.get("type") == type_), {})
