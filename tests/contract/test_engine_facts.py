"""What the installed ClickHouse really does: the facts that the ingester is built on, or fears.

Each test names one fact. When an engine upgrade changes it, the message says which decision of
the design to look at again; a change for the better is a change too.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from spanyard_core.clickhouse import Database, open_database
from spanyard_core.clickhouse.pinned import INSERT_SETTINGS, settings_clause
from spanyard_core.errors import DatabaseError
from tests.fakes.engine import engine_url

pytestmark = pytest.mark.engine

IDENTITY_NOT_TOKENS = (
    "look again at ADR 0002: exactly once rests on (writer, seq), batch and reading back, "
    "because the engine's deduplication was seen to do this"
)
ONE_PART = (
    "look again at spanyard_core.clickhouse.pinned: a batch must become one part, all or nothing"
)
BAD_LINES = (
    "look again at spanyard_core.clickhouse.lines and at the ingester's decoder: this decides "
    "which bad lines ClickHouse refuses and which only our own decoder can find"
)
READ_BACK = "look again at the read-back: it rests on the projection by_batch"
PINNED = settings_clause(INSERT_SETTINGS)


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    opened = await open_database(engine_url(), pool=1)
    try:
        await opened.create_database()
        yield opened
        await opened.command(f"DROP DATABASE `{opened.database}`")
    finally:
        await opened.close()


async def count(db: Database, table: str) -> int:
    [row] = await db.rows(f"SELECT count() AS n FROM {table}")
    return int(row["n"])


async def parts(db: Database, table: str) -> int:
    [row] = await db.rows(
        "SELECT count() AS n FROM system.parts"
        " WHERE database = currentDatabase() AND table = {table:String} AND active",
        {"table": table},
    )
    return int(row["n"])


def write(path: Path, lines: Iterable[bytes | str], *, frames: int = 1) -> Path:
    """Lines as JSONEachRow in zstd, cut into as many concatenated frames."""
    data = [line.encode() if isinstance(line, str) else line for line in lines]
    step = -(-len(data) // frames)
    with path.open("wb") as file:
        for start in range(0, len(data), step):
            block = b"".join(line + b"\n" for line in data[start : start + step])
            file.write(zstandard.compress(block, 1))
    return path


class TestDeduplicationTokens:
    """Why tokens aren't the guard."""

    @pytest.fixture
    async def base(self, db: Database) -> str:
        await db.command(
            "CREATE TABLE base (n UInt64) ENGINE = MergeTree ORDER BY n"
            " SETTINGS non_replicated_deduplication_window = 10"
        )
        return "base"

    async def insert(
        self, db: Database, select: str, token: str, table: str = "base", **settings: Any
    ) -> None:
        chosen: Mapping[str, Any] = {
            "insert_deduplication_token": token,
            "insert_deduplicate": 1,
            "async_insert": 0,
            "max_insert_threads": 1,
            "max_threads": 1,
            **settings,
        }
        await db.command(f"INSERT INTO {table} {settings_clause(chosen)} {select}")

    async def test_different_bytes_under_one_token_are_dropped_in_silence(
        self, db: Database, base: str
    ) -> None:
        await self.insert(db, "SELECT number FROM numbers(10)", "t")
        await self.insert(db, "SELECT number + 100 FROM numbers(20)", "t")
        assert await count(db, base) == 10, IDENTITY_NOT_TOKENS

    async def test_the_same_data_in_other_blocks_doubles_in_spite_of_its_token(
        self, db: Database, base: str
    ) -> None:
        blocks: dict[str, Any] = {"min_insert_block_size_rows": 1, "min_insert_block_size_bytes": 0}
        await self.insert(db, "SELECT number FROM numbers(100)", "t", max_block_size=100, **blocks)
        await self.insert(db, "SELECT number FROM numbers(100)", "t", max_block_size=10, **blocks)
        stored = await count(db, base)
        assert stored > 100, f"{stored} rows: {IDENTITY_NOT_TOKENS}"

    async def test_a_table_without_a_window_takes_the_same_token_twice(self, db: Database) -> None:
        await db.command("CREATE TABLE plain (n UInt64) ENGINE = MergeTree ORDER BY n")
        for _ in range(2):
            await self.insert(db, "SELECT number FROM numbers(10)", "t", "plain")
        assert await count(db, "plain") == 20, IDENTITY_NOT_TOKENS

    async def test_a_window_counts_partitions_so_one_wide_insert_overruns_it(
        self, db: Database
    ) -> None:
        await db.command(
            "CREATE TABLE days (n UInt64) ENGINE = MergeTree PARTITION BY n ORDER BY n"
            " SETTINGS non_replicated_deduplication_window = 10"
        )
        for _ in range(2):
            await self.insert(db, "SELECT number FROM numbers(28)", "t", "days")
        stored = await count(db, "days")
        assert stored > 28, f"{stored} rows: {IDENTITY_NOT_TOKENS}"

    async def test_a_view_whose_target_has_no_window_doubles_beside_a_base_that_does_not(
        self, db: Database, base: str
    ) -> None:
        await db.command("CREATE TABLE target (n UInt64) ENGINE = MergeTree ORDER BY n")
        await db.command("CREATE MATERIALIZED VIEW v TO target AS SELECT n FROM base")
        for _ in range(2):
            await self.insert(
                db,
                "SELECT number FROM numbers(10)",
                "t",
                deduplicate_blocks_in_dependent_materialized_views=1,
            )
        assert await count(db, base) == 10, IDENTITY_NOT_TOKENS
        assert await count(db, "target") == 20, IDENTITY_NOT_TOKENS


