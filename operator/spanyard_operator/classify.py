"""From a build's pod, as the API server has it, to where the build is and why it failed; pure.

Every container runs once, one after the other, so the first that did not end well is the reason. Times
are the kubelet's, RFC 3339 in whole seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import (
    ArtifactStatus,
    Build,
    Failure,
    StepStatus,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.source_status import SourceStatus
from spanyard_core.step_answers import StepAnswer, decoded, fetched
from spanyard_operator import endings, waits
from spanyard_operator.pod.build_pod import CONTAINERS
from spanyard_operator.pod.collector import CONTAINER as COLLECTOR

Outcome = Literal["waiting", "running", "succeeded", "failed", "lost"]
Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Where an attempt is."""

    outcome: Outcome
    """`waiting`: something keeps a container from starting, and `failure` tells it. `lost`: ended by
    no doing of its own, another attempt may do better; `failure` tells why."""
    step: str = ""
    """The one that runs, waits or failed."""
    steps: Sequence[StepStatus] = ()
    """Of those that started."""
    failure: Failure | None = None
    source: SourceStatus = field(default_factory=SourceStatus)
    artifact: ArtifactStatus = field(default_factory=ArtifactStatus)
    ended: bool = False
    """No container runs any more, the collector neither: the log gets nothing more."""
    unsent: str = ""
    """What the collector said it could not send. Without it and `ended`, the log is whole."""
    look_again: float | None = None
    """Seconds until what it waits for has lasted too long, and it fails."""


def classify(
    build: Build,
    pod: Object | None,
    events: Sequence[Object] = (),
    *,
    now: str,
    lines: Sequence[str] = (),
) -> Verdict:
    """The verdict on one attempt.

    `pod` is None when it is gone. `events` are the pod's. `lines` are the last of the step that failed
    (`spanyard_core.build_log.read_tail`): ask without them first, then once more with them.
    """
    if pod is None:
        failure = explain("NodeLost", detail="the pod is gone, and nobody saw how it ended")
        return Verdict(outcome="lost", failure=failure, ended=True)
    name = pod["metadata"]["name"]
    statuses = dict(_statuses(pod))
    ran: list[StepStatus] = []
    seen: dict[str, Any] = {"ended": _ended(pod, statuses), "unsent": _unsent(statuses)}
    for step in life.steps_of(build):
        container = CONTAINERS[step]
        status = statuses.get(container, {})
        state = status.get("state") or {}
        end = state.get("terminated")
        if end is None:
            return _at(step, container, pod, events, state, statuses, tuple(ran), seen, now)
        ran.append(_ran(step, end))
        answer = decoded(end.get("message")) or StepAnswer()
        if end.get("exitCode") == 0:
            if step == "fetch":
                seen["source"] = fetched(answer)
            elif step == "publish":
                seen["artifact"] = ArtifactStatus(
                    key=answer.key, digest=answer.digest, size=answer.size
                )
            continue
        lost = endings.taken_away(pod, end) or endings.vanished(pod, end)
        if lost is not None:
            lost = msgspec.structs.replace(lost, step=step, container=container)
            mine = endings.own_doing(lost)
            return Verdict(
                outcome="failed" if mine else "lost", step=step, steps=ran, failure=lost, **seen
            )
        failure = endings.failure_of(
            endings.End(
                build=build,
                step=step,
                container=container,
                pod=name,
                terminated=end,
                limit=_memory_limit(pod, container),
                lines=lines,
            )
        )
        return Verdict(outcome="failed", step=step, steps=ran, failure=failure, **seen)
    if not seen["artifact"].key:
        detail = "publish ended well and did not say what it stored"
        failure = explain("InternalError", step="publish", pod=name, detail=detail)
        return Verdict(outcome="failed", step="publish", steps=ran, failure=failure, **seen)
    return Verdict(outcome="succeeded", steps=ran, **seen)


def _at(
    step: life.Step,
    container: str,
    pod: Object,
    events: Sequence[Object],
    state: Object,
    statuses: Mapping[str, Object],
    ran: Sequence[StepStatus],
    seen: dict[str, Any],
    now: str,
) -> Verdict:
    """All before `step` ended well; it has not."""
    lost = endings.taken_away(pod)
    if lost is not None and (seen["ended"] or _phase(pod) in {"Failed", "Succeeded"}):
        lost = msgspec.structs.replace(lost, step=step)
        mine = endings.own_doing(lost)
        return Verdict(
            outcome="failed" if mine else "lost", step=step, steps=ran, failure=lost, **seen
        )
    if _phase(pod) in {"Failed", "Succeeded"}:
        about = pod.get("status") or {}
        detail = about.get("message") or about.get("reason") or "the pod ended before its steps"
        failure = explain("NodeLost", step=step, pod=pod["metadata"]["name"], detail=detail)
        return Verdict(outcome="lost", step=step, steps=ran, failure=failure, **seen)
    running = state.get("running")
    if running is not None:
        now_runs = StepStatus(name=step, started_at=running.get("startedAt") or now)
        return Verdict(outcome="running", step=step, steps=[*ran, now_runs], **seen)
    told = waits.waits_for(pod, step, container, statuses, events)
    if told is None:
        return Verdict(outcome="running", step=step, steps=ran, **seen)
    left = told.patience - _seconds_between(_since(pod, ran), now)
    if left <= 0:
        return Verdict(outcome="failed", step=step, steps=ran, failure=told.failure, **seen)
    again = left if told.patience != waits.FOR_EVER else None
    return Verdict(
        outcome="waiting", step=step, steps=ran, failure=told.failure, look_again=again, **seen
    )


def _statuses(pod: Object) -> Iterator[tuple[str, Object]]:
    about = pod.get("status") or {}
    for part in ("initContainerStatuses", "containerStatuses"):
        for status in about.get(part) or ():
            yield status["name"], status


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _ended(pod: Object, statuses: Mapping[str, Object]) -> bool:
    """Whether nothing of the pod runs any more. The phase alone says it too early: a native sidecar
    may still drain."""
    if _phase(pod) not in {"Succeeded", "Failed"}:
        return False
    return not any((status.get("state") or {}).get("running") for status in statuses.values())


def _unsent(statuses: Mapping[str, Object]) -> str:
    end = (statuses.get(COLLECTOR, {}).get("state") or {}).get("terminated") or {}
    if end.get("exitCode", 0) == 0:
        return ""
    told = str(end.get("message") or "").strip()
    return told or f"the collector ended with exit code {end.get('exitCode')}"


def _ran(step: str, end: Object) -> StepStatus:
    finished = end.get("finishedAt") or ""
    started = end.get("startedAt") or ""
    if started.startswith("1970-"):  # it could not be started
        started = finished
    return StepStatus(
        name=step, started_at=started, finished_at=finished, exit_code=end.get("exitCode")
    )


def _since(pod: Object, ran: Sequence[StepStatus]) -> str:
    """Since when the next container could have started."""
    if ran:
        return ran[-1].finished_at
    return str(
        (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp") or ""
    )


def _seconds_between(start: str, end: str) -> float:
    try:
        passed = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    except ValueError:
        return 0.0
    return passed.total_seconds()


def _memory_limit(pod: Object, container: str) -> str:
    spec = pod.get("spec") or {}
    for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if one["name"] == container:
            return str(((one.get("resources") or {}).get("limits") or {}).get("memory", ""))
    return ""
