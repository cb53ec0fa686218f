"""SimWarehouse: the Warehouse seam over simulated tables, for one ingester.

It unpacks and parses the bytes of the files really, so that what is stored is what was uploaded,
and refuses what the engine refuses: broken JSON, numbers beyond their type, unknown fields, times
out of range, a cut frame. One suite, `tests/contract/test_warehouse.py`, holds it and the engine.
"""

import json
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from spanyard_core.clickhouse.hashes import city_hash64, city_hash64_sum
from spanyard_core.errors import DatabaseError
from spanyard_core.records import LINE_TYPES, Signal
from spanyard_ingester.warehouse import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    LedgerRow,
    QuarantineRow,
    SeqRange,
    WriterSums,
)
from tests.sim.process import Process
from tests.sim.tables import Row, Tables, Weather

_MODULO = 1 << 64
_TIMES = ("timestamp", "startTime", "endTime", "recordedAt", "fromTime", "toTime")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")
_FIELDS = {
    signal: {f.encode_name for f in msgspec.structs.fields(line)} | {"type"}
    for signal, line in LINE_TYPES.items()
}
_DEFAULTS = {
    signal: {
        f.encode_name: f.default for f in msgspec.structs.fields(line) if isinstance(f.default, str)
    }
    for signal, line in LINE_TYPES.items()
}