TABLE = """
CREATE TABLE lines (
    ingest_day Date, batch UInt64, writer LowCardinality(String), seq UInt64, project String,
    message String,
    PROJECTION by_batch (
        SELECT ingest_day, batch, writer, count(), min(seq), max(seq), sum(seq),
            sum(cityHash64(seq)), min(project), max(project)
        GROUP BY ingest_day, batch, writer
    )
) ENGINE = MergeTree PARTITION BY ingest_day ORDER BY (project, writer, seq)
"""
STRUCTURE = "writer String, seq String, project String, message String"


async def load(
    db: Database, glob: str, *, batch: int = 1, day: str = "toDate('2026-11-21')"
) -> None:
    await db.command(
        f"INSERT INTO lines (ingest_day, batch, writer, seq, project, message) {PINNED}"
        f" SELECT {day}, {batch}, writer, accurateCast(seq, 'UInt64'), project, message"
        f" FROM file('{glob}', 'JSONEachRow', '{STRUCTURE}', 'auto')"
    )


def line(seq: int, writer: str = "w") -> str:
    return f'{{"project":"p","writer":"{writer}","seq":{seq},"message":"hello {seq}"}}'


class TestOneBatchIsOnePart:
    @pytest.fixture(autouse=True)
    async def table(self, db: Database) -> None:
        await db.command(TABLE)

    async def test_many_files_by_glob_become_one_part(self, db: Database, tmp_path: Path) -> None:
        for number in range(20):
            write(
                tmp_path / f"{number}.jsonl.zst",
                (line(number * 1000 + i) for i in range(1, 1001)),
            )
        await load(db, f"{tmp_path}/*.zst")
        assert await count(db, "lines") == 20_000
        assert await parts(db, "lines") == 1, ONE_PART

    async def test_the_default_settings_cut_the_same_rows_into_parts(
        self, db: Database, tmp_path: Path
    ) -> None:
        write(tmp_path / "a.jsonl.zst", (line(i) for i in range(1, 5001)))
        await db.command(
            "INSERT INTO lines (writer, seq)"
            " SETTINGS max_block_size = 1000, min_insert_block_size_rows = 1000,"
            " min_insert_block_size_bytes = 0, max_insert_threads = 1"
            " SELECT writer, seq"
            f" FROM file('{tmp_path}/a.jsonl.zst', 'JSONEachRow', '{STRUCTURE}', 'auto')"
        )
        assert await parts(db, "lines") > 1, ONE_PART

    async def test_three_partitions_are_refused_and_nothing_is_stored(
        self, db: Database, tmp_path: Path
    ) -> None:
        write(tmp_path / "a.jsonl.zst", (line(i) for i in range(1, 4)))
        with pytest.raises(DatabaseError) as refused:
            await load(
                db, f"{tmp_path}/*.zst", day="toDate('2026-11-21') + accurateCast(seq, 'UInt64')"
            )
        assert refused.value.code == 252, ONE_PART
        assert await count(db, "lines") == 0, ONE_PART

    async def test_a_bad_line_at_the_end_leaves_nothing_of_its_batch(
        self, db: Database, tmp_path: Path
    ) -> None:
        write(tmp_path / "a.jsonl.zst", [*(line(i) for i in range(1, 20_000)), '{"seq":"x"}'])
        with pytest.raises(DatabaseError):
            await load(db, f"{tmp_path}/*.zst")
        assert await count(db, "lines") == 0, ONE_PART

    async def test_skippable_and_concatenated_zstd_frames_are_read(
        self, db: Database, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "a.jsonl.zst", (line(i) for i in range(1, 1001)), frames=5)
        facts = b'{"writer":"w","a":1,"b":1000}'
        head = (0x184D2A50).to_bytes(4, "little") + len(facts).to_bytes(4, "little") + facts
        body = path.read_bytes()
        path.write_bytes(head + body + head + zstandard.compress(line(1001).encode() + b"\n"))
        await load(db, f"{tmp_path}/*.zst")
        assert await count(db, "lines") == 1001, (
            "look again at the object format: its facts stand in a leading skippable frame"
        )

    async def test_a_frame_cut_short_loses_its_rows_in_silence(
        self, db: Database, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "a.jsonl.zst", (line(i) for i in range(1, 101)))
        path.write_bytes(path.read_bytes()[:-10])
        await load(db, f"{tmp_path}/*.zst")
        assert await count(db, "lines") == 0, (
            "a cut frame is noticed now; it was not, so the read-back compares with what the "
            "objects declare, and digests are checked before the insert"
        )

    async def test_a_wrong_checksum_of_a_frame_refuses_the_batch(
        self, db: Database, tmp_path: Path
    ) -> None:
        lines = b"".join(line(i).encode() + b"\n" for i in range(1, 1001))
        data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(lines))
        data[-1] ^= 0xFF
        (tmp_path / "a.jsonl.zst").write_bytes(data)
        with pytest.raises(DatabaseError) as refused:
            await load(db, f"{tmp_path}/*.zst")
        assert refused.value.code == 561, ONE_PART
        assert await count(db, "lines") == 0, ONE_PART

    async def test_the_defaults_that_are_pinned_are_still_the_ones_feared(
        self, db: Database
    ) -> None:
        rows = await db.rows(
            "SELECT name, default FROM system.settings WHERE name IN ({names:Array(String)})",
            {"names": ["async_insert", "input_format_skip_unknown_fields"]},
        )
        defaults = {row["name"]: row["default"] for row in rows}
        assert defaults == {"async_insert": "1", "input_format_skip_unknown_fields": "1"}, ONE_PART

    async def test_every_pinned_setting_exists(self, db: Database) -> None:
        rows = await db.rows(
            "SELECT name FROM system.settings WHERE name IN ({names:Array(String)})",
            {"names": list(INSERT_SETTINGS)},
        )
        assert {row["name"] for row in rows} == set(INSERT_SETTINGS), ONE_PART


