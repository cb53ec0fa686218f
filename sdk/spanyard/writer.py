"""`ObservabilityWriter`: events as `.jsonl` objects below a directory, for the ingester (T5).

For programs that no collector watches: batch jobs, importers, evaluations. Events are kept in
memory for at most `flush_interval` seconds and written as whole files, one per type and project.
A kill loses what was not flushed; where that matters, use span files (`spanyard.span`, …).
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from spanyard import _voice
from spanyard._events import SIGNAL_OF, checked
from spanyard_core.clock import compact_utc, rfc3339
from spanyard_core.errors import BadRecordError, SettingError, SpanyardError
from spanyard_core.object_names import check_project

TEMP_FOLDER = ".spanyard-tmp"
"""Files here are half; a directory as storage does not list them (`spanyard_core.storage.keys`)."""

_Lines = list[bytes]


class WriterClosedError(SpanyardError):
    """A record came after `shutdown()`."""


@dataclass(frozen=True)
class FlushResult:
    """What one flush did."""

    files: int = 0
    """Files written."""
    events: int = 0
    """Events in them."""
    errors: dict[str, str] = field(default_factory=dict)
    """Type (`log`, `span`, …) → why its events could not be written; they are kept."""


@dataclass(frozen=True)
class WriterStats:
    """What became of all events so far: recorded = written + pending + dropped."""

    recorded: int
    written: int
    pending: int
    dropped: int
    """Refused for want of room while writing failed."""
    files: int
    failed_flushes: int
    last_error: str


class _Buffer:
    """Lines of one type and project that wait."""

    __slots__ = ("lines", "since_ns")

    def __init__(self, since_ns: int) -> None:
        self.lines: _Lines = []
        self.since_ns = since_ns


def _least(name: str, value: Any, least: float, *, whole: bool) -> None:
    right = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not right or not value >= least or value == float("inf"):
        what = "whole number" if whole else "number"
        raise SettingError(f"{name}: {value!r} is not a {what} of at least {least}")


class ObservabilityWriter:
    """Collects events and writes them as files. All methods may be called from any thread.

    `base` is the folder `observability/` of a storage directory. `flush()` and `shutdown()` wait
    for the disk: in a coroutine use `flush_async()`. Raises SettingError for impossible settings.
    """

    def __init__(
        self,
        base: str | Path,
        *,
        project: str = "",
        batch_size: int = 1000,
        flush_interval: float = 5.0,
        max_file_size: int = 10_000_000,
        max_pending: int = 100_000,
    ) -> None:
        if not str(base):
            raise SettingError("base: is required, the folder that the files go to")
        _least("batch_size", batch_size, 1, whole=True)
        _least("flush_interval", flush_interval, 0.01, whole=False)
        _least("max_file_size", max_file_size, 1024, whole=True)
        _least("max_pending", max_pending, batch_size, whole=True)
        if project:
            try:
                check_project(project)
            except BadRecordError as error:
                raise SettingError(str(error)) from None
        self._base = os.path.abspath(base)
        self._project = project
        self._batch_size = batch_size
        self._flush_interval = float(flush_interval)
        self._max_file_size = max_file_size
        self._max_pending = max_pending
        self._closed = False
        self._begin_anew()
        _open_writers.add(self)

    def _begin_anew(self) -> None:
        # Two locks: recording never waits for the disk. Nothing is logged while one is held, and
        # both may be taken again by their thread: a finalizer may record while we record.
        self._lock = threading.Condition(threading.RLock())
        self._flushing = threading.RLock()
        self._counting = False
        self._late: list[tuple[str, str, bytes]] = []
        self._thread: threading.Thread | None = None
        self._buffers: dict[tuple[str, str], _Buffer] = {}
        self._recorded = self._written = self._pending = self._dropped = 0
        self._files = self._failed = 0
        self._last_error = ""

    # -- recording -----------------------------------------------------------------------------

    def record_trace(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """A trace: `id`, `name`, `startTime`, `endTime`, `status`, `input`, `output`, `metadata`."""
        self._record("trace", event, fields)

    def record_span(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """A span: `id`, `traceId`, `parentSpanId`, `name`, `startTime`, `endTime`, …"""
        self._record("span", event, fields)

    def record_log(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """A log: `level` (default info), `message`, `timestamp` (default now), `traceId`, …"""
        self._record("log", event, fields)

    def record_metric(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """A metric: `name`, `value`, `kind` (default gauge), `timestamp` (default now), `unit`, …"""
        self._record("metric", event, fields)

    def record_score(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """A score: `name`, `value`, `traceId`, `spanId`, `comment`, `timestamp` (default now)."""
        self._record("score", event, fields)

    def record_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Events of any type, told by their `type`: all of them, or none when one is wrong."""
        now = rfc3339(time.time_ns())
        self._add(
            [
                (kind, *checked(kind, event, project=self._project, now=now)[1:])
                for event in events
                for kind in [str(event.get("type", ""))]
            ]
        )

    def _record(
        self, kind: str, event: Mapping[str, Any] | None, fields: Mapping[str, Any]
    ) -> None:
        given = {**event, **fields} if event else fields
        now = rfc3339(time.time_ns())
        self._add([(kind, *checked(kind, given, project=self._project, now=now)[1:])])

    def _add(self, lines: list[tuple[str, str, bytes]]) -> None:
        with self._lock:
            if self._closed:
                raise WriterClosedError("the writer was shut down; nothing can be recorded")
            if self._counting:  # we are inside of ourselves: a finalizer, a signal handler
                self._late += lines
                return
            with self._accounts():
                self._take(lines)
            alone = not self._has_thread()
            full = self._pending >= self._batch_size
            if full:
                self._lock.notify_all()
        if _ending or (alone and full):
            self.flush()
        _voice.speak()

    @contextlib.contextmanager
    def _accounts(self) -> Iterator[None]:
        """While counts change. What is recorded meanwhile by the same thread is taken after."""
        with self._lock:
            within, self._counting = self._counting, True
            try:
                yield
                while self._late and not within:
                    late, self._late = self._late, []
                    self._take(late)
            finally:
                self._counting = within

    def _take(self, lines: list[tuple[str, str, bytes]]) -> None:
        now = time.time_ns()
        for kind, project, line in lines:
            self._recorded += 1
            if self._pending >= self._max_pending:
                if not self._dropped:
                    _voice.later(f"events are dropped: {self._pending} wait to be written")
                self._dropped += 1
                continue
            buffer = self._buffers.get((kind, project))
            if buffer is None:
                buffer = self._buffers[kind, project] = _Buffer(now)
            buffer.lines.append(line)
            self._pending += 1

    def _has_thread(self) -> bool:
        """Whether somebody else flushes. At the end of the interpreter no thread can be started."""
        if self._thread is None and not _ending:
            thread = threading.Thread(
                target=self._flush_for_ever, name="spanyard writer", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                _voice.later(f"no thread for the writer, it flushes full batches itself: {error}")
            else:
                self._thread = thread
                _flush_before_a_worker_ends()
        return self._thread is not None

    def _flush_for_ever(self) -> None:
        """Flush every interval, or when a batch is full, until the shutdown."""
        failed = False
        while True:
            with self._lock:
                # After a failure a full batch is no reason to hurry: the disk needs its time.
                if failed or (self._pending < self._batch_size and not self._closed):
                    self._lock.wait(timeout=self._flush_interval)
                if self._closed:
                    return
            try:
                failed = bool(self.flush().errors)
            except Exception as error:
                _voice.later(
                    f"the flush failed, what waits is kept: {type(error).__name__}: {error}"
                )
                failed = True
            _voice.speak()

    # -- writing -------------------------------------------------------------------------------

    def flush(self) -> FlushResult:
        """Write everything that waits. What cannot be written is kept for the next flush."""
        result = self._flush()
        _voice.speak()
        return result

    def _flush(self) -> FlushResult:
        with self._flushing:
            with self._accounts():
                buffers, self._buffers = self._buffers, {}
            files = events = 0
            errors: dict[str, str] = {}
            for (kind, project), buffer in buffers.items():
                done = 0
                try:
                    for part in self._parts(buffer.lines):
                        self._write(kind, project, buffer.since_ns, part)
                        files += 1
                        done += len(part)
                except Exception as error:
                    errors[kind] = getattr(error, "strerror", None) or str(error)
                    self._put_back(kind, project, buffer, done)
                events += done
            self._account(files, events, errors)
            return FlushResult(files, events, errors)

    async def flush_async(self) -> FlushResult:
        """`flush()` for coroutines: the disk is waited for in a thread."""
        import asyncio

        return await asyncio.to_thread(self.flush)

    def _parts(self, lines: _Lines) -> Iterable[_Lines]:
        part: _Lines = []
        size = 0
        for line in lines:
            if part and size + len(line) > self._max_file_size:
                yield part
                part, size = [], 0
            part.append(line)
            size += len(line)
        if part:
            yield part

    def _write(self, kind: str, project: str, since_ns: int, lines: _Lines) -> None:
        folder = f"{self._base}/{SIGNAL_OF[kind]}/{project}"
        temp = f"{self._base}/{TEMP_FOLDER}"
        os.makedirs(folder, exist_ok=True)
        os.makedirs(temp, exist_ok=True)
        name = f"{compact_utc(since_ns)}_{time.time_ns():x}-{os.urandom(6).hex()}.jsonl"
        half = f"{temp}/{name}"
        try:
            with open(half, "xb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            os.rename(half, f"{folder}/{name}")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(half)
            raise
        # From here on the file is there: to write it again would count its events twice.
        with contextlib.suppress(OSError):
            _sync_folder(folder)

    def _put_back(self, kind: str, project: str, buffer: _Buffer, done: int) -> None:
        with self._accounts():
            later = self._buffers.get((kind, project))
            kept = _Buffer(buffer.since_ns)
            kept.lines = buffer.lines[done:] + (later.lines if later else [])
            self._buffers[kind, project] = kept

    def _account(self, files: int, events: int, errors: Mapping[str, str]) -> None:
        with self._accounts():
            self._files += files
            self._written += events
            self._pending -= events
            if errors:
                self._failed += 1
                self._last_error = next(iter(errors.values()))
                if self._failed == 1:
                    _voice.later(f"events could not be written, they are kept: {dict(errors)}")

    def stats(self) -> WriterStats:
        """Counts since the start."""
        with self._lock:
            return WriterStats(
                recorded=self._recorded,
                written=self._written,
                pending=self._pending,
                dropped=self._dropped,
                files=self._files,
                failed_flushes=self._failed,
                last_error=self._last_error,
            )

    def shutdown(self) -> FlushResult:
        """Write what waits and refuse later records. May be called again, to try what failed."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        result = self.flush()
        if not result.errors:
            _open_writers.discard(self)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()

    def _after_fork(self) -> None:
        self._begin_anew()  # what waits is the parent's to write, and so is its thread


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_open_writers: set[ObservabilityWriter] = set()
"""Held until their shutdown, so that a writer that was let go of still writes what it has."""
_ending = False
"""The process ends: what is still recorded, by others who clean up, is written at once."""
_worker = 0
"""The process that was told to flush before it ends, where it ends without atexit."""


def _flush_all() -> None:
    global _ending  # noqa: PLW0603 - one per process by nature
    _ending = True
    for writer in list(_open_writers):
        try:
            writer.flush()
        except Exception as error:
            _voice.later(f"the flush failed: {type(error).__name__}: {error}")
        left = writer.stats()
        if left.pending:
            _voice.later(f"{left.pending} events are lost, unwritten: {left.last_error}")
    _voice.speak()


def _flush_before_a_worker_ends() -> None:
    """A forked worker of multiprocessing ends by `os._exit`: only its own finalizers run."""
    global _worker  # noqa: PLW0603 - one per process by nature
    process = sys.modules.get("multiprocessing.process")
    if _worker == os.getpid() or process is None or process.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    _worker = os.getpid()
    Finalize(None, _flush_all, exitpriority=0)


def _after_fork() -> None:
    global _ending  # noqa: PLW0603 - one per process by nature
    _ending = False
    for writer in list(_open_writers):
        writer._after_fork()


atexit.register(_flush_all)
os.register_at_fork(after_in_child=_after_fork)