class SimWarehouse:
    """See `Warehouse`."""

    def __init__(
        self,
        tables: Tables | None = None,
        process: Process | None = None,
        *,
        read_file: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        self.tables = tables or Tables(Weather(random.Random(0)))
        self._process = process
        self._read_file = read_file
        if process is not None:
            process.at_end(lambda: self.tables.process_died(process))

    def _check(self) -> Tables:
        if self._process is not None:
            self._process.check()
        return self.tables

    async def insert(
        self,
        attempt: int,
        table: Signal,
        day: date,
        files: Sequence[Path],
        *,
        exclude: Mapping[str, Sequence[SeqRange]] | None = None,
    ) -> None:
        tables = self._check()
        if not files:
            raise ValueError("a batch has at least one file")
        data = [(path, self._read_file(path)) for path in files]
        if tables.weather.away:
            await tables.insert(attempt, table, day, [], self._process)
        rows = list(self._rows(table, data, exclude or {}))
        assert len(rows) <= MAX_BATCH_ROWS, "a batch of too many rows"
        await tables.insert(attempt, table, day, rows, self._process)

    def _rows(
        self,
        table: Signal,
        files: Sequence[tuple[Path, bytes]],
        exclude: Mapping[str, Sequence[SeqRange]],
    ) -> Iterator[Row]:
        total = 0
        for path, data in files:
            text = data if path.suffix == ".jsonl" else _unpacked(data)
            total += len(text)
            assert total <= MAX_BATCH_BYTES, "a batch of too many bytes"
            for line in text.split(b"\n"):
                if not line.strip():
                    continue
                row = _row(table, line)
                seq = int(row["seq"])
                if not any(a <= seq <= b for a, b in exclude.get(str(row["writer"]), ())):
                    yield row

    async def read_back(self, attempt: int, table: Signal, day: date) -> dict[str, WriterSums]:
        tables = self._check()
        return dict(await tables.statement("read back", lambda: _sums(tables, attempt, table, day)))

    async def hash_sums(self, ranges: Mapping[str, Sequence[SeqRange]]) -> dict[str, int]:
        def act() -> dict[str, int]:
            return {writer: city_hash64_sum(pairs) for writer, pairs in ranges.items()}

        return dict(await self._check().statement("hash sums", act))

    async def derive(self, attempt: int, table: Signal, day: date) -> None:
        tables = self._check()

        def act() -> None:
            for part in tables.parts_of(table, attempt, day):
                for row in part.rows:
                    if table == "spans":
                        tables.index_trace(row)
                    elif table == "traces":
                        tables.index_trace(row, "id")

        await tables.statement("derive", act)

    async def delete_attempt(self, attempt: int, table: Signal, day: date) -> None:
        tables = self._check()

        def act() -> None:
            gone = tables.parts_of(table, attempt, day)
            if gone:
                tables.note(f"{sum(len(p.rows) for p in gone)} rows of {attempt} are deleted")
                tables.parts[table] = [p for p in tables.parts[table] if p not in gone]

        await tables.statement("delete", act)

    async def kill(self, attempt: int) -> None:
        tables = self._check()
        await tables.statement("kill", lambda: tables.kill(attempt))

    async def attempts_present(
        self, table: Signal, days: Collection[date], attempts: Collection[int]
    ) -> set[int]:
        return {a for a in await self._attempts(table, days) if a in attempts}

    async def unknown_attempts(
        self, table: Signal, days: Collection[date], known: Collection[int]
    ) -> set[int]:
        return {a for a in await self._attempts(table, days) if a not in known}

    async def _attempts(self, table: Signal, days: Collection[date]) -> set[int]:
        tables = self._check()

        def act() -> set[int]:
            return {p.attempt for p in tables.parts.get(table, []) if p.day in days and p.rows}

        return set(await tables.statement("attempts", act))

    async def self_test(self) -> None:
        await self._check().statement("self-test", lambda: None)

    async def quarantine_add(self, rows: Sequence[QuarantineRow]) -> None:
        tables = self._check()

        def act() -> None:
            for row in rows:
                there = tables.quarantine.get(row.id)
                if there is None or there.updated_at <= row.updated_at:
                    tables.quarantine[row.id] = row

        await tables.statement("quarantine", act)

    async def ledger_copy(self, rows: Sequence[LedgerRow]) -> None:
        tables = self._check()

        def act() -> None:
            for row in rows:
                key = (row.shard, row.n, row.attempt, row.key)
                there = tables.ledger.get(key)
                if there is None or there.time <= row.time:
                    tables.ledger[key] = row

        await tables.statement("ledger copy", act)


def _sums(tables: Tables, attempt: int, table: str, day: date) -> dict[str, WriterSums]:
    by_writer: dict[str, list[Row]] = {}
    for part in tables.parts_of(table, attempt, day):
        for row in part.rows:
            by_writer.setdefault(str(row["writer"]), []).append(row)
    return {
        writer: WriterSums(
            count=len(rows),
            min_seq=min(int(r["seq"]) for r in rows),
            max_seq=max(int(r["seq"]) for r in rows),
            seq_sum=sum(int(r["seq"]) for r in rows) % _MODULO,
            hash_sum=sum(city_hash64(int(r["seq"])) for r in rows) % _MODULO,
            min_project=min(str(r["project"]) for r in rows),
            max_project=max(str(r["project"]) for r in rows),
        )
        for writer, rows in by_writer.items()
    }


def rows_of(table: Signal, data: bytes) -> tuple[list[Row], list[Row]]:
    """The rows of a whole object, and the lines that the engine would refuse."""
    rows: list[Row] = []
    bad: list[Row] = []
    for line in _unpacked(data).splitlines():
        try:
            rows.append(_row(table, line))
        except DatabaseError:
            bad.append(json.loads(line))
    return rows, bad


def _unpacked(data: bytes) -> bytes:
    parts = []
    at = 0
    view = memoryview(data)
    while at < len(view):
        magic = bytes(view[at : at + 4])
        if magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:
            at += 8 + int.from_bytes(view[at + 4 : at + 8], "little")
            continue
        frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        try:
            parts.append(frame.decompress(view[at:]))
        except zstandard.ZstdError as error:
            raise DatabaseError(f"zstd: {error}", code=561) from error
        if not frame.eof:
            raise DatabaseError("zstd: unexpected end of the frame", code=561)
        at = len(view) - len(frame.unused_data)
    return b"".join(parts)


def _refuse(text: str, code: int = 117) -> DatabaseError:
    return DatabaseError(f"insert: {text}", code=code)


def _row(table: Signal, line: bytes) -> Row:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _refuse(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _refuse("not an object")
    unknown = set(row) - _FIELDS[table]
    if unknown:
        raise _refuse(f"unknown field {min(unknown)}")
    seq = row.get("seq")
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < _MODULO:
        raise _refuse(f"seq {seq!r}", 70)
    for field in ("project", "writer"):
        if not row.get(field) or "\0" in str(row[field]):
            raise _refuse(f"{field} is {row.get(field)!r}", 469)
    if "type" not in row:
        raise _refuse("no type", 469)
    for field in ("attributes", "resource", "metadata"):
        if not isinstance(row.get(field, {}), dict):
            raise _refuse(f"{field} is no object", 469)
    for field in _TIMES:
        _check_time(field, row.get(field))
    try:
        msgspec.convert(row, LINE_TYPES[table])
    except msgspec.ValidationError as error:
        raise _refuse(str(error), 469) from error
    for field, default in _DEFAULTS[table].items():
        row.setdefault(field, default)
    return row


def _check_time(field: str, value: Any) -> None:
    if value is None or value == "":
        return
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1900 <= int(match[1]) <= 2261:
        raise _refuse(f"{field} {value!r} is no time", 6)
    try:
        datetime.fromisoformat(value[:19])
    except ValueError as error:
        raise _refuse(f"{field} {value!r}: {error}", 6) from error