class TestReadingBack:
    SUMS = (
        "SELECT writer, count() AS n, min(seq) AS a, max(seq) AS b, sum(seq) AS s,"
        " sum(cityHash64(seq)) AS h, min(project) AS p, max(project) AS q FROM lines"
        " WHERE ingest_day = '2026-11-21' AND batch = 7 GROUP BY writer ORDER BY writer"
    )

    @pytest.fixture(autouse=True)
    async def loaded(self, db: Database, tmp_path: Path) -> None:
        await db.command(TABLE)
        write(tmp_path / "a.jsonl.zst", (line(i, w) for w in "uv" for i in range(1, 1001)))
        for batch in (6, 7, 8):
            await load(db, f"{tmp_path}/*.zst", batch=batch)

    async def test_the_sums_of_a_batch_come_from_the_projection(self, db: Database) -> None:
        plan = await db.rows(f"EXPLAIN indexes = 1, projections = 1 {self.SUMS}")
        text = "\n".join(next(iter(row.values())) for row in plan)
        assert "by_batch" in text, f"{READ_BACK}\n{text}"
        rows = await db.rows(self.SUMS)
        assert [(r["writer"], r["n"], r["a"], r["b"], r["s"]) for r in rows] == [
            ("u", 1000, 1, 1000, 500_500),
            ("v", 1000, 1, 1000, 500_500),
        ], READ_BACK

    async def test_the_sums_find_one_row_doubled_and_another_missing(self, db: Database) -> None:
        # 1, 4, 4, 7 and 1, 3, 5, 7: the same count, minimum, maximum and sum.
        [row] = await db.rows(
            "SELECT arraySum(n -> cityHash64(toUInt64(n)), [1, 4, 4, 7])"
            " = arraySum(n -> cityHash64(toUInt64(n)), [1, 3, 5, 7]) AS same"
        )
        assert not row["same"], READ_BACK

    async def test_a_batch_is_deleted_exactly_and_the_sums_follow(self, db: Database) -> None:
        await db.command(
            "ALTER TABLE lines MODIFY SETTING lightweight_mutation_projection_mode = 'rebuild'"
        )
        await db.command(
            "DELETE FROM lines IN PARTITION '2026-11-21' WHERE batch = 7",
            settings={"lightweight_deletes_sync": 2},
        )
        assert await db.rows(self.SUMS) == [], READ_BACK
        rows = await db.rows("SELECT batch, count() AS n FROM lines GROUP BY batch ORDER BY batch")
        assert [(r["batch"], r["n"]) for r in rows] == [(6, 2000), (8, 2000)], READ_BACK

    async def test_without_the_rebuild_mode_such_a_delete_is_refused(self, db: Database) -> None:
        with pytest.raises(DatabaseError, match="projection"):
            await db.command("DELETE FROM lines WHERE batch = 7")


