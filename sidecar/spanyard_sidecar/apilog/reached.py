"""Which run the kubelet has reached, by what it gives as the newest log and as the one before.

The pod's status in the API comes later than the logs: on a busy node by seconds. But the kubelet
looks up both logs, the newest and the `previous`, in one status of its own. So what is previous a
moment after an answer began says whether that answer was still of the run that is meant. While a
container waits for its next run, both are the run that has ended last.
Source: `validateContainerLogStatus` in pkg/kubelet/kubelet_pods.go of Kubernetes 1.34.
"""

from spanyard_core.kube import Kube, KubeError
from spanyard_sidecar.apilog.pod_status import Run
from spanyard_sidecar.apilog.position import Position, line_time
from spanyard_sidecar.cri_time import time_ns

NONE = "previous terminated container"
"""The kubelet's words, with status 400, when there is no run before."""
ENOUGH = 4096
"""Bytes: the time of a line, or the kubelet's own words."""
PATIENCE = 10.0
"""Seconds for an answer of one line."""


async def last_line(kube: Kube, path: str, container: str, *, previous: bool) -> bytes | None:
    """The last line of the newest run or of the one before it, or the kubelet's own words; b"" if
    it said nothing, None if there is no such run. Raises KubeError, KubeUnavailableError."""
    query = {"container": container, "timestamps": "true"}
    query |= {"previous": "true"} if previous else {}
    query |= {"tailLines": "1", "limitBytes": str(ENOUGH)}
    try:
        async with kube.stream(path, query) as stream:
            return b"".join([piece async for piece in stream])[:ENOUGH]
    except KubeError as error:
        if error.status == 400 and NONE in str(error):
            return None
        raise


def has_ended(run: Run, before: bytes | None, *, position: Position, floor: str) -> bool | None:
    """Whether `run` is the one before, or an earlier one; None: it cannot be told.

    `before`: its last line. `position`: in the run's log. `floor`: time of the newest line of
    earlier runs that was read.
    """
    if before is None:
        # Of a later run, the one before may have been removed: a node short of disk does that.
        return None if run.restart else False
    if not run.restart:
        return True
    time = line_time(before)
    if not time:
        return True if run.id and run.id.encode() in before else None
    if position.first:
        return time >= position.first
    if time <= floor:
        return False
    if run.started_ns is None:
        return None
    return said_since(time, run.started_ns)


def said_since(time: str, started_ns: int) -> bool | None:
    """Whether a line was said after a start that is known to a second, and as that second's end;
    None: in that second."""
    at = time_ns(time)
    if at >= started_ns:
        return True
    return None if at >= started_ns - 1_000_000_000 else False
