"""From how a container or its pod ended to why the build failed; pure."""

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spanyard_core.resources.kinds import Build, Failure
from spanyard_core.resources.reasons import explain
from spanyard_core.step_answers import decoded

Object = Mapping[str, Any]

DEADLINE = "the time it was given"
_NOT_FOUND = re.compile(
    r"(?:^|[\s:])(?P<command>[^\s:]+): (?:command )?not found$"  # dash, bash, busybox
    r"|command not found: (?P<zsh>\S+)$"
    r"|^(?:env: |/usr/bin/env: )['‘]?(?P<env>[^'’:]+)['’]?: No such file or directory$"
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|ENOSPC", re.IGNORECASE)
_NO_PROGRAM = re.compile(r'exec: "(?P<program>[^"]+)"')
_OWN_LIMIT = re.compile(
    r"exceeds the total limit of containers|exceeded its local ephemeral storage limit"
    r"|[Uu]sage of EmptyDir volume"
)
"""The kubelet evicts for these too: no other node would help."""
_KILLS = frozenset({
    signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV,
    signal.SIGTERM,
})  # fmt: skip
"""Of an exit code above 128, these are signals; others may be a program's own codes."""
_NODE_REASONS = frozenset({
    "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity", "NodeNotReady",
    "UnexpectedAdmissionError", "DeletionByPodGC", "DeletionByTaintManager",
})  # fmt: skip
"""Of a pod or of its condition DisruptionTarget."""
_SENT_AWAY = frozenset({
    "Evicted", "Preempting", "Preempted", "PreemptionByScheduler", "PreemptionByKubeScheduler",
    "EvictionByEvictionAPI", "TerminationByKubelet",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class End:
    """A container that did not end well."""

    build: Build
    step: str
    container: str
    pod: str
    terminated: Object
    """Of its status."""
    limit: str
    """Of its memory."""
    lines: Sequence[str]


def failure_of(end: End) -> Failure:
    """Why the build failed."""
    said = end.terminated
    code = said.get("exitCode")
    where: Any = {
        "step": end.step,
        "pod": end.pod,
        "container": end.container,
        "exit_code": code,
        "last_lines": end.lines,
    }
    reason = said.get("reason", "")
    message = str(said.get("message") or "")
    if reason == "OOMKilled" or "OOM-killed" in message:
        return explain("OutOfMemory", limit=end.limit, **where)
    if reason in {"StartError", "ContainerCannotRun"}:
        return _not_started(message, where)
    if reason == "DeadlineExceeded":
        return explain("Timeout", limit=end.build.spec.timeout, **where)
    if end.step in {"fetch", "publish"}:
        return _of_ours(end, where)
    full = next((line for line in reversed(end.lines) if _NO_SPACE.search(line)), "")
    if full:
        return explain("NoSpace", detail=full.strip()[:300], **where)
    if code in {126, 127}:
        command = end.build.spec.install if end.step == "install" else end.build.spec.build
        missing = missing_command(end.lines) or command.strip().partition("\n")[0][:200]
        return explain("CommandNotFound", command=missing, **where)
    if (number := (code or 0) - 128) in _KILLS:
        name = signal.Signals(number).name
        if number == signal.SIGKILL:
            name += " (the node was out of memory, or somebody sent it)"
        return explain("StepKilled", signal=name, **where)
    return explain("StepFailed", **where)


def _of_ours(end: End, where: Any) -> Failure:
    """`fetch` and `publish` say themselves why."""
    answer = decoded(end.terminated.get("message"))
    if answer is not None and answer.reason:
        facts: Any = {**answer.facts, **where}
        try:
            return explain(answer.reason, **facts)
        except (KeyError, ValueError):  # the image is of another version
            return explain("InternalError", detail=f"{answer.reason}: {answer.facts}", **where)
    code = end.terminated.get("exitCode")
    if code in {128 + signal.SIGTERM, 128 + signal.SIGKILL}:
        return explain("StepKilled", signal=signal.Signals(code - 128).name, **where)
    said = str(end.terminated.get("message") or "").strip()
    detail = f"{end.step} ended with exit code {code}" + (f": {said[:300]}" if said else "")
    return explain("InternalError", detail=detail, **where)


def _not_started(message: str, where: Any) -> Failure:
    match = _NO_PROGRAM.search(message)
    if match is not None:
        return explain("CommandNotFound", command=match["program"], **where)
    return explain("PodRefused", detail=message[:500] or "it could not be started", **where)


def missing_command(lines: Sequence[str]) -> str:
    """The command that a shell said it did not find."""
    for line in reversed(lines):
        if match := _NOT_FOUND.search(line.strip()):
            return match["command"] or match["zsh"] or match["env"]
    return ""


# --- pods --------------------------------------------------------------------------------------


def taken_away(pod: Object, end: Object | None = None) -> Failure | None:
    """Why a pod was ended by others: the node's end or need, a drain, a deletion. Else None.

    `end` is how a step of it ended: what came later than that was not why.
    """
    finished = str((end or {}).get("finishedAt") or "")
    about = pod.get("status") or {}
    name = pod["metadata"]["name"]
    reason = str(about.get("reason") or "")
    message = str(about.get("message") or "").strip()
    if reason == "Evicted" and _OWN_LIMIT.search(message):
        return explain("NoSpace", pod=name, detail=message[:500])
    told = [(reason, message)]
    for one in about.get("conditions") or ():
        if one.get("type") != "DisruptionTarget" or one.get("status") != "True":
            continue
        if not _earlier(finished, one.get("lastTransitionTime")):
            told.append((str(one.get("reason") or ""), str(one.get("message") or "")))
    for why, text in told:
        if why == "DeadlineExceeded":  # ended because its time was up, or it was cancelled
            return explain("Timeout", pod=name, limit=DEADLINE)
        if why in _NODE_REASONS:
            return explain("NodeLost", pod=name, detail=(text or why)[:500])
        if why in _SENT_AWAY or why.startswith("OutOf"):
            return explain("Evicted", pod=name, detail=(text or why)[:500])
    asked = _deletion_asked(pod)
    # When the last container is gone, the kubelet deletes at once, and the time asked is lost.
    killed = (end or {}).get("exitCode") in {128 + signal.SIGTERM, 128 + signal.SIGKILL}
    if asked and (killed or not _earlier(finished, asked)):
        return explain("NodeLost", pod=name, detail="the pod was deleted")
    return None


def _deletion_asked(pod: Object) -> str:
    """When; the API tells when the grace period will be over."""
    metadata = pod["metadata"]
    until = metadata.get("deletionTimestamp")
    if not until:
        return ""
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return (datetime.fromisoformat(until) - grace).isoformat()


def _earlier(time: str | None, than: str | None) -> bool:
    """Both in whole seconds, so the same second is not earlier."""
    if not time or not than:
        return False
    return datetime.fromisoformat(time) < datetime.fromisoformat(than)


def own_doing(failure: Failure) -> bool:
    """Whether another attempt would end the same."""
    return failure.reason in {"NoSpace", "Timeout"}


def vanished(pod: Object, end: Object) -> Failure | None:
    """A container of which the kubelet knows nothing any more: the node was started anew."""
    if end.get("reason") != "ContainerStatusUnknown":
        return None
    return explain(
        "NodeLost", pod=pod["metadata"]["name"], detail=str(end.get("message") or "")[:500]
    )