ACCEPTED = {
    "null for a text": b'{"writer":"w","seq":1,"project":"p","message":null}',
    "a missing field": b'{"writer":"w","seq":1,"project":"p"}',
    "an object for a text": b'{"writer":"w","seq":1,"project":"p","message":{"a":1}}',
    "a number for a text": b'{"writer":"w","seq":1,"project":"p","message":1e999}',
    "a bad escape": b'{"writer":"w","seq":1,"project":"p","message":"\\q"}',
    "a raw control character": b'{"writer":"w","seq":1,"project":"p","message":"\x01"}',
    "a raw NUL": b'{"writer":"w","seq":1,"project":"p","message":"a\x00b"}',
    "invalid UTF-8": b'{"writer":"w","seq":1,"project":"p","message":"\xff\xfe"}',
    "a blank line beside it": b'\n\n{"writer":"w","seq":1,"project":"p","message":""}\n',
    "a second object on the line": (
        b'{"writer":"w","seq":1,"project":"p","message":""}'
        b'{"writer":"w","seq":1,"project":"p","message":""}'
    ),
    "a text for the number": b'{"writer":"w","seq":"1","project":"p","message":""}',
}
REFUSED = {
    "broken JSON": b'{"writer":"w","seq":1',
    "not JSON": b"hello",
    "an array": b"[1]",
    "an unknown field": b'{"writer":"w","seq":1,"project":"p","colour":"red"}',
    "a field named twice": b'{"writer":"w","seq":1,"seq":2,"project":"p"}',
    "a field in the wrong case": b'{"Writer":"w","seq":1,"project":"p"}',
    "a negative number": b'{"writer":"w","seq":-1,"project":"p"}',
    "a fraction": b'{"writer":"w","seq":1.5,"project":"p"}',
    "an exponent": b'{"writer":"w","seq":1e3,"project":"p"}',
    "a number of 65 bits": b'{"writer":"w","seq":18446744073709551616,"project":"p"}',
    "a number beyond 128 bits": (
        b'{"writer":"w","seq":340282366920938463463374607431768211457,"project":"p"}'
    ),
    "no number": b'{"writer":"w","project":"p"}',
}


class TestBadLines:
    @pytest.fixture(autouse=True)
    async def table(self, db: Database) -> None:
        await db.command(TABLE)

    @pytest.mark.parametrize("what", ACCEPTED)
    async def test_accepted_in_silence(self, db: Database, tmp_path: Path, what: str) -> None:
        write(tmp_path / "a.jsonl.zst", [line(5), ACCEPTED[what], line(6)])
        await load(db, f"{tmp_path}/*.zst")
        assert await count(db, "lines") >= 3, f"{what}: {BAD_LINES}"

    @pytest.mark.parametrize("what", REFUSED)
    async def test_refused_with_its_whole_batch(
        self, db: Database, tmp_path: Path, what: str
    ) -> None:
        write(tmp_path / "a.jsonl.zst", [line(5), REFUSED[what], line(6)])
        with pytest.raises(DatabaseError):
            await load(db, f"{tmp_path}/*.zst")
        assert await count(db, "lines") == 0, f"{what}: {BAD_LINES}"

    async def test_a_text_over_64_bits_wraps_unless_the_cast_is_accurate(
        self, db: Database
    ) -> None:
        [row] = await db.rows("SELECT toUInt64('18446744073709551621') AS wrapped")
        assert row["wrapped"] == 5, BAD_LINES
        with pytest.raises(DatabaseError):
            await db.rows("SELECT accurateCast('18446744073709551621', 'UInt64')")

    @pytest.mark.parametrize(
        "time",
        [
            "2500-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "2262-04-12T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T10:00:00Zfoo",
            "soon",
            "",
        ],
    )
    async def test_a_time_out_of_range_is_refused_and_not_wrapped(
        self, db: Database, time: str
    ) -> None:
        with pytest.raises(DatabaseError):
            await db.rows("SELECT parseDateTime64BestEffort({t:String}, 9, 'UTC')", {"t": time})

    @pytest.mark.parametrize(
        ("time", "read_as"),
        [
            ("2026-11-21T25:00:00Z", "2026-11-22 01:00:00.000000000"),
            ("2026-11-21T10:61:00Z", "2026-11-21 11:01:00.000000000"),
            ("1700000000", "2023-11-14 22:13:20.000000000"),
            ("Nov 21 2026", "2026-11-21 00:00:00.000000000"),
        ],
    )
    async def test_some_strange_times_are_read_in_silence(
        self, db: Database, time: str, read_as: str
    ) -> None:
        [row] = await db.rows(
            "SELECT toString(parseDateTime64BestEffort({t:String}, 9, 'UTC')) AS t", {"t": time}
        )
        assert row["t"] == read_as, BAD_LINES
