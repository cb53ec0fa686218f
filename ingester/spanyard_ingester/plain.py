"""Plain objects: `.jsonl` files in the layout of T5, rewritten as lines of `records`.

Nobody stamped these events: writer is the object itself, seq the number of the line, project that
of the key. Field names are those of `docs/span-files.md`; what that page doesn't list is not
stored. Replayed lines come this way too, and keep the identity they had.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec
import zstandard

from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError
from spanyard_core.files import AppendFile
from spanyard_core.intervals import IntervalSet
from spanyard_core.object_names import ChunkName, PlainName
from spanyard_core.records import LINE_TYPES
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.linecheck import BadLineError, check_values, parse_object
from spanyard_ingester.operations import BadLine, line_id
from spanyard_ingester.planner import Limits
from spanyard_ingester.splitter import LineSplitter, RawLine

_READ_BYTES = 4 * 1024 * 1024
_LINES_PER_STEP = 500
_STAMPED = ("project", "writer", "seq")


class PlainEvents:
    """Turns events of one object into lines. BadLineError for what is no event of its signal."""

    def __init__(self, name: PlainName) -> None:
        self._name = name
        self._writer = name.writer
        kind = LINE_TYPES[name.signal]
        self._type = kind.__struct_config__.tag
        self._fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        self._fields.difference_update(_STAMPED)
        self._decoder = msgspec.json.Decoder(kind)

    def line(self, raw: bytes, seq: int) -> bytes:
        """The event as a line with its newline."""
        event = parse_object(raw)
        project = self._name.project
        for field in ("projectId", "project"):
            if event.get(field, project) != project:
                raise BadLineError(
                    f"{field} is {str(event[field])[:120]!r}; the object's is {project!r}"
                )
        if event.get("type") != self._type:
            raise BadLineError(
                f"type is {str(event.get('type'))[:40]!r}; events here are of type {self._type!r}"
            )
        line: dict[str, Any] = {
            "type": self._type,
            "project": project,
            "writer": self._writer,
            "seq": seq,
            **{field: value for field, value in event.items() if field in self._fields},
        }
        if self._type == "metric":
            line.setdefault("kind", "gauge")  # T1's metrics have none
        try:
            encoded = msgspec.json.encode(line)
            # Decoding by type and encoding again leaves defaults out, as the collector does.
            encoded = msgspec.json.encode(self._decoder.decode(encoded))
        except (msgspec.MsgspecError, OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise BadLineError(str(error)) from None
        check_values(line, self._name.signal)
        return encoded + b"\n"


class PlainReader:
    """Reads one plain object in bounded memory and writes its good lines, compressed."""

    def __init__(
        self,
        key: str,
        name: PlainName | ChunkName,
        *,
        longest_line: int,
        most_bad: int,
        most_bytes: int,
        limits: Limits,
        drops: Iterable[int] = (),
    ) -> None:
        if not isinstance(name, PlainName):
            raise TypeError("a chunk is not a plain object")
        self._key = key
        self._events = PlainEvents(name)
        self._splitter = LineSplitter(longest_line)
        self._longest = longest_line
        self._most_bad = most_bad
        self._most_bytes = most_bytes
        self._limits = limits
        self._drops = frozenset(drops)
        self._digest = hashlib.sha256()
        self._compress = zstandard.ZstdCompressor(level=1).compressobj()
        self._decoded = 0
        self._rows = 0
        self.writer = name.writer
        self.size = 0
        self.good = IntervalSet()
        self.bad: list[BadLine] = []

    @property
    def sha256(self) -> str:
        """Digest of all bytes read."""
        return self._digest.hexdigest()

    @property
    def lines(self) -> int:
        """Number of lines, good and bad."""
        return self._splitter.number

    async def read(self, storage: Storage, clock: Clock, out: AppendFile) -> None:
        """Read the object to its end. Raises BadRecordError when all of it is to be rejected."""
        while True:
            block = await storage.read(self._key, start=self.size, length=_READ_BYTES)
            self.size += len(block)
            if self.size > self._most_bytes:
                raise BadRecordError(f"the object has more than {self._most_bytes} bytes")
            self._digest.update(block)
            await self._lines(self._splitter.feed(block), clock, out)
            if len(block) < _READ_BYTES:
                break
        rest = self._splitter.finish()
        if rest is not None:
            await self._lines([rest], clock, out)
        out.write(self._compress.flush())

    async def _lines(self, lines: Iterable[RawLine], clock: Clock, out: AppendFile) -> None:
        encoded: list[bytes] = []
        for line in lines:
            if line.number not in self._drops and (event := self._line(line)) is not None:
                encoded.append(event)
            if line.number % _LINES_PER_STEP == 0:
                self._write(encoded, out)
                encoded.clear()
                await clock.sleep(0)
        self._write(encoded, out)

    def _write(self, encoded: list[bytes], out: AppendFile) -> None:
        block = b"".join(encoded)
        self._decoded += len(block)
        if self._decoded > self._limits.decoded or self._rows > self._limits.rows:
            raise BadRecordError(
                f"the object holds more than a batch does ({self._limits.rows} lines, "
                f"{self._limits.decoded} bytes); write files of at most 10 MB"
            )
        out.write(self._compress.compress(block))

    def _line(self, line: RawLine) -> bytes | None:
        """The line as it is loaded; None for a bad one, which is noted."""
        try:
            event = self._event(line)
        except BadLineError as error:
            if len(self.bad) >= self._most_bad:
                raise BadRecordError(
                    f"more than {self._most_bad} bad lines; the first, line {self.bad[0].line}: "
                    f"{self.bad[0].reason}"
                ) from None
            self.bad.append(
                BadLine(
                    id=line_id(self._key, line.number),
                    line=line.number,
                    offset=line.offset,
                    size=line.size,
                    reason=error.reason,
                    seq=line.number,
                )
            )
            return None
        self.good.add(line.number, line.number)
        self._rows += 1
        return event

    def _event(self, line: RawLine) -> bytes:
        if line.data is None:
            raise BadLineError(f"the line has {line.size} bytes; {self._longest} is most")
        if not line.data.strip():
            raise BadLineError("the line is blank")
        return self._events.line(line.data, line.number)
