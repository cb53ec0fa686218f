"""One container run's log, as it comes over the API, as a source of records.

The lines become CRI lines again, without a stream, and go through the transformer that reads the
kubelet's files. Numbers depend on the bytes alone, so what is read again after a crash from the
durable position gets the same numbers; what the kubelet has rotated away meanwhile is a told gap.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from spanyard_core.chunks import Source as SourceRange
from spanyard_core.records import Signal
from spanyard_sidecar.apilog.inbox import Inbox
from spanyard_sidecar.apilog.position import Position, after, times_of
from spanyard_sidecar.cri import CriTransformer
from spanyard_sidecar.cri_state import MAX_LINE, MAX_PREFIX, UNKNOWN_TIME, Batch, CriState, Inside
from spanyard_sidecar.cri_time import time_ns
from spanyard_sidecar.fingerprint import fingerprint
from spanyard_sidecar.model import Block, End, Gap, Identity, State, Stored
from spanyard_sidecar.tailer import salt_of

KIND = "api"
_TIME = re.compile(rb"(?m)^(\S+) ")
_AS_CRI = rb"\1 stdout F "
_ADDED = len(b"stdout F ")


class ApiSourceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the spool keeps of an ApiSource."""

    kind: str
    seq: int
    time: str
    bytes: int
    position: Position
    inside: Inside | None = None
    ended: bool = False


