"""What a pod's status says of its containers' runs; pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


@dataclass(frozen=True, slots=True)
class Run:
    """The newest run of a container."""

    container: str
    restart: int
    """How often it was started before: the number in the kubelet's file name."""
    state: Literal["waiting", "running", "ended"]
    """`waiting`: for its first run, or, with `has_log`, for its next one."""
    id: str
    """The runtime's, of the run whose log the API gives without `previous`."""
    started_ns: int | None
    """To the second; None: not told."""
    has_log: bool
    """There is a run to ask for."""
    has_previous: bool
    previous_started_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PodStatus:
    """Of one pod, at one time."""

    uid: str
    runs: Mapping[str, Run]
    """By container."""
    deleting: bool
    """No container is started again."""

    @property
    def settled(self) -> bool:
        """All containers run or have ended for good, as far as one can tell."""
        return bool(self.runs) and all(run.state != "waiting" for run in self.runs.values())


def status_of(pod: Mapping[str, Any], exclude: Collection[str] = ()) -> PodStatus:
    """What the API server's Pod says."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    runs = {run.container: run for run in _runs(status) if run.container not in exclude}
    return PodStatus(
        uid=metadata.get("uid", ""),
        runs=runs,
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def _runs(status: Mapping[str, Any]) -> Iterator[Run]:
    for field in _STATUSES:
        for one in status.get(field) or ():
            state, last = one.get("state") or {}, one.get("lastState") or {}
            before = last.get("terminated")
            if running := state.get("running"):
                yield _run(one, "running", one.get("containerID", ""), running, before)
            elif ended := state.get("terminated"):
                # Without an id it never ran: an image that is missing, a node that is gone.
                yield _run(one, "ended", ended.get("containerID", ""), ended, before)
            else:
                # While it waits to be started again, the last run is the newest there is.
                of_last = before or {}
                yield _run(one, "waiting", of_last.get("containerID", ""), of_last, None)


def _run(
    one: Mapping[str, Any],
    state: Literal["waiting", "running", "ended"],
    container_id: str,
    about: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
) -> Run:
    return Run(
        container=one["name"],
        restart=int(one.get("restartCount", 0)),
        state=state,
        id=container_id,
        started_ns=_ns(about.get("startedAt")),
        has_log=bool(container_id),
        has_previous=bool((previous or {}).get("containerID")),
        previous_started_ns=_ns((previous or {}).get("startedAt")),
    )


def _ns(time: str | None) -> int | None:
    if not time:
        return None
    # The second is cut off: the end of it, so that a run never seems older than it is.
    at = datetime.fromisoformat(time)
    return (int(at.timestamp()) + 1) * 1_000_000_000
