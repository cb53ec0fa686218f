"""Why a pod of a server is not ready, told as a reason of the table; pure.

From the pod's status alone. What flips between two looks (a container that waits, runs, ends) gives
the same answer, as far as it is the same trouble: a status is not written for it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spanyard_core.resources.deployments import named_program
from spanyard_core.resources.durations import text
from spanyard_core.resources.kinds import Failure
from spanyard_core.resources.reasons import explain
from spanyard_core.step_answers import decoded
from spanyard_operator.deployments.pod import CONTAINER
from spanyard_operator.pod.fetch import FETCH
from spanyard_operator.pod.parts import Object

_PULL = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
    "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
}  # fmt: skip
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?(ErrImagePull: )?')
_NO_KEY = re.compile(
    r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) (?:\S+/)?(?P<name>\S+)"
)
_NO_OBJECT = re.compile(r'(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found')
_NO_PROGRAM = re.compile(
    r"executable file not found|no such file or directory|permission denied|exec format error"
)
_AS_ROOT = re.compile(r"runAsNonRoot|non-root policy")
_NO_SPACE = re.compile(r"ENOSPC|No space left on device")
_LOST = {"NodeLost", "NodeShutdown", "Terminated", "Shutdown", "NodeAffinity", "Preempting"}
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_KILLED, _TERMINATED = 137, 143


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the spec says that a failure has to name."""

    command: str
    image: str
    memory: str
    build: str
    port: int
    path: str
    startup: float
    """Seconds, as the next two."""
    liveness: float
    """How long a server that was ready may be without a good answer."""
    grace: float


def container(pod: Mapping[str, Any], name: str) -> Object:
    """The status of one container, init containers included; empty when there is none yet."""
    for one in _statuses(pod):
        if one.get("name") == name:
            return one
    return {}


def restarts(pod: Mapping[str, Any]) -> int:
    """Of the server's container."""
    return int(container(pod, CONTAINER).get("restartCount") or 0)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether it gets requests."""
    return _condition(pod, "Ready").get("status") == "True"


def failure(pod: Mapping[str, Any], told: Told) -> Failure | None:
    """Why it is not ready; None while it only starts."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    if found := _of_the_pod(name, status):
        return found
    for one in _statuses(pod):
        if found := _of_a_container(name, one, told):
            return found
    return None


def trouble(pod: Mapping[str, Any], told: Told) -> str:
    """What is seen of a server that runs and is not ready; empty when there is nothing to say."""
    name = pod["metadata"]["name"]
    if is_ready(pod) or "running" not in (container(pod, CONTAINER).get("state") or {}):
        return ""
    if told.path:
        return f"{name} runs and does not answer GET {told.path} on port {told.port} well"
    return f"{name} runs and does not listen on port {told.port}"