class ApiSource:
    """See `model.Source` and `model.Continues`."""

    def __init__(
        self,
        identity: Identity,
        container: str,
        restart: int,
        epoch: str,
        inbox: Inbox,
        *,
        started_ns: int | None,
        service: str = "",
        state: State | None = None,
    ) -> None:
        """`started_ns`: when the run began; None while nobody knows."""
        self._salt = salt_of(identity, container, restart)
        self._writer = f"{self._salt}@{epoch}"
        self._container = container
        self._inbox = inbox
        self.started_ns = started_ns
        self._transformer = CriTransformer(
            identity, self._writer, container, service=service, streams=False
        )
        self._seq, self._time, self._bytes = 0, UNKNOWN_TIME, 0
        self._inside: Inside | None = None
        self._ended = False
        self._rest = b""
        """Bytes that were taken from the inbox and are in no record yet."""
        self._floor = ""
        """Lines up to this time are stored by an earlier epoch."""
        self.position = Position()
        """After what is in records."""
        if state is not None:
            old = msgspec.convert(state, ApiSourceState)
            self._seq, self._time, self._bytes = old.seq, old.time, old.bytes
            self._inside, self._ended, self.position = old.inside, old.ended, old.position

    @property
    def writer(self) -> str:
        return self._writer

    @property
    def signal(self) -> Signal:
        return "logs"

    @property
    def container(self) -> str:
        return self._container

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self) -> End:
        return End(self._seq, self._bytes)

    def stored(self, state: State) -> None:
        """Nothing is kept here for what is not durable."""

    def uploaded(self, state: State) -> None:
        """The kubelet deletes its files."""

    def state(self) -> State:
        state = ApiSourceState(
            KIND, self._seq, self._time, self._bytes, self.position, self._inside, self._ended
        )
        builtins: dict[str, Any] = msgspec.to_builtins(state)
        return builtins

    def close(self) -> None:
        """Its follower belongs to those who found it."""

    @property
    def inside(self) -> bool:
        """Whether a line that is too long for a record is being read."""
        return self._inside is not None

    @property
    def idle(self) -> bool:
        """Whether all that has come is in records."""
        return not self._inbox

    # -- reading -------------------------------------------------------------------------------

    def read(self, budget: int) -> Block | None:
        while not self._ended:
            item = self._inbox.next()
            if item is None:
                return self._complete() if self._inbox.complete else None
            if isinstance(item, Gap):
                block = self.finish()  # what is begun is not ended by what comes after the gap
                if block is not None:
                    return block
                self._inbox.take()
                return Block(b"", 0, self._seq + 1, 0, gaps=(item,), cut=True, new_file=True)
            self._inbox.take()
            self._rest += item
            block = self._next_block()
            if block is not None:
                return block
        return None

    def _complete(self) -> Block | None:
        block = self.finish()
        if block is None:
            self._ended = True
        return block

    def _next_block(self) -> Block | None:
        if self._inside is not None:
            return self._within()
        end = self._rest.rfind(b"\n") + 1
        if end:
            whole, self._rest = self._rest[:end], self._rest[end:]
            if self._floor:
                whole = self._above_floor(whole)
                if not whole:
                    return None
            batch = self._transformer.transform(_TIME.sub(_AS_CRI, whole), self._state())
            position = after(self.position, times_of(whole[:-1].split(b"\n")))
            return self._took(batch, len(whole), position)
        if len(self._rest) <= MAX_LINE + MAX_PREFIX:
            return None
        batch = self._transformer.transform(_TIME.sub(_AS_CRI, self._rest, 1), self._state())
        consumed = max(0, batch.consumed - _ADDED)
        position = after(self.position, times_of([self._rest]))
        self._rest = self._rest[consumed:]
        return self._took(batch, consumed, position)

    def _within(self) -> Block | None:
        """More of a line that is longer than a record may be."""
        end = self._rest.find(b"\n") + 1
        piece = self._rest[:end] if end else self._rest
        batch = self._transformer.transform(piece, self._state())
        self._rest = self._rest[batch.consumed :]
        return self._took(batch, batch.consumed, self.position) if batch.consumed else None

    def _state(self) -> CriState:
        return CriState(self._seq, self._time, {}, self._inside)

    def _took(self, batch: Batch, size: int, position: Position, *, cut: bool = False) -> Block:
        before, self.position = self.position, position
        self._bytes += size
        self._seq, self._time, self._inside = batch.state.seq, batch.state.time, batch.state.inside
        return Block(
            lines=batch.lines,
            records=batch.records,
            first=batch.first,
            time_ns=batch.time_ns,
            range=SourceRange(self._fingerprint(), _ns(before.last), _ns(position.last)),
            cut=cut,
        )

    def finish(self) -> Block | None:
        """What is begun, as a record: no more comes of it."""
        rest, self._rest = self._rest, b""
        if not rest and self._inside is None:
            return None
        line, position = rest, self.position
        if self._inside is None:
            line = _TIME.sub(_AS_CRI, rest, 1)
            position = after(position, times_of([rest]))
        batch = self._transformer.last_line(line, self._state())
        return self._took(batch, len(rest), position, cut=True)

    # -- a new epoch ---------------------------------------------------------------------------

    def _fingerprint(self) -> str:
        return fingerprint(self._salt, KIND.encode())

    def first_time_ns(self) -> int | None:
        """When the run began, known to a second; 0: not known; None while nothing has come."""
        if self._inbox.next() is None and not self._inbox.complete:
            return None
        return self.started_ns or 0

    def fingerprints(self) -> Sequence[str]:
        """One name stands for all files of the run; offsets are the times of lines."""
        return [self._fingerprint()]

    def begin_anew(self) -> None:
        """What the kubelet still has is what there is."""

    def go_on_from(self, fingerprint: str, stored: Stored) -> None:
        """Begin after the time of the last line that is stored."""
        seconds, fraction = divmod(stored.to_offset, 1_000_000_000)
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        self._floor = f"{at:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"

    def _above_floor(self, whole: bytes) -> bytes:
        """Without the lines that an earlier epoch stored: the first ones."""
        lines = whole[:-1].split(b"\n")
        for at, time in enumerate(times_of(lines)):
            if time > self._floor:
                self._floor = ""
                return b"".join(line + b"\n" for line in lines[at:])
        return b""


def _ns(time: str) -> int:
    return time_ns(time) if time else 0
