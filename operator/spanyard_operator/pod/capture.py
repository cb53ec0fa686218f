"""How a pod's output is captured, and what that promises: chosen by what the namespace allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Capture = Literal["hostPath", "api"]
Wanted = Literal["auto", "hostPath", "api"]

ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"
FORBID_HOST_PATH = frozenset({"baseline", "restricted"})
"""Levels of Pod Security that refuse a pod with a hostPath volume; `privileged` and none allow it."""

GUARANTEES: Mapping[Capture, str] = {
    "hostPath": (
        "Read from the kubelet's files: every line is stored once as long as the node keeps its "
        "file, also over kills and restarts of the collector; what was rotated away unread is told."
    ),
    "api": (
        "Read through the API server: every line is stored once while the collector runs, but for "
        "what is written in the milliseconds in which the kubelet rotates the file, which may pass "
        "untold; a file that it rotates while the collector or the API server is away is a told gap "
        "of unknown size. Whether a line came from stdout or stderr is not known."
    ),
}


@dataclass(frozen=True, slots=True)
class CaptureChoice:
    """What `.status.collector` says, and why."""

    mode: Capture
    guarantee: str
    why: str


def choose_capture(
    namespace: Mapping[str, Any] | None, wanted: str = "auto", default: str = "auto"
) -> CaptureChoice:
    """The way for pods of `namespace` (the Namespace object).

    `wanted` is the resource's `spec.collector.capture`, `default` the operator's setting; whichever
    is not `auto` decides, the resource first. A mode that the namespace refuses is taken all the
    same when it was asked for: the refusal of the pod then says what is wrong.
    """
    for asked, who in ((wanted, "spec.collector.capture"), (default, "the operator's setting")):
        if asked == "hostPath":
            return CaptureChoice("hostPath", GUARANTEES["hostPath"], f"{who} says so")
        if asked == "api":
            return CaptureChoice("api", GUARANTEES["api"], f"{who} says so")
    labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    level = labels.get(ENFORCE_LABEL, "")
    if level in FORBID_HOST_PATH:
        why = f"the namespace enforces Pod Security {level}, which forbids hostPath"
        return CaptureChoice("api", GUARANTEES["api"], why)
    return CaptureChoice("hostPath", GUARANTEES["hostPath"], "the namespace allows hostPath")
