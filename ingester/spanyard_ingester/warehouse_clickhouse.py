"""The warehouse in ClickHouse: one INSERT … SELECT per batch, read back by its attempt.

In process the engine reads the files themselves by `file()`. Proven on the embedded engine 26.9:
one part per batch, read-back, refusal of bad data, exact deletion, kill -9 around all of them.

Over HTTP the body is `INSERT … SELECT … FROM input(…) FORMAT JSONEachRow` and then the files, one
after the other as they are, with `Content-Encoding: zstd` (zstd frames concatenate, skippable
ones too). Proven: the request that is sent, by a server of the tests that
speaks the protocol over the embedded engine. Not proven yet: a real server's reading of such a
stream, one part from it, and its behaviour when the connection breaks in the middle. The
self-test at start checks the first two on the server at hand, and the read-back every batch.
"""

import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from datetime import date
from pathlib import Path

import zstandard

from spanyard_core.clickhouse import Database
from spanyard_core.clickhouse.lines import LINE_TABLES, LineTable
from spanyard_core.clickhouse.pinned import INSERT_SETTINGS, settings_clause
from spanyard_core.clickhouse.schema import check_engine
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_core.records import Signal
from spanyard_ingester import warehouse_selftest
from spanyard_ingester.warehouse import LedgerRow, QuarantineRow, SeqRange, WriterSums

_NOT_THE_DATA = frozenset(
    {
        60,  # UNKNOWN_TABLE
        81,  # UNKNOWN_DATABASE
        107,  # FILE_DOESNT_EXIST: of the engine's own, the batch's were there
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
    }
)
"""Codes of an insert that no look at its lines will explain."""

_PLAIN_NAME = re.compile(r"[\w.=@+-]+", re.ASCII)
_PLAIN_FOLDER = re.compile(r"[\w.=@+/-]+", re.ASCII)
_READ_BYTES = 1024 * 1024


