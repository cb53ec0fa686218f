"""Records on their way from a collector to listeners: decoded once, encoded once, shared by all.

A block is a run of one writer's records without a hole. What listeners get of it is encoded when the
first of them wants it and kept with the block while the others have their turn, so that a hundred
listeners cost a hundred writes and one encoding.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from spanyard_core.live_items import LineItem, SpanItem

LiveSignal = Literal["logs", "spans", ""]
"""What a block holds; empty: something that is not shown."""

NOTHING = msgspec.Raw(b"")
MOST_SEQ = 1 << 63
MOST_WRITER = 1_000
"""Characters of a writer's name: a uid, a container, a run."""


class LogRecord(msgspec.Struct, tag_field="type", tag="log", rename="camel", gc=False):
    """What listeners get to see of a log line; fields as in `spanyard_core.records.LogLine`.

    Like a span's it holds nothing that knows it: a hundred listeners' pages are 200,000 of them, through
    which the garbage collector would look for 100 to 280 ms, again and again.
    """

    seq: int
    timestamp: str
    level: str
    message: str
    pod: str = ""
    container: str = ""
    stream: str = ""
    trace_id: str = ""
    span_id: str = ""
    attributes: msgspec.Raw = NOTHING
    marks: tuple[str, ...] = ()
    deployment: str = ""
    build: str = ""
    service: str = ""


class SpanRecord(msgspec.Struct, tag_field="type", tag="span", rename="camel", gc=False):
    """What listeners get to see of a span; fields as in `spanyard_core.records.SpanLine`."""

    seq: int
    id: str
    trace_id: str
    name: str
    start_time: str
    end_time: str | None
    pod: str = ""
    service: str = ""
    parent_span_id: str = ""
    status: str = "unset"
    status_message: str = ""
    span_kind: str = "internal"
    attributes: msgspec.Raw = NOTHING
    events: msgspec.Raw = NOTHING
    deployment: str = ""
    build: str = ""
    container: str = ""


class OtherRecord(msgspec.Struct):
    """A metric, score, trace or gap: numbered like the rest, shown to nobody here."""


class _Kind(msgspec.Struct):
    type: str = ""


Record = LogRecord | SpanRecord
_records = msgspec.json.Decoder(Record)
_kind = msgspec.json.Decoder(_Kind)
_encode = msgspec.json.Encoder().encode

MESSAGE_BYTES = 256 * 1024
"""About the largest message to a listener; a single longer record is one message."""
MOST_KEPT = 16
"""Encodings of a block that are kept: of so many filters, for so many kinds of listeners."""

Picks = Callable[[Record], bool]
"""Whether a listener wants a record."""
Picked = tuple[bytes, int]
"""Items as JSON with commas between, and how many they are."""


class LogEntry(LineItem, omit_defaults=True, frozen=True):
    """A log line as listeners get it."""

    attributes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class SpanEntry(SpanItem, omit_defaults=True, frozen=True):
    """A span as listeners get it."""

    attributes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _given(raw: msgspec.Raw) -> msgspec.Raw | msgspec.UnsetType:
    return raw if bytes(raw) not in {b"", b"{}", b"[]"} else msgspec.UNSET


def _entry(record: Record) -> LogEntry | SpanEntry:
    if isinstance(record, LogRecord):
        return LogEntry(
            record.seq,
            record.message,
            record.timestamp,
            record.level,
            record.stream,
            record.container,
            record.pod,
            record.trace_id,
            record.span_id,
            record.marks,
            record.deployment,
            record.build,
            record.service,
            _given(record.attributes),
        )
    return SpanEntry(
        record.seq,
        record.id,
        record.trace_id,
        record.name,
        record.start_time,
        record.end_time,
        record.service,
        record.pod,
        record.parent_span_id,
        record.status,
        record.status_message,
        record.span_kind,
        _given(record.attributes),
        _given(record.events),
    )


def entry_json(record: Record) -> bytes:
    """The record as listeners get it."""
    return _encode(_entry(record))


