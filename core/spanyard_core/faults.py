"""Named fault points: places where a test may kill the process, or make an error of it.

A point costs one dictionary look-up when nothing is armed. `SPANYARD_FAULT=name[:n]` kills the
process with SIGKILL at the n-th pass (default the first); `SPANYARD_FAULT_LOG=file` appends each
point's name at its first pass, so that tests can prove that every point was reached.
`--list-fault-points` of each component prints the names with what they mean.
"""

import os
import signal
from collections.abc import Callable

FAULT_POINTS: dict[str, str] = {
    "spool.written": "spool file written and synced, not yet renamed",
    "spool.renamed": "spool file renamed, its directory not yet synced",
    "spool.durable": "spool file durable, nothing uploaded",
    "upload.done": "object stored, its answer not yet seen",
    "upload.known": "answer seen, spool entry not yet marked as stored",
    "spool.marked": "spool entry marked as stored, hint not yet sent",
    "otlp.appended": "OTLP frame written, not yet synced",
    "otlp.durable": "OTLP frame synced, request not yet answered",
    "spanfile.stored": "last chunk of a span file stored, file not yet deleted",
    "collector.drained": "all read and spooled at the end, end records not yet uploaded",
    "ingest.before-plan": "batch chosen, plan not yet written",
    "ingest.planned": "plan written, nothing inserted",
    "ingest.inserting": "insert under way",
    "ingest.inserted": "insert answered, not yet read back",
    "ingest.derived": "derived tables filled, not yet committed",
    "ingest.committed": "commit written, objects not yet moved",
    "ingest.copied": "object copied to processed/, not yet deleted",
    "ingest.moved": "objects moved",
    "ingest.scanned": "bad lines found, batch not yet closed",
    "ingest.closed": "batch closed and children planned, nothing of them inserted",
    "ingest.quarantined": "quarantine rows written, children not yet inserted",
    "replay.written": "replayed line stored as an object, quarantine row not yet updated",
}
"""Every point with its meaning. A point that is not listed here cannot be passed."""

_passes: dict[str, int] = {}
_armed: tuple[str, int] | None = None
_log_path: str | None = os.environ.get("SPANYARD_FAULT_LOG")
_hook: Callable[[str], None] | None = None


def _arm_from_environment() -> None:
    global _armed  # noqa: PLW0603 - process-wide by nature: it kills the process
    text = os.environ.get("SPANYARD_FAULT", "")
    if text:
        name, _, count = text.partition(":")
        if name not in FAULT_POINTS:
            raise SystemExit(f"SPANYARD_FAULT: no fault point {name!r}; see --list-fault-points")
        _armed = (name, int(count or "1"))


_arm_from_environment()


def set_hook(hook: Callable[[str], None] | None) -> None:
    """Let the simulator see every pass (and raise from it); None takes it away."""
    global _hook  # noqa: PLW0603 - one simulator per process
    _hook = hook


def fault_point(name: str) -> None:
    """Pass the point `name`: dies here when armed, else returns at once."""
    if _hook is not None:
        _hook(name)
    if _armed is None and _log_path is None:
        return
    if name not in FAULT_POINTS:
        raise KeyError(f"fault point {name!r} is not listed in FAULT_POINTS")
    passes = _passes[name] = _passes.get(name, 0) + 1
    if _log_path is not None and passes == 1:
        descriptor = os.open(_log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{name}\n".encode())
        finally:
            os.close(descriptor)
    if _armed == (name, passes):
        os.kill(os.getpid(), signal.SIGKILL)


def list_fault_points() -> str:
    """The table that `--list-fault-points` prints."""
    width = max(map(len, FAULT_POINTS))
    return "\n".join(f"{name:<{width}}  {meaning}" for name, meaning in FAULT_POINTS.items())
