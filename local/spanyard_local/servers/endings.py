"""Why a server ended: its exit and its last words, told as a reason of the table; pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spanyard_core.quantities import parse_size
from spanyard_core.resources.deployments import named_program
from spanyard_core.resources.kinds import Failure, Resources
from spanyard_core.resources.reasons import explain
from spanyard_local.shimmed import ExitStatus

CONTAINER = "server"
_PORT_TAKEN = re.compile(
    r"EADDRINUSE|[Aa]ddress already in use|port \d+ is already in use", re.IGNORECASE
)
_NO_SPACE = re.compile(r"ENOSPC|No space left on device")
_SIGNAL_BASE = 128
"""A shell's exit code for a signal's end begins here."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What an end means."""

    failure: Failure
    hopeless: bool = False
    """The same command ends the same way again."""
    port_taken: bool = False


def ending(
    exit_: ExitStatus,
    *,
    pod: str,
    command: str,
    port: int,
    memory: str,
    was_ready: bool,
) -> Ending:
    """Classify an end that nobody asked for."""
    code = exit_code(exit_)
    if exit_.reason == "OutOfMemory":
        return Ending(
            explain(
                "OutOfMemory",
                exit_code=code,
                pod=pod,
                container=CONTAINER,
                last_lines=exit_.tail,
                limit=memory,
            )
        )
    if exit_.reason == "CommandNotFound" and not was_ready:
        # A server that was ready ended with 127 for a reason of its own.
        return Ending(not_found(command, pod=pod, exit_code=code, tail=exit_.tail), hopeless=True)
    said = "\n".join(exit_.tail)
    if _PORT_TAKEN.search(said) and not was_ready:
        failure = explain(
            "PortTaken",
            exit_code=code,
            pod=pod,
            container=CONTAINER,
            last_lines=exit_.tail,
            where=f"port {port}",
        )
        return Ending(failure, port_taken=True)
    if _NO_SPACE.search(said):
        return Ending(
            explain(
                "NoSpace",
                exit_code=code,
                pod=pod,
                container=CONTAINER,
                last_lines=exit_.tail,
                detail=_line_with(_NO_SPACE, exit_.tail),
            )
        )
    return Ending(
        explain("CrashLoop", exit_code=code, pod=pod, container=CONTAINER, last_lines=exit_.tail)
    )


def not_found(
    command: str, *, pod: str, exit_code: int | None = None, tail: Sequence[str] = ()
) -> Failure:
    """The command of `spec.command` is not there."""
    return explain(
        "CommandNotFound",
        exit_code=exit_code,
        pod=pod,
        container=CONTAINER,
        last_lines=tail,
        command=named_program(command),
    )


def exit_code(exit_: ExitStatus) -> int | None:
    """As a shell counts: 128 and the signal's number for an end by a signal."""
    if exit_.signal is not None:
        return _SIGNAL_BASE + exit_.signal
    return exit_.exit_code


def never_ready(
    *, pod: str, limit: str, trouble: str, port: int, listens: Sequence[int]
) -> Failure:
    """A server that runs and is not ready; `listens` are the ports it listens on.

    Its last lines are known when it has ended.
    """
    detail = trouble
    others = [str(other) for other in listens if other != port]
    if others:
        detail += f"; PORT is {port}, but it listens on {', '.join(others)}"
    return explain("NeverReady", pod=pod, container=CONTAINER, limit=limit, detail=detail)


def memory_limit(resources: Resources) -> int | None:
    """Bytes of `resources.limits.memory`; None when there is none.

    Raises ValueError for one that is not a size.
    """
    text = resources.limits.get("memory", "")
    return parse_size(text) if text else None


def _line_with(pattern: re.Pattern[str], lines: Sequence[str]) -> str:
    return next((line.strip() for line in lines if pattern.search(line)), "")
