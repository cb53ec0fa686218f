"""What the ingester may expect of a warehouse, on every implementation of it.

Add one to `IMPLEMENTATIONS`: an async context manager that yields a `Bench`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest
import zstandard

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.hashes import city_hash64, city_hash64_sum
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_core.records import AnyLine, LogLine, Signal, SpanLine, TraceLine
from spanyard_ingester.warehouse import LedgerRow, QuarantineRow, Warehouse, WriterSums
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.clickhouse_server import running_clickhouse
from tests.fakes.engine import migrated_database

pytestmark = pytest.mark.engine

DAY = date(2026, 11, 21)
NEXT_DAY = date(2026, 11, 22)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Bench:
    """A warehouse under test, and a look at what it holds."""

    warehouse: Warehouse
    count: Callable[[str], Awaitable[int]]
    """Rows in a table: a signal's, or `trace_index`, `quarantine`, `ledger` after replacement."""


def _counter(db: Database) -> Callable[[str], Awaitable[int]]:
    async def count(table: str) -> int:
        if table == "trace_index":
            source = "(SELECT DISTINCT trace_id, project FROM trace_index)"
        else:
            source = table if table in {"logs", "spans", "traces"} else f"{table} FINAL"
        [row] = await db.rows(f"SELECT count() AS n FROM {source}")
        return int(row["n"])

    return count


@asynccontextmanager
async def embedded() -> AsyncIterator[Bench]:
    async with migrated_database() as db:
        yield Bench(ClickHouseWarehouse(db), _counter(db))


@asynccontextmanager
async def over_http() -> AsyncIterator[Bench]:
    async with (
        migrated_database() as db,
        running_clickhouse() as server,
        database(server.url(db.database)) as remote,
    ):
        yield Bench(ClickHouseWarehouse(remote), _counter(db))


IMPLEMENTATIONS: dict[str, Callable[[], AbstractAsyncContextManager[Bench]]] = {
    "embedded": embedded,
    "http": over_http,
}