class ClickHouseWarehouse:
    """`Warehouse` over an open database, whose schema is migrated and which it doesn't close."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self,
        attempt: int,
        table: Signal,
        day: date,
        files: Sequence[Path],
        *,
        exclude: Mapping[str, Sequence[SeqRange]] | None = None,
    ) -> None:
        await self.insert_into(table, LINE_TABLES[table], attempt, day, files, exclude=exclude)

    async def insert_into(
        self,
        name: str,
        lines: LineTable,
        attempt: int,
        day: date,
        files: Sequence[Path],
        *,
        exclude: Mapping[str, Sequence[SeqRange]] | None = None,
    ) -> None:
        """`insert` into a table of another name: the self-test's."""
        if not files:
            raise ValueError("a batch has at least one file")
        missing = [path for path in files if not path.is_file()]
        if missing:  # a glob passes over what isn't there
            raise FileNotFoundError(f"{missing[0]} of attempt {attempt} is not there")
        try:
            if self._database.in_process:
                with _pattern(files) as pattern:
                    source = f"file({_quoted(pattern)}, 'JSONEachRow', {_quoted(lines.structure)}, 'auto')"
                    statement = _statement(name, lines, source, attempt, day, exclude)
                    await self._database.command(
                        f"INSERT INTO {statement}", query_id=query_id(attempt)
                    )
            else:
                source = f"input({_quoted(lines.structure)})"
                await self._database.send(
                    _statement(name, lines, source, attempt, day, exclude),
                    lambda: _bodies(files),
                    query_id=query_id(attempt),
                )
        except DatabaseUnavailableError:
            raise
        except DatabaseError as error:
            if error.code is None or error.code in _NOT_THE_DATA:
                raise DatabaseUnavailableError(str(error), code=error.code) from error
            raise

    async def read_back(self, attempt: int, table: Signal, day: date) -> dict[str, WriterSums]:
        return await self.read_back_from(table, attempt, day)

    async def read_back_from(self, name: str, attempt: int, day: date) -> dict[str, WriterSums]:
        """`read_back` of a table of another name: the self-test's."""
        rows = await self._database.rows(
            "SELECT writer, count() AS rows, min(seq) AS min_seq, max(seq) AS max_seq,"
            " sum(seq) AS seq_sum, sum(cityHash64(seq)) AS hash_sum,"
            " min(project) AS min_project, max(project) AS max_project"
            " FROM {table:Identifier} WHERE ingest_day = {day:Date} AND batch = {attempt:UInt64}"
            " GROUP BY writer",
            {"table": name, "day": day, "attempt": attempt},
            _READ_SETTINGS,
        )
        return {
            str(row["writer"]): WriterSums(
                count=int(row["rows"]),
                min_seq=int(row["min_seq"]),
                max_seq=int(row["max_seq"]),
                seq_sum=int(row["seq_sum"]),
                hash_sum=int(row["hash_sum"]),
                min_project=str(row["min_project"]),
                max_project=str(row["max_project"]),
            )
            for row in rows
        }

    async def hash_sums(self, ranges: Mapping[str, Sequence[SeqRange]]) -> dict[str, int]:
        # The engine needs 4 ms for 250,000 seqs, pure Python 95; so one query for all writers.
        wanted = [
            (number, first, last)
            for number, pairs in enumerate(ranges.values())
            for first, last in pairs
        ]
        sums = dict.fromkeys(ranges, 0)
        names = list(ranges)
        for start in range(0, len(wanted), _RANGES_AT_A_TIME):
            rows = await self._database.rows(
                "SELECT range.1 AS number, sum(arraySum(n -> cityHash64(range.2 + n),"
                " range(range.3 - range.2 + 1))) AS hash_sum"
                " FROM (SELECT arrayJoin({ranges:Array(Tuple(UInt64, UInt64, UInt64))}) AS range)"
                " GROUP BY number",
                {"ranges": wanted[start : start + _RANGES_AT_A_TIME]},
                {"max_block_size": 16, "function_range_max_elements_in_block": 1_000_000_000},
            )
            for row in rows:
                name = names[int(row["number"])]
                sums[name] = (sums[name] + int(row["hash_sum"])) % 2**64
        return sums

    async def derive(self, attempt: int, table: Signal, day: date) -> None:
        select = _DERIVED.get(table)
        if select is not None:
            await self._database.command(
                "INSERT INTO trace_index (trace_id, project, ingest_day, start_time, end_time)"
                f" {settings_clause(_DERIVE_SETTINGS)} {select}",
                {"day": day, "attempt": attempt},
                query_id=f"{query_id(attempt)}-derive",
            )

    async def delete_attempt(self, attempt: int, table: Signal, day: date) -> None:
        await self.delete_attempt_from(table, attempt, day)

    async def delete_attempt_from(self, name: str, attempt: int, day: date) -> None:
        """`delete_attempt` of a table of another name: the self-test's."""
        present = await self._database.rows(
            "SELECT batch FROM {table:Identifier}"
            " WHERE ingest_day = {day:Date} AND batch = {attempt:UInt64} GROUP BY batch",
            {"table": name, "day": day, "attempt": attempt},
            _READ_SETTINGS,
        )
        if not present:
            return
        await self._database.command(
            "DELETE FROM {table:Identifier} IN PARTITION {day:String}"
            " WHERE batch = {attempt:UInt64}",
            {"table": name, "day": day.isoformat(), "attempt": attempt},
            {"lightweight_deletes_sync": 2},
            query_id=f"{query_id(attempt)}-delete",
        )
        left = await self.read_back_from(name, attempt, day)
        if left:
            raise DatabaseUnavailableError(
                f"{sum(sums.count for sums in left.values())} rows of attempt {attempt} in {name} "
                f"({day}) are still there after their deletion"
            )

    async def kill(self, attempt: int) -> None:
        await self._database.kill(query_id(attempt))

    async def attempts_present(
        self, table: Signal, days: Collection[date], attempts: Collection[int]
    ) -> set[int]:
        return await self._attempts(table, days, attempts, wanted=True)

    async def unknown_attempts(
        self, table: Signal, days: Collection[date], known: Collection[int]
    ) -> set[int]:
        return await self._attempts(table, days, known, wanted=False)

    async def _attempts(
        self, table: Signal, days: Collection[date], attempts: Collection[int], *, wanted: bool
    ) -> set[int]:
        if not days or (wanted and not attempts):
            return set()
        rows = await self._database.rows(
            "SELECT batch FROM {table:Identifier} WHERE ingest_day IN {days:Array(Date)}"
            " AND (batch IN {attempts:Array(UInt64)}) = {wanted:UInt8} GROUP BY batch",
            {
                "table": table,
                "days": sorted(days),
                "attempts": sorted(attempts),
                "wanted": int(wanted),
            },
            _READ_SETTINGS,
        )
        return {int(row["batch"]) for row in rows}

    async def self_test(self) -> None:
        check_engine(self._database)
        await warehouse_selftest.run(self._database, self)

    async def quarantine_add(self, rows: Sequence[QuarantineRow]) -> None:
        columns = [field.name for field in fields(QuarantineRow)]
        await self._database.insert("quarantine", columns, [astuple(row) for row in rows])

    async def ledger_copy(self, rows: Sequence[LedgerRow]) -> None:
        columns = [field.name for field in fields(LedgerRow)]
        await self._database.insert("ledger", columns, [astuple(row) for row in rows])


