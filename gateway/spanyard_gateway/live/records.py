"""Records on their way from a collector to listeners: decoded once, encoded once, shared by all.

A block is a run of one writer's records without a hole. What listeners get of a record, its item, is
encoded when the first of them wants it and then kept with the block, so that a hundred listeners
cost a hundred writes and one encoding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

LiveSignal = Literal["logs", "spans", ""]
"""What a block holds; empty: something that is not shown."""

NOTHING = msgspec.Raw(b"")


class LogRecord(msgspec.Struct, tag_field="type", tag="log", rename="camel"):
    """What listeners get to see of a log line; fields as in `spanyard_core.records.LogLine`."""

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
    marks: list[str] = []


class SpanRecord(msgspec.Struct, tag_field="type", tag="span", rename="camel"):
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


class OtherRecord(msgspec.Struct):
    """A metric, score, trace or gap: numbered like the rest, shown to nobody here."""


class _Kind(msgspec.Struct):
    type: str = ""


Record = LogRecord | SpanRecord
_records = msgspec.json.Decoder(Record)
_kind = msgspec.json.Decoder(_Kind)
_encode = msgspec.json.Encoder().encode


class LogEntry(msgspec.Struct, rename="camel", omit_defaults=True):
    """A log line as listeners get it."""

    seq: int
    line: str
    timestamp: str
    level: str
    stream: str = ""
    container: str = ""
    pod: str = ""
    trace_id: str = ""
    span_id: str = ""
    attributes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    marks: list[str] = []


class SpanEntry(msgspec.Struct, rename="camel", omit_defaults=True):
    """A span as listeners get it."""

    seq: int
    id: str
    trace_id: str
    name: str
    start_time: str
    end_time: str | None = None
    service: str = ""
    pod: str = ""
    parent_span_id: str = ""
    status: str = "unset"
    status_message: str = ""
    span_kind: str = "internal"
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
            _given(record.attributes),
            record.marks,
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
    _items: list[bytes | None] = field(default_factory=list)
    _joined: bytes | None = None

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def signal(self) -> LiveSignal:
        """Of all its records: a writer has one."""
        if not self.records:
            return ""
        return "logs" if isinstance(self.records[0], LogRecord) else "spans"

    def item(self, index: int) -> bytes:
        """The record as JSON for listeners."""
        if not self._items:
            self._items = [None] * self.count
        found = self._items[index]
        if found is None:
            found = self._items[index] = entry_json(self.records[index])
        return found

    def joined(self) -> bytes:
        """All items, with commas between."""
        if self._joined is None:
            self._joined = b",".join(self.item(i) for i in range(len(self.records)))
            self._items = []
        return self._joined

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
    """A block of a JSON array of such lines, as `/live` sends them."""
    data = bytes(records)
    raws = msgspec.json.decode(data, type=list[msgspec.Raw])
    if not raws or _kind.decode(raws[0]).type not in {"log", "span"}:
        return Block(writer, first, len(raws), [], len(data))
    return Block(writer, first, len(raws), [_records.decode(raw) for raw in raws], len(data))


Picks = Callable[[Record], bool]
"""Whether a listener wants a record."""


def picked(block: Block, picks: Picks | None) -> tuple[bytes, int]:
    """The items that are wanted, with commas between, and how many they are."""
    if not block.records:
        return b"", 0
    if picks is None:
        return block.joined(), len(block.records)
    found = [block.item(i) for i, record in enumerate(block.records) if picks(record)]
    return b",".join(found), len(found)