@pytest.fixture(params=IMPLEMENTATIONS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with IMPLEMENTATIONS[request.param]() as opened:
        yield opened


def log(seq: int, writer: str = "w", **fields: str) -> LogLine:
    values = {
        "project": "team.shop",
        "timestamp": "2026-11-21T14:45:00.123456789Z",
        "level": "info",
        "message": f"line {seq}",
        **fields,
    }
    return LogLine(writer=writer, seq=seq, **values)  # type: ignore[arg-type]


def logs(first: int, last: int, writer: str = "w") -> list[AnyLine]:
    return [log(seq, writer) for seq in range(first, last + 1)]


def write(path: Path, lines: Iterable[AnyLine | bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(
        (line if isinstance(line, bytes) else msgspec.json.encode(line)) + b"\n" for line in lines
    )
    if path.suffix == ".jsonl":
        path.write_bytes(data)
    else:
        facts = b'{"v":1}'
        frame = (0x184D2A5D).to_bytes(4, "little") + len(facts).to_bytes(4, "little") + facts
        path.write_bytes(frame + zstandard.compress(data, 1))
    return path


def sums(first: int, last: int, project: str = "team.shop") -> WriterSums:
    return WriterSums(
        count=last - first + 1,
        min_seq=first,
        max_seq=last,
        seq_sum=sum(range(first, last + 1)),
        hash_sum=city_hash64_sum([(first, last)]),
        min_project=project,
        max_project=project,
    )


class TestInsertAndReadBack:
    async def test_a_batch_of_many_files_reads_back_by_writer(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        files = [
            write(tmp_path / "a.jsonl.zst", logs(1, 500, "u")),
            write(tmp_path / "b.jsonl.zst", logs(501, 900, "u")),
            write(tmp_path / "c.jsonl.zst", logs(7, 9, "v")),
        ]
        await bench.warehouse.insert(11, "logs", DAY, files)
        stored = await bench.warehouse.read_back(11, "logs", DAY)
        assert stored == {"u": sums(1, 900), "v": sums(7, 9)}

    async def test_what_was_never_inserted_reads_back_as_nothing(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        await bench.warehouse.insert(11, "logs", DAY, [write(tmp_path / "a.jsonl.zst", logs(1, 3))])
        assert await bench.warehouse.read_back(12, "logs", DAY) == {}
        assert await bench.warehouse.read_back(11, "logs", NEXT_DAY) == {}
        assert await bench.warehouse.read_back(11, "spans", DAY) == {}

    async def test_attempts_with_the_same_lines_stay_apart(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        file = write(tmp_path / "a.jsonl.zst", logs(1, 3))
        await bench.warehouse.insert(2**64 - 1, "logs", DAY, [file])
        await bench.warehouse.insert(12, "logs", DAY, [file])
        assert await bench.warehouse.read_back(2**64 - 1, "logs", DAY) == {"w": sums(1, 3)}
        assert await bench.warehouse.read_back(12, "logs", DAY) == {"w": sums(1, 3)}
        assert await bench.count("logs") == 6

    async def test_large_seqs_keep_their_sums(self, bench: Bench, tmp_path: Path) -> None:
        first = 2**64 - 3
        await bench.warehouse.insert(
            1, "logs", DAY, [write(tmp_path / "a.jsonl.zst", logs(first, first + 2))]
        )
        stored = (await bench.warehouse.read_back(1, "logs", DAY))["w"]
        assert stored == replace(
            sums(first, first + 2), seq_sum=sum(range(first, first + 3)) % 2**64
        )

    async def test_somebody_elses_project_shows_in_the_sums(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        lines = [*logs(1, 2), log(3, project="other.shop")]
        await bench.warehouse.insert(1, "logs", DAY, [write(tmp_path / "a.jsonl.zst", lines)])
        stored = (await bench.warehouse.read_back(1, "logs", DAY))["w"]
        assert (stored.min_project, stored.max_project) == ("other.shop", "team.shop")

    async def test_plain_and_compressed_files_with_odd_names_in_many_folders(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        files = [
            write(tmp_path / "a" / "x,{y}*'?.jsonl.zst", logs(1, 2)),
            write(tmp_path / "b c" / "x.jsonl", logs(3, 4)),
            write(tmp_path / "d" / "x.jsonl.zst", logs(5, 6)),
        ]
        await bench.warehouse.insert(1, "logs", DAY, files)
        assert await bench.warehouse.read_back(1, "logs", DAY) == {"w": sums(1, 6)}

    async def test_a_file_that_is_not_there_stops_the_batch(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        files = [write(tmp_path / "a.jsonl.zst", logs(1, 2)), tmp_path / "b.jsonl.zst"]
        with pytest.raises(FileNotFoundError):
            await bench.warehouse.insert(1, "logs", DAY, files)
        assert await bench.count("logs") == 0

    async def test_excluded_ranges_are_left_out(self, bench: Bench, tmp_path: Path) -> None:
        files = [
            write(tmp_path / "a.jsonl.zst", logs(1, 100, "u")),
            write(tmp_path / "b.jsonl.zst", logs(1, 100, "it's")),
            write(tmp_path / "c.jsonl.zst", logs(1, 100, "v")),
        ]
        exclude = {"u": [(1, 10), (50, 100)], "it's": [(11, 100)], "v": [], "nobody": [(1, 5)]}
        await bench.warehouse.insert(1, "logs", DAY, files, exclude=exclude)
        assert await bench.warehouse.read_back(1, "logs", DAY) == {
            "u": sums(11, 49),
            "it's": sums(1, 10),
            "v": sums(1, 100),
        }


def without(field: str) -> bytes:
    return msgspec.json.encode({k: v for k, v in RAW.items() if k != field})


def changed(**fields: object) -> bytes:
    return msgspec.json.encode({**RAW, **fields})


RAW = msgspec.json.decode(msgspec.json.encode(log(2)))
BAD = {
    "broken JSON": b'{"type":"log","project":"team.shop"',
    "no JSON": b"hello",
    "an empty object": b"{}",
    "an unknown field": changed(colour="red"),
    "seq beyond 64 bits": msgspec.json.encode(log(2)).replace(
        b'"seq":2', b'"seq":18446744073709551618'
    ),
    "seq 0": changed(seq=0),
    "seq below 0": changed(seq=-2),
    "seq with a fraction": changed(seq=2.5),
    "no seq": without("seq"),
    "no project": without("project"),
    "an empty project": changed(project=""),
    "no writer": without("writer"),
    "NUL in the writer": changed(writer="a\0b"),
    "another type": changed(type="span"),
    "no type": without("type"),
    "an unknown level": changed(level="loud"),
    "no level": without("level"),
    "no time": without("timestamp"),
    "year 9999": changed(timestamp="9999-01-01T00:00:00Z"),
    "year 2500": changed(timestamp="2500-01-01T00:00:00Z"),
    "30 February": changed(timestamp="2026-02-30T00:00:00Z"),
    "25 o'clock": changed(timestamp="2026-02-20T25:00:00Z"),
    "minute 61": changed(timestamp="2026-02-20T10:61:00Z"),
    "seconds since 1970": changed(timestamp="1700000000"),
    "a strange recordedAt": changed(recordedAt="soon"),
    "attributes that are a text": changed(attributes="x"),
}


class TestRefusal:
    @pytest.mark.parametrize("what", BAD)
    async def test_one_bad_line_refuses_the_whole_batch(
        self, bench: Bench, tmp_path: Path, what: str
    ) -> None:
        files = [
            write(tmp_path / "a.jsonl.zst", logs(1, 50)),
            write(tmp_path / "b.jsonl.zst", [log(51), BAD[what], log(53)]),
        ]
        with pytest.raises(DatabaseError) as refused:
            await bench.warehouse.insert(1, "logs", DAY, files)
        assert not isinstance(refused.value, DatabaseUnavailableError)
        assert await bench.warehouse.read_back(1, "logs", DAY) == {}
        assert await bench.count("logs") == 0

    async def test_a_file_that_is_not_zstd_is_refused(self, bench: Bench, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.zst"
        path.write_bytes(b"not zstd at all" * 100)
        with pytest.raises(DatabaseError) as refused:
            await bench.warehouse.insert(1, "logs", DAY, [path])
        assert not isinstance(refused.value, DatabaseUnavailableError)
        assert await bench.count("logs") == 0


def span(seq: int, trace: str, start: str, end: str | None) -> SpanLine:
    return SpanLine(
        project="team.shop",
        writer="w",
        seq=seq,
        id=f"s{seq}",
        trace_id=trace,
        name="work",
        start_time=start,
        end_time=end,
    )


class TestDerive:
    async def test_it_can_be_repeated_at_will(self, bench: Bench, tmp_path: Path) -> None:
        lines = [
            span(1, "t1", "2026-11-21T10:00:00Z", "2026-11-21T10:00:05Z"),
            span(2, "t1", "2026-11-21T09:00:00Z", None),
            span(3, "t2", "2026-11-21T10:00:00Z", "2026-11-21T10:00:05Z"),
        ]
        await bench.warehouse.insert(1, "spans", DAY, [write(tmp_path / "a.jsonl.zst", lines)])
        for _ in range(3):
            await bench.warehouse.derive(1, "spans", DAY)
        assert await bench.count("trace_index") == 2

    async def test_traces_and_signals_without_a_derived_table(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        line = TraceLine(
            project="team.shop",
            writer="w",
            seq=1,
            id="t9",
            name="ask",
            start_time="2026-11-21T10:00:00Z",
            end_time=None,
        )
        await bench.warehouse.insert(1, "traces", DAY, [write(tmp_path / "a.jsonl.zst", [line])])
        await bench.warehouse.insert(2, "logs", DAY, [write(tmp_path / "b.jsonl.zst", logs(1, 2))])
        await bench.warehouse.derive(1, "traces", DAY)
        await bench.warehouse.derive(2, "logs", DAY)
        assert await bench.count("trace_index") == 1


class TestRecovery:
    async def test_an_attempt_is_deleted_exactly(self, bench: Bench, tmp_path: Path) -> None:
        file = write(tmp_path / "a.jsonl.zst", logs(1, 100))
        for attempt in (1, 2, 3):
            await bench.warehouse.insert(attempt, "logs", DAY, [file])
        await bench.warehouse.insert(2, "logs", NEXT_DAY, [file])
        await bench.warehouse.delete_attempt(2, "logs", DAY)
        assert await bench.warehouse.read_back(2, "logs", DAY) == {}
        assert await bench.warehouse.read_back(1, "logs", DAY) == {"w": sums(1, 100)}
        assert await bench.warehouse.read_back(3, "logs", DAY) == {"w": sums(1, 100)}
        assert await bench.warehouse.read_back(2, "logs", NEXT_DAY) == {"w": sums(1, 100)}
        assert await bench.count("logs") == 300

    async def test_deleting_twice_or_nothing_is_no_error(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        file = write(tmp_path / "a.jsonl.zst", logs(1, 10))
        await bench.warehouse.insert(1, "logs", DAY, [file])
        for _ in range(2):
            await bench.warehouse.delete_attempt(1, "logs", DAY)
        await bench.warehouse.delete_attempt(99, "logs", NEXT_DAY)
        assert await bench.count("logs") == 0

    async def test_a_deleted_attempt_can_be_followed_by_another(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        file = write(tmp_path / "a.jsonl.zst", logs(1, 10))
        await bench.warehouse.insert(1, "logs", DAY, [file])
        await bench.warehouse.delete_attempt(1, "logs", DAY)
        await bench.warehouse.insert(2, "logs", DAY, [file])
        assert await bench.warehouse.read_back(2, "logs", DAY) == {"w": sums(1, 10)}

    async def test_killing_what_does_not_run_is_no_error(self, bench: Bench) -> None:
        await bench.warehouse.kill(77)

    async def test_the_audit_finds_abandoned_and_unknown_attempts(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        file = write(tmp_path / "a.jsonl.zst", logs(1, 10))
        for attempt in (1, 2, 3):
            await bench.warehouse.insert(attempt, "logs", DAY, [file])
        await bench.warehouse.insert(4, "logs", NEXT_DAY, [file])
        house = bench.warehouse
        assert await house.attempts_present("logs", [DAY], [2, 3, 4, 5]) == {2, 3}
        assert await house.attempts_present("logs", [DAY, NEXT_DAY], [2, 4]) == {2, 4}
        assert await house.attempts_present("logs", [], [2]) == set()
        assert await house.attempts_present("logs", [DAY], []) == set()
        assert await house.unknown_attempts("logs", [DAY, NEXT_DAY], [1, 2]) == {3, 4}
        assert await house.unknown_attempts("logs", [DAY], []) == {1, 2, 3}
        assert await house.unknown_attempts("spans", [DAY], []) == set()


class TestHashSums:
    async def test_they_are_those_of_the_read_back(self, bench: Bench, tmp_path: Path) -> None:
        file = write(tmp_path / "a.jsonl.zst", [*logs(3, 9), *logs(20, 40)])
        await bench.warehouse.insert(1, "logs", DAY, [file])
        stored = await bench.warehouse.read_back(1, "logs", DAY)
        expected = await bench.warehouse.hash_sums({"w": [(3, 9), (20, 40)]})
        assert expected == {"w": stored["w"].hash_sum}

    async def test_ranges_of_any_size_and_writers_without_any(self, bench: Bench) -> None:
        ranges = {
            "u": [(1, 150_000), (10**15, 10**15 + 5)],
            "none": [],
            "v": [(2**64 - 2, 2**64 - 1)],
        }
        expected = {writer: city_hash64_sum(pairs) for writer, pairs in ranges.items()}
        assert await bench.warehouse.hash_sums(ranges) == expected
        assert await bench.warehouse.hash_sums({}) == {}

    async def test_one_row_doubled_and_another_missing_changes_it(self, bench: Bench) -> None:
        found = await bench.warehouse.hash_sums(
            {"right": [(1, 1), (3, 3), (5, 5), (7, 7)], "wrong": [(1, 1), (4, 4), (4, 4), (7, 7)]}
        )
        assert found["right"] != found["wrong"]


class TestBookkeeping:
    async def test_quarantine_rows_are_replaced_by_id(self, bench: Bench) -> None:
        row = QuarantineRow(
            id="q1",
            project="team.shop",
            signal="logs",
            key="observability/logs/team.shop/x.jsonl.zst",
            writer="w",
            line=3,
            offset=400,
            reason="no JSON",
            bytes=b"\xff\x00not json",
            size=10,
            created_at=NOON,
            updated_at=NOON,
        )
        for _ in range(2):
            await bench.warehouse.quarantine_add([row, replace(row, id="q2")])
        later = NOON.replace(hour=13)
        await bench.warehouse.quarantine_add([replace(row, status="replayed", updated_at=later)])
        assert await bench.count("quarantine") == 2
        await bench.warehouse.quarantine_add([])

    async def test_ledger_rows_are_replaced(self, bench: Bench) -> None:
        row = LedgerRow(
            shard=0,
            n=1,
            attempt=2**64 - 1,
            key="k",
            writer="w",
            seq_from=1,
            seq_to=10,
            records=10,
            signal="logs",
            project="team.shop",
            status="planned",
            time=NOON,
        )
        later = replace(row, status="committed", time=NOON.replace(hour=13))
        for _ in range(2):
            await bench.warehouse.ledger_copy([row, replace(row, key="other")])
            await bench.warehouse.ledger_copy([later])
        assert await bench.count("ledger") == 2


async def test_the_self_test_passes_and_leaves_nothing(bench: Bench) -> None:
    await bench.warehouse.self_test()
    assert await bench.count("logs") == 0


def test_the_hash_outside_the_engine_is_a_known_one() -> None:
    assert city_hash64(12345) == 16722121143744093920  # by the engine: cityHash64(12345::UInt64)


def test_signals_of_the_contract_are_those_of_the_records() -> None:
    from spanyard_core.clickhouse.lines import LINE_TABLES
    from spanyard_core.records import SIGNALS

    signals: tuple[Signal, ...] = tuple(LINE_TABLES)
    assert set(signals) == set(SIGNALS)