def _of_the_pod(name: str, status: Mapping[str, Any]) -> Failure | None:
    reason, message = status.get("reason", ""), status.get("message", "")
    if reason == "Evicted":
        return explain("Evicted", pod=name, detail=message)
    if reason in _LOST:
        return explain("NodeLost", pod=name, detail=message or reason)
    scheduled = _condition({"status": status}, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return explain("Unschedulable", pod="its pod", detail=scheduled.get("message", ""))
    return None


def _of_a_container(pod: str, status: Mapping[str, Any], told: Told) -> Failure | None:
    name = status.get("name", "")
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL:
        detail = _BACK_OFF.sub("", message) or reason
        image = status.get("image") or told.image
        return explain("ImagePullFailed", pod=pod, container=name, where=image, detail=detail)
    if reason == "CreateContainerConfigError":
        return _config(pod, name, message)
    if reason in {"CreateContainerError", "RunContainerError"}:
        return _not_created(pod, name, message, told)
    ended = _ended(status)
    if ended is None:
        return None
    if name == FETCH:
        return _fetch(pod, ended, told)
    if name != CONTAINER:
        return explain(
            "CrashLoop", pod=pod, container=name, exit_code=ended.get("exitCode"),
            last_lines=_lines(ended),
        )  # fmt: skip
    return _server(pod, status, ended, told)


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The end that nobody asked for: now, or of the run before this one that has not started yet."""
    if status.get("ready"):
        return None
    if "running" in (status.get("state") or {}) and status.get("started"):
        return None  # this run is another one's successor by far: its own trouble counts
    state, last = status.get("state") or {}, status.get("lastState") or {}
    ended: Mapping[str, Any] | None = state.get("terminated") or last.get("terminated")
    if ended is None or status.get("name") == CONTAINER:
        return ended
    return ended if ended.get("exitCode") else None  # an init container that ended well is done


def _config(pod: str, name: str, message: str) -> Failure:
    if match := _NO_KEY.search(message):
        what = f"{match['key']} in the {match['kind']} {match['name']}"
        return explain("SecretMissing", pod=pod, container=name, where="spec.env", name=what)
    if match := _NO_OBJECT.search(message):
        kind = "Secret" if match["kind"] == "secret" else "ConfigMap"
        what = f"in the {kind} {match['name']}, which is not there"
        return explain("SecretMissing", pod=pod, container=name, where="spec.env", name=what)
    where = "spec.podSecurityContext" if _AS_ROOT.search(message) else "spec"
    return explain("InvalidSpec", pod=pod, container=name, where=where, detail=message)


def _not_created(pod: str, name: str, message: str, told: Told) -> Failure:
    if _NO_PROGRAM.search(message):
        return explain(
            "CommandNotFound", pod=pod, container=name, command=_program(told), last_lines=[message]
        )
    return explain("CrashLoop", pod=pod, container=name, last_lines=[message])


def _fetch(pod: str, ended: Mapping[str, Any], told: Told) -> Failure:
    message = ended.get("message")
    answer = decoded(message)
    if answer is not None and answer.reason:
        detail = answer.facts.get("detail") or answer.reason
    else:
        detail = str(message or "").strip() or "fetch failed"
    return explain(
        "ArtifactInvalid", pod=pod, container=FETCH, name=told.build,
        exit_code=ended.get("exitCode"), detail=detail,
    )  # fmt: skip


def _server(
    pod: str, status: Mapping[str, Any], ended: Mapping[str, Any], told: Told
) -> Failure | None:
    code, lines = ended.get("exitCode"), _lines(ended)
    said = "\n".join(lines)
    if ended.get("reason") == "OOMKilled":
        return explain(
            "OutOfMemory", pod=pod, container=CONTAINER, exit_code=code, last_lines=lines,
            limit=told.memory or "what its node has",
        )  # fmt: skip
    if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return _not_created(pod, CONTAINER, str(ended.get("message") or ""), told)
    if code in {_NOT_FOUND, _NOT_EXECUTABLE} and _ran(ended) < 2:
        return explain(
            "CommandNotFound", pod=pod, container=CONTAINER, exit_code=code, last_lines=lines,
            command=_program(told),
        )  # fmt: skip
    if _NO_SPACE.search(said):
        line = next(line.strip() for line in lines if _NO_SPACE.search(line))
        return explain(
            "NoSpace", pod=pod, container=CONTAINER, exit_code=code, last_lines=lines, detail=line
        )
    if not status.get("started") and _was_too_slow(ended, told):
        how = f"GET {told.path} on port {told.port}" if told.path else f"port {told.port}"
        limit, story = told.startup, f"{how} did not answer well, and it was ended"
        if _ran(ended) > told.startup + max(told.liveness, told.grace):
            limit, story = told.liveness, f"it was ready before, then {story}"
        return explain(
            "NeverReady", pod=pod, container=CONTAINER, exit_code=code, last_lines=lines,
            limit=text(limit), detail=story,
        )  # fmt: skip
    return explain("CrashLoop", pod=pod, container=CONTAINER, exit_code=code, last_lines=lines)


def _was_too_slow(ended: Mapping[str, Any], told: Told) -> bool:
    """The kubelet ended it after the last startup probe: by its age and the way it went.

    A server that ends on SIGTERM as it should ends with 0.
    """
    return ended.get("exitCode") in {0, _KILLED, _TERMINATED} and _ran(ended) >= told.startup - 1


def _ran(ended: Mapping[str, Any]) -> float:
    """Seconds; 0 when the kubelet does not say."""
    try:
        begun, finished = (
            datetime.fromisoformat(str(ended[key])) for key in ("startedAt", "finishedAt")
        )
    except (KeyError, ValueError):
        return 0.0
    return (finished - begun).total_seconds()


def _program(told: Told) -> str:
    return named_program(told.command) if told.command.strip() else repr(told.image)


def _lines(ended: Mapping[str, Any]) -> list[str]:
    return str(ended.get("message") or "").rstrip("\n").splitlines()


def _statuses(pod: Mapping[str, Any]) -> Iterator[Object]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _condition(pod: Mapping[str, Any], type_: str) -> Object:
    found = ((pod.get("status") or {}).get("conditions")) or []
    return next((one for one in found if one.get("type") == type_), {})