@dataclass(eq=False, slots=True)
class Block:
    """Records `first…last` of one writer; `records` is empty where they are of no interest here."""

    writer: str
    first: int
    count: int
    records: Sequence[Record]
    size: int
    """Bytes as they came: what it counts against bounds."""
    updates: set[int] = field(default_factory=set)
    """Numbers of open spans that were told of before."""
    _pieces: "list[Block] | None" = None
    _picked: dict[Hashable, Picked] = field(default_factory=dict)
    _said: dict[Hashable, bytes] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def signal(self) -> LiveSignal:
        """Of all its records: a writer has one."""
        if not self.records:
            return ""
        return "logs" if isinstance(self.records[0], LogRecord) else "spans"

    def pieces(self) -> "Sequence[Block]":
        """The block in messages: of one type each, and not much larger than MESSAGE_BYTES.

        The same for all who ask.
        """
        if self._pieces is None:
            cuts = list(self._cuts())
            ends = [*cuts[1:], self.count]
            # Not itself: a block that knows itself would wait for the garbage collector.
            self._pieces = [
                self._part(self.first + start, end - start, self.records[start:end])
                for start, end in zip(cuts, ends, strict=True)
                if end - start < self.count
            ]
        return self._pieces or (self,)

    def _cuts(self) -> Iterator[int]:
        if self.signal == "spans":
            before = None
            for i, record in enumerate(self.records):
                state = is_open(record), record.seq in self.updates
                if state != before:
                    yield i
                before = state
        else:
            most = max(1, self.count * MESSAGE_BYTES // max(self.size, 1))
            yield from range(0, self.count, most)

    def picked(self, picks: "Picks | None", key: Hashable) -> Picked:
        """The items that are wanted, with commas between, and how many; `key` stands for `picks`.

        Encoded for the first who asks, kept for the others until `forget`.
        """
        found = self._picked.get(key)
        if found is None:
            wanted = self.records if picks is None else [r for r in self.records if picks(r)]
            found = b",".join(map(entry_json, wanted)), len(wanted)
            _keep(self._picked, key, found)
        return found

    def said(self, key: Hashable, encode: Callable[[], bytes]) -> bytes:
        """What `encode` gives, once for all who ask with this key, until `forget`."""
        found = self._said.get(key)
        if found is None:
            found = encode()
            _keep(self._said, key, found)
        return found

    def forget(self) -> None:
        """All who are quick have had it: what is encoded need not be kept for the others."""
        for piece in self._pieces or ():
            piece.forget()
        self._pieces = None
        self._picked.clear()
        self._said.clear()

    def after(self, seq: int) -> "Block | None":
        """The part with numbers greater than `seq`; None when there is none."""
        if seq < self.first:
            return self
        if seq >= self.last:
            return None
        cut = seq - self.first + 1
        left = self.count - cut
        return self._part(seq + 1, left, self.records[cut:])

    def before(self, seq: int) -> "Block | None":
        """The part with numbers less than `seq`; None when there is none."""
        if seq > self.last:
            return self
        if seq <= self.first:
            return None
        left = seq - self.first
        return self._part(self.first, left, self.records[:left])

    def _part(self, first: int, count: int, records: Sequence[Record]) -> "Block":
        size = self.size * count // self.count
        return Block(self.writer, first, count, records, size, self.updates)


def _keep(kept: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    if len(kept) >= MOST_KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


def merged(blocks: Iterable[Block]) -> list[Block]:
    """The same records in fewer blocks: those of a writer that follow each other are one.

    A writer's stay in their order; none becomes larger than a message by that. Each stands where the
    newest of its records stood: whoever keeps the newest blocks keeps the last line of a silent writer.
    """
    runs: list[list[Block]] = []
    last: dict[str, list[Block]] = {}
    newest: dict[int, int] = {}
    sizes: dict[str, int] = {}
    for number, block in enumerate(blocks):
        run = last.get(block.writer)
        size = sizes.get(block.writer, 0) + block.size
        fits = run is not None and run[-1].last + 1 == block.first and size <= MESSAGE_BYTES
        if run is not None and fits and run[0].signal == block.signal:
            run.append(block)
            sizes[block.writer] = size
        else:
            last[block.writer] = run = [block]
            runs.append(run)
            sizes[block.writer] = block.size
        newest[id(last[block.writer])] = number
    runs.sort(key=lambda run: newest[id(run)])
    return [run[0] if len(run) == 1 else _one(run) for run in runs]


def _one(run: Sequence[Block]) -> Block:
    return Block(
        run[0].writer,
        run[0].first,
        sum(block.count for block in run),
        [record for block in run for record in block.records],
        sum(block.size for block in run),
        set().union(*(block.updates for block in run)),
    )


def is_open(record: Record) -> bool:
    """Whether it is a span that has not ended."""
    return isinstance(record, SpanRecord) and record.end_time is None


def block_of_lines(writer: str, first: int, lines: bytes) -> Block:
    """A block of newline-ended JSON lines, as collectors store them.

    Raises msgspec.DecodeError for what no collector writes.
    """
    count = lines.count(b"\n")
    end = lines.find(b"\n")
    wanted = end >= 0 and _kind.decode(lines[:end]).type in {"log", "span"}
    records: list[Any] = _records.decode_lines(lines) if wanted else []
    return Block(writer, first, count, records, len(lines))


def block_of_array(writer: str, first: int, records: msgspec.Raw) -> Block:
    """A block of a JSON array of such lines, as `/live` sends them.

    Raises msgspec.DecodeError, also for numbers that cannot be: they would be told to listeners.
    RecursionError for what is nested too deeply.
    """
    if len(writer) > MOST_WRITER:
        raise msgspec.DecodeError(f"a writer's name has {len(writer):,} characters")
    data = bytes(records)
    raws = msgspec.json.decode(data, type=list[msgspec.Raw])
    if not raws or _kind.decode(raws[0]).type not in {"log", "span"}:
        return Block(writer, first, len(raws), [], len(data))
    found = [_records.decode(raw) for raw in raws]
    if not 0 < first < MOST_SEQ or any(r.seq != n for n, r in enumerate(found, first)):
        raise msgspec.DecodeError(f"numbers of {writer[:200]!r} do not follow each other")
    return Block(writer, first, len(raws), found, len(data))
