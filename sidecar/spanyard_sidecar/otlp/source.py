"""OtlpSource: one signal's records, read back from the log in blocks.

Only what is durable is read. Nothing is encoded again: the blocks are the frames' lines as they
stand there, with the numbers that were settled when they were appended.
"""

from collections.abc import Mapping
from typing import Any

from spanyard_core.files import ReadFile
from spanyard_core.records import Signal
from spanyard_sidecar.model import Block, End, Gap, Source, State
from spanyard_sidecar.otlp.frames import Frame, read_frame
from spanyard_sidecar.otlp.log import OtlpLog
from spanyard_sidecar.otlp.segments import Segment

CONTAINER = "otlp"
_LEAST = 4096
"""Bytes asked for at least, also when the budget is nearly used."""


class OtlpSource:
    """Source of one writer in the log; see `model.Source`.

    State: `segment` and `offset` of the next frame, `skip` bytes of its payload that were given
    already, `seq` of the last record given, `bytes` given in all.
    """

    def __init__(self, log: OtlpLog, writer: str, signal: Signal, state: State | None) -> None:
        self._log = log
        self._writer = writer
        self._signal = signal
        self._placed = state is not None
        state = state or {}
        self._at: int = state.get("segment", 0)
        self._offset: int = state.get("offset", 0)
        self._skip: int = state.get("skip", 0)
        self._seq: int = state.get("seq", 0)
        self._bytes: int = state.get("bytes", 0)
        self._file: ReadFile | None = None
        self._segment: Segment | None = None

    @property
    def writer(self) -> str:
        return self._writer

    @property
    def signal(self) -> Signal:
        return self._signal

    @property
    def container(self) -> str:
        return CONTAINER

    def read(self, budget: int) -> Block | None:
        parts: list[bytes] = []
        size = records = time_ns = 0
        while size < budget:
            try:
                frame = self._frame()
            except OSError:
                if not parts:
                    raise
                break  # what was taken already is given first; the error comes again
            if frame is None:
                break
            missing = self._missing_before(frame)
            if missing:
                if parts:
                    break  # first what is there, then the gap
                return self._gap(missing, frame)
            if frame.head.writer != self._writer:
                self._go(frame.end)
                continue
            time_ns = time_ns or frame.head.time_ns
            try:
                data, count = self._piece(frame, max(budget - size, _LEAST))
            except OSError:
                if not parts:
                    raise
                break
            parts.append(data)
            size += len(data)
            records += count
            self._seq += count
        if not records:
            return None
        self._bytes += size
        first = self._seq - records + 1
        return Block(lines=b"".join(parts), records=records, first=first, time_ns=time_ns)

    def _frame(self) -> Frame | None:
        """The frame at our place, in this segment or the next; None at the log's end."""
        while True:
            if self._segment is None and not self._open():
                return None
            segment, file = self._segment, self._file
            assert segment is not None
            assert file is not None
            self._offset = segment.after_holes(self._offset)
            if self._offset < segment.end:
                frame = read_frame(file, self._offset, segment.end)
                if frame is None:
                    raise OSError(f"{segment.path} has changed at byte {self._offset}")
                return frame
            if self._log.segment(segment.n + 1) is None:
                return None
            self.close()
            self._at, self._offset, self._skip = segment.n + 1, 0, 0

    def _open(self) -> bool:
        segment = self._log.segment(self._at)
        if segment is None:
            return False
        if segment.n != self._at:  # ours was given back: all of it was stored
            self._at, self._offset, self._skip = segment.n, 0, 0
        self._file = self._log.files.open_read(segment.path)
        self._segment = segment
        return True

    def _missing_before(self, frame: Frame) -> int:
        """Records of ours that should stand before `frame` and nowhere do: damage."""
        head = frame.head
        if head.writer == self._writer:
            first = head.first
        elif not head.writer:
            first = head.next.get(self._writer, 1)
        else:
            return 0
        if not self._placed:
            # No state: what came before this log was given back, so it was durable in the spool.
            self._placed, self._seq = True, first - 1
        return max(0, first - 1 - self._seq)

    def _gap(self, missing: int, frame: Frame) -> Block:
        first, last = self._seq + 1, self._seq + missing
        self._seq = last
        gap = Gap(
            cause="damaged",
            message=f"records {first} to {last} were taken by OTLP, and the disk lost them",
            lines=missing,
        )
        return Block(
            lines=b"", records=0, first=last + 1, time_ns=frame.head.time_ns, gaps=(gap,), cut=True
        )

    def _piece(self, frame: Frame, budget: int) -> tuple[bytes, int]:
        """The next whole lines of the frame, all of them when they fit."""
        assert self._file is not None
        at, rest = frame.payload_at + self._skip, frame.payload_length - self._skip
        if rest <= budget + budget // 2:
            data = self._file.pread(rest, at)
            count = frame.head.last - self._seq
            self._go(frame.end)
            return data, count
        while True:
            data = self._file.pread(min(budget, rest), at)
            end = data.rfind(b"\n") + 1
            if end:
                break
            budget *= 4  # a line longer than all that was asked for
        self._skip += end
        if self._skip == frame.payload_length:
            self._go(frame.end)
        return data[:end], data.count(b"\n", 0, end)

    def _go(self, offset: int) -> None:
        self._offset, self._skip = offset, 0

    def state(self) -> State:
        return {
            "segment": self._at,
            "offset": self._offset,
            "skip": self._skip,
            "seq": self._seq,
            "bytes": self._bytes,
        }

    @property
    def ended(self) -> bool:
        """A writer of an earlier epoch gets nothing more."""
        return self._writer != self._log.writer_of(self._signal) and self._frame() is None

    def finish(self) -> Block | None:
        return None

    def end(self) -> End:
        return End(self._seq, self._bytes)

    def stored(self, state: State) -> None:
        self._log.stored(self._writer, state["seq"])

    def uploaded(self, state: State) -> None:
        """Nothing: a segment goes when the spool has it."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._segment = None


class OtlpSources:
    """Sources of the writers that have records in the log; a signal never used has none."""

    def __init__(self, log: OtlpLog) -> None:
        self._log = log
        self._known: set[str] = set()

    def scan(self, states: Mapping[str, State], epoch: str) -> list[Source]:
        found: list[Source] = []
        for writer, signal in self._log.writers.items():
            if writer not in self._known:
                self._known.add(writer)
                state: Any = states.get(writer)
                found.append(OtlpSource(self._log, writer, signal, state))
        return found
