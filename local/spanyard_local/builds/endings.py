"""From how a step ended to why the build failed; pure."""

import re
import signal
from collections.abc import Sequence

from spanyard_core.resources.kinds import Build, Failure
from spanyard_core.resources.reasons import explain
from spanyard_local.shimmed import ExitStatus

_NOT_FOUND = re.compile(
    r"(?:^|[\s:])(?P<command>[^\s:]+): (?:command )?not found$"  # dash, bash
    r"|command not found: (?P<zsh>\S+)$"
    r"|^(?:env: |/usr/bin/env: )['‘]?(?P<env>[^'’:]+)['’]?: No such file or directory$"
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|ENOSPC", re.IGNORECASE)


def failure_of(build: Build, step: str, command: str, end: ExitStatus, *, pod: str) -> Failure:
    """Why a step that did not end well ended so. `command` is what the spec says."""
    lines = end.tail
    if end.reason == "OutOfMemory":
        limit = build.spec.resources.limits.get("memory", "")
        return explain(
            "OutOfMemory", step=step, pod=pod, container=step, last_lines=lines, limit=limit
        )
    if end.reason == "ShimLost":
        return explain(
            "InternalError", step=step, pod=pod, container=step, detail="; ".join(end.notes)
        )
    full = next((line for line in reversed(lines) if _NO_SPACE.search(line)), "")
    if full:
        return explain(
            "NoSpace", step=step, pod=pod, container=step, last_lines=lines,
            detail=full.strip()[:300], exit_code=end.exit_code,
        )  # fmt: skip
    if end.reason == "CommandNotFound":
        return explain(
            "CommandNotFound", step=step, pod=pod, container=step, last_lines=lines,
            command=_missing(lines) or command, exit_code=end.exit_code,
        )  # fmt: skip
    if end.signal is not None or end.reason == "Killed":
        number = end.signal or int(signal.SIGKILL)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if number == signal.SIGKILL:
            name += " (the machine was out of memory, or somebody sent it)"
        return explain(
            "StepKilled", step=step, pod=pod, container=step, last_lines=lines, signal=name,
            exit_code=end.exit_code,
        )  # fmt: skip
    return explain(
        "StepFailed", step=step, pod=pod, container=step, last_lines=lines, exit_code=end.exit_code
    )


def _missing(lines: Sequence[str]) -> str:
    """The command that a shell said it did not find."""
    for line in reversed(lines):
        if match := _NOT_FOUND.search(line.strip()):
            return match["command"] or match["zsh"] or match["env"]
    return ""
