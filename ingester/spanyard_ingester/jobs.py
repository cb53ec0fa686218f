"""Jobs: a rebuild that runs beside the loading, and what users may ask for in words."""

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from spanyard_core.errors import BadRecordError, SpanyardError
from spanyard_core.object_names import check_project
from spanyard_core.records import SIGNALS
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.prune import PruneScope
from spanyard_ingester.rebuild import Progress, Rebuild, Selection
from spanyard_ingester.stored_rows import Scope

log = logging.getLogger("spanyard.ingester")

_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ]?(\d\d):?(\d\d)(?::?(\d\d))?Z?)?", re.ASCII)


class Jobs:
    """At most one rebuild at a time, on an ingester that runs."""

    def __init__(self, ingester: Ingester, rebuild: Rebuild) -> None:
        self._ingester = ingester
        self._rebuild = rebuild
        self._task: asyncio.Task[None] | None = None
        self.progress: Progress | None = None
        """Of the rebuild that runs or ran last."""

    def begin(self, selection: Selection, *, dry_run: bool) -> bool:
        """Start a rebuild; False when one is under way."""
        if self._task is not None and not self._task.done():
            return False
        self.progress = Progress()
        self._task = asyncio.get_running_loop().create_task(
            self._run(selection, self.progress, dry_run=dry_run), name="rebuild"
        )
        return True

    async def _run(self, selection: Selection, progress: Progress, *, dry_run: bool) -> None:
        try:
            await self._rebuild.run(
                selection,
                load=self._ingester.until_reloaded,
                dry_run=dry_run,
                progress=progress,
            )
        except SpanyardError as error:
            progress.error = str(error)
            log.error("the rebuild stopped; start it again: %s", error)
        except Exception as error:
            progress.error = f"{type(error).__name__}: {error}"
            log.exception("the rebuild failed")

    async def stop(self, *_: object) -> None:
        """Stop a rebuild; what it has begun is finished at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def selection_of(project: str, signal: str, start: str, end: str) -> Selection:
    """What to load again, from a user's words. Raises BadRecordError."""
    if project:
        check_project(project)
    if signal and signal not in SIGNALS:
        raise BadRecordError(f"signal is {signal[:40]!r}; known are {', '.join(SIGNALS)}")
    return Selection(
        project=project,
        signals=(signal,) if signal else SIGNALS,
        start=_compact("from", start),
        end=_compact("to", end),
    )


def prune_scope(project: str, before: str, signals: Sequence[str]) -> PruneScope:
    """What to prune, from a request's words. Raises BadRecordError."""
    check_project(project)
    for signal in signals:
        if signal not in SIGNALS or signal == "gaps":
            known = ", ".join(s for s in SIGNALS if s != "gaps")
            raise BadRecordError(f"signal is {signal[:40]!r}; known are {known}")
    if not before.isascii() or not before.isdigit() or len(before) > 19:
        raise BadRecordError(f"before is {before[:40]!r}; nanoseconds since the epoch belong there")
    scope = PruneScope(project, int(before))
    return replace(scope, signals=tuple(signals)) if signals else scope  # type: ignore[arg-type]  # checked above


def _compact(what: str, text: str) -> str:
    """`2026-11-21` or `2026-11-21T14:45:00Z` as object names have it; a day is its midnight."""
    if not text:
        return ""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise BadRecordError(
            f"{what} is {text[:60]!r}; write a day or a time in UTC, like 2026-11-21 or "
            "2026-11-21T14:45:00Z"
        )
    year, month, day, hour, minute, second = match.groups(default="00")
    return f"{year}{month}{day}T{hour}{minute}{second}Z"


def scope_of_request(project: str, trace: str, attribute: Mapping[str, str]) -> Scope:
    """What to delete, from a user's words. Raises BadRecordError."""
    check_project(project)
    if len(attribute) > 1 or (trace and attribute):
        raise BadRecordError("delete by one trace or by one attribute at a time")
    if any(not name or not value for name, value in attribute.items()):
        raise BadRecordError("an attribute's name and value must not be empty")
    return Scope(project, trace, next(iter(attribute.items()), None))