_RANGES_AT_A_TIME = 5_000

_READ_SETTINGS = {
    # Without the projection a read-back scans the partition; that must not pass unseen for long.
    "optimize_use_projections": 1,
}

_DERIVE_SETTINGS = {"async_insert": 0, "max_threads": 2, "max_insert_threads": 1}

# A clock that is set back ends spans before they begin, and nobody looks for a trace after its end.
_DERIVED: Mapping[Signal, str] = {
    "spans": (
        "SELECT trace_id, project, ingest_day, min(start_time),"
        " max(greatest(start_time, end_time)) FROM spans"
        " WHERE ingest_day = {day:Date} AND batch = {attempt:UInt64}"
        " GROUP BY trace_id, project, ingest_day"
    ),
    "traces": (
        "SELECT id, project, ingest_day, min(start_time),"
        " max(greatest(start_time, end_time)) FROM traces"
        " WHERE ingest_day = {day:Date} AND batch = {attempt:UInt64}"
        " GROUP BY id, project, ingest_day"
    ),
}


def query_id(attempt: int) -> str:
    """The id under which an attempt's insert runs."""
    return f"spanyard-{attempt}"


def _statement(
    name: str,
    lines: LineTable,
    source: str,
    attempt: int,
    day: date,
    exclude: Mapping[str, Sequence[SeqRange]] | None,
) -> str:
    settings = dict(INSERT_SETTINGS)
    if lines.deferred:
        settings["exclude_materialize_skip_indexes_on_insert"] = ",".join(lines.deferred)
    select = lines.select(source, attempt=attempt, day=day, where=_anti_join(exclude or {}))
    return f"{name} ({lines.column_list}) {settings_clause(settings)} {select}"


def _anti_join(exclude: Mapping[str, Sequence[SeqRange]]) -> str:
    """A condition that leaves out these rows; one look-up per row, however many writers."""
    named = {writer: pairs for writer, pairs in exclude.items() if pairs}
    if not named:
        return ""
    writers = ", ".join(_quoted(writer) for writer in named)
    ranges = ", ".join(
        f"[{', '.join(f'(toUInt64({a:d}), toUInt64({b:d}))' for a, b in pairs)}]"
        for pairs in named.values()
    )
    number = "accurateCast(seq, 'UInt64')"
    return (
        f"NOT arrayExists(range -> {number} >= range.1 AND {number} <= range.2,"
        f" arrayElement([{ranges}], indexOf([{writers}], writer)))"
    )


@contextmanager
def _pattern(files: Sequence[Path]) -> Iterator[str]:
    """One glob for these files.

    A list in braces works inside one folder only; across folders the engine finds nothing, and
    says nothing (tried). So anything but plain names in one folder goes through links.
    """
    folder = files[0].parent
    plain = _PLAIN_FOLDER.fullmatch(str(folder)) and all(
        path.parent == folder and _PLAIN_NAME.fullmatch(path.name) for path in files
    )
    if plain and folder.is_absolute():
        names = ",".join(path.name for path in files)
        yield f"{folder}/{{{names}}}" if len(files) > 1 else str(files[0])
        return
    with tempfile.TemporaryDirectory(prefix="spanyard-batch-") as links:
        for number, path in enumerate(files):
            suffix = ".jsonl" if path.suffix == ".jsonl" else ".jsonl.zst"
            Path(links, f"{number:06d}{suffix}").symlink_to(path.resolve())
        yield f"{links}/*.jsonl*"


def _bodies(files: Sequence[Path]) -> Iterable[bytes]:
    """The files' bytes one after the other, all zstd."""
    for path in files:
        with path.open("rb") as file:
            if path.suffix == ".jsonl":
                yield from zstandard.ZstdCompressor(level=1).read_to_iter(
                    file, read_size=_READ_BYTES
                )
            else:
                while block := file.read(_READ_BYTES):
                    yield block


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
