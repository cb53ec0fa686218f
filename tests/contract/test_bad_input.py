"""Bad input against the real engine.

The line check must find whatever the engine refuses or miscounts, else a batch could not be
mended; and every line that it lets pass must be stored by the engine as one row of that seq.
"""

import asyncio
import json
import random
import resource
import time
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanyard_core.clickhouse import Database
from spanyard_core.clickhouse.hashes import city_hash64
from spanyard_core.clock import SystemClock
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_core.files import SystemFiles
from spanyard_core.records import Signal
from spanyard_core.storage import open_storage
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.linecheck import BadLineError, Expected, LineCheck
from spanyard_ingester.quarantine import Quarantine
from spanyard_ingester.quarantine_store import ClickHouseQuarantine
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.warehouse import WriterSums
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import migrated_database
from tests.fakes.objects import log_chunk, log_line

pytestmark = pytest.mark.engine

DAY = date(2026, 11, 21)
TIME = "2026-11-21T12:00:00.000000001Z"
IDENTITY = {"project": "team.shop", "writer": "w", "seq": 1}
GOOD: dict[Signal, dict[str, Any]] = {
    "logs": {"type": "log", **IDENTITY, "timestamp": TIME, "level": "info", "message": "m"},
    "spans": {
        "type": "span",
        **IDENTITY,
        "id": "a",
        "traceId": "t",
        "name": "n",
        "startTime": TIME,
        "endTime": TIME,
        "attributes": {"gen_ai.system": "x", "n": 1, "deep": {"a": [1, None, True]}},
        "events": [{"name": "e", "timestamp": TIME}],
    },
    "traces": {
        "type": "trace",
        **IDENTITY,
        "id": "t",
        "name": "n",
        "startTime": TIME,
        "endTime": None,
        "input": {"q": [1, 2]},
        "output": "text",
    },
    "metrics": {
        "type": "metric",
        **IDENTITY,
        "name": "m",
        "kind": "histogram",
        "value": 1.5,
        "timestamp": TIME,
        "count": 3,
        "min": 0.5,
        "max": "Infinity",
        "bounds": [1.0, 2.0],
        "bucketCounts": [1, 1, 18446744073709551615],
        "exemplars": [{"timestamp": TIME, "value": 1}],
    },
    "scores": {"type": "score", **IDENTITY, "name": "s", "value": "NaN", "timestamp": TIME},
    "gaps": {
        "type": "gap",
        **IDENTITY,
        "event": "gap",
        "timestamp": TIME,
        "subject": "v",
        "signal": "spans",
        "lines": 3,
        "bytes": None,
        "fromTime": TIME,
    },
}
STRANGE: list[Any] = [
    None, True, "", "x", 0, -1, 1.5, 2**64, 2**64 - 1, 2**63, -(2**63) - 1, 10**40, [], {}, [1],
    {"a": 1}, "1", " 1", "01", "1e3", "NaN", "Infinity", "-inf", "nan", "\0", "a\0b", "ok", "OK",
    "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z", "2500-01-01T00:00:00Z",
    "1600-01-01T00:00:00Z", "1969-12-31T23:59:59.999999999Z", "2026-02-30T00:00:00Z",
    "2026-11-21T25:00:00Z", "2026-11-21T12:60:00Z", "2026-11-21 12:00:00", "2026-11-21",
    "2026-11-21T12:00:00+02:00", "2026-11-21T12:00:00.1234567891Z", "1795262400",
    "2026-11-21T12:00:00", "2262-04-12T00:00:00Z", "2261-12-31T23:59:59.999999999Z",
]  # fmt: skip


def encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode()


def is_good(signal: Signal, raw: bytes) -> bool:
    """What the line check says."""
    check = LineCheck(Expected(signal, "team.shop", "w", 1, 9))
    try:
        check(raw)
    except BadLineError:
        return False
    return True


class Engine:
    """Inserts single lines under an attempt of their own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.warehouse = ClickHouseWarehouse(database)
        self.file = folder / "line.jsonl"
        self.attempt = 0

    async def wrong(self, signal: Signal, lines: list[bytes]) -> list[bytes]:
        """Which of these lines the engine doesn't store as one row of the seq that it says."""
        if not lines or await self._takes(signal, lines):
            return []
        if len(lines) == 1:
            return [lines[0][:300]]
        half = len(lines) // 2
        return await self.wrong(signal, lines[:half]) + await self.wrong(signal, lines[half:])

    async def _takes(self, signal: Signal, lines: list[bytes]) -> bool:
        self.attempt += 1
        self.file.write_bytes(b"".join(raw + b"\n" for raw in lines))
        try:
            await self.warehouse.insert(self.attempt, signal, DAY, [self.file])
        except DatabaseUnavailableError:
            raise
        except DatabaseError:
            return False
        stored = await self.warehouse.read_back(self.attempt, signal, DAY)
        seqs = [json.loads(raw)["seq"] for raw in lines]
        return stored == {
            "w": WriterSums(
                len(seqs),
                min(seqs),
                max(seqs),
                sum(seqs),
                sum(map(city_hash64, seqs)) % 2**64,
                "team.shop",
                "team.shop",
            )
        }


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with migrated_database() as database:
        yield Engine(database, tmp_path)


@pytest.mark.parametrize("signal", list(GOOD))
async def test_good_lines_pass_both(engine: Engine, signal: Signal) -> None:
    raw = encoded(GOOD[signal])
    assert is_good(signal, raw)
    assert not await engine.wrong(signal, [raw])


TEXTS = [
    b"", b" ", b"{}", b"null", b"[]", b"1", b"{", b'{"type":"log"', b"\0", b"\xff\xfe", b'"x"',
    b"{}{}", b"[" * 50_000, b'{"a":' * 2_000, b'{"type":"log"}garbage',
]  # fmt: skip


def mutations(signal: Signal) -> list[bytes]:
    """Lines that are wrong in one place, most of them."""
    good = GOOD[signal]
    lines = [encoded({**good, field: value}) for field in good for value in STRANGE] + [
        encoded({key: value for key, value in good.items() if key != field}) for field in good
    ]
    raw = encoded(good)
    return [
        *lines,
        encoded({**good, "unknown": 1}),
        raw + raw,
        raw + b" " + raw,
        raw[:-1],
        raw[:-9],
        raw.replace(b'"m"', b'"\\ud800"'),
        raw.replace(b'"w"', b'"\xff"'),
        raw.replace(b'"n"', b'"\x01"'),
        raw.replace(b'"seq":1', b'"seq":1,"seq":2'),
        raw.replace(b'"seq":1', b'"seq":1e0'),
        raw.replace(b'"seq":1', b'"seq":+1'),
        raw.replace(b'"seq":1', b'"seq":0x1'),
        raw.replace(b"}", b',"attributes":{"a":1e999}}', 1),
        raw.replace(b"1.5", b"1e999"),
        raw.replace(b"1.5", b"NaN"),
        *TEXTS,
    ]


@pytest.mark.parametrize("signal", list(GOOD))
async def test_what_the_engine_refuses_or_miscounts_is_found(
    engine: Engine, signal: Signal
) -> None:
    good = [raw for raw in mutations(signal) if is_good(signal, raw)]
    assert 5 < len(good) < len(mutations(signal)) / 2
    assert await engine.wrong(signal, good) == []


NASTY = st.one_of(
    st.sampled_from(STRANGE),
    st.text(max_size=10),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.lists(st.integers(0, 3), max_size=3),
)


async def test_lines_broken_at_random_are_judged_alike(engine: Engine) -> None:
    passed: dict[Signal, list[bytes]] = {signal: [] for signal in GOOD}

    @settings(max_examples=1_000, deadline=None, derandomize=True, database=None)
    @given(
        signal=st.sampled_from(list(GOOD)),
        changes=st.lists(st.tuples(st.integers(0, 40), NASTY), max_size=2),
        cut=st.integers(0, 2_000),
        junk=st.binary(max_size=3),
    )
    def judge(signal: Signal, changes: list[tuple[int, Any]], cut: int, junk: bytes) -> None:
        line = dict(GOOD[signal])
        fields = list(line)
        for at, value in changes:
            line[fields[at % len(fields)]] = value
        raw = encoded(line)
        if cut < len(raw):
            raw = raw[:cut] + junk + raw[cut:]
        raw = raw.replace(b"\n", b" ")
        if is_good(signal, raw):
            passed[signal].append(raw)

    judge()
    for signal, lines in passed.items():
        assert len(lines) > 10
        assert await engine.wrong(signal, lines) == []


class TestEndToEnd:
    @pytest.fixture
    async def chain(self, tmp_path: Path) -> "AsyncIterator[Chain]":
        storage = open_storage(f"file://{tmp_path}/bucket")
        async with migrated_database() as database:
            yield Chain(database, storage, tmp_path)
        await storage.close()

    async def test_bad_lines_of_every_kind_in_one_batch(self, chain: "Chain") -> None:
        bad = [
            b'{"cut', b"{}", b"[]", b"", b"\0\0", b"\xff\xff",
            log_line("w", 7).strip() + log_line("w", 8).strip(),
            log_line("w", 1).replace(b'"seq":1', b'"seq":18446744073709551617'),
            log_line("w", 1).replace(b"2026", b"9999"),
            log_line("w", 1).replace(b'"info"', b'"loud"'),
            log_line("w", 1).replace(b'"w"', b'"v"'),
            log_line("w", 1).replace(b"team.shop", b"team.bank"),
            log_line("w", 1).replace(b'"message"', b'"massage"'),
        ]  # fmt: skip
        instead = {10 * (n + 1): raw.strip(b"\n") + b"\n" for n, raw in enumerate(bad)}
        await chain.put(log_chunk("w", 1, 500, instead=instead))
        for number in range(10):
            await chain.put(log_chunk(f"g{number}", 1, 500))
        await chain.drain()
        [row] = await chain.rows("SELECT count() AS n, uniqExact(writer, seq) AS u FROM logs")
        assert row["n"] == row["u"] == 5_500 - len(bad)
        rows = await chain.rows("SELECT line, base64Encode(bytes) AS raw FROM quarantine FINAL")
        assert sorted(int(row["line"]) for row in rows) == sorted(instead)
        [row] = await chain.rows(
            "SELECT sum(records) AS n, sum(bad) AS bad FROM ledger FINAL WHERE status = 'committed'"
        )
        assert (row["n"], row["bad"]) == (5_500 - len(bad), len(bad))

    async def test_event_times_over_200_days_make_one_part(self, chain: "Chain") -> None:
        instead = {
            n: log_line("w", n, timestamp=f"2026-{n % 12 + 1:02d}-{n % 28 + 1:02d}T12:00:00Z")
            for n in range(1, 201)
        }
        await chain.put(log_chunk("w", 1, 200, instead=instead))
        await chain.drain()
        [row] = await chain.rows(
            "SELECT count() AS parts, sum(rows) AS n FROM system.parts"
            " WHERE database = currentDatabase() AND table = 'logs' AND active"
        )
        assert (row["parts"], row["n"]) == (1, 200)

    async def test_poison_ahead_of_good_objects(self, chain: "Chain") -> None:
        for number in range(1_000):
            key, _ = log_chunk(f"a{number}", 1, 1)
            await chain.put((key, b"poison"))
        for number in range(20):
            await chain.put(log_chunk(f"good{number}", 1, 100, project="team.zoo"))
        start = time.monotonic()
        stop = asyncio.Event()
        running = asyncio.ensure_future(chain.ingester.run(stop))
        while chain.ingester.loader.counts.rows < 2_000:
            await asyncio.sleep(0.02)
            assert time.monotonic() - start < 120
        assert chain.ingester.filer.waiting > 100, "good ones wait for the bad ones before them"
        while chain.ingester.filer.waiting or chain.ingester.pending.held:
            await asyncio.sleep(0.05)
            assert time.monotonic() - start < 300
        stop.set()
        await running
        [row] = await chain.rows("SELECT count() AS n FROM quarantine FINAL")
        assert row["n"] == 1_000

    async def test_a_line_of_200_megabytes_in_bounded_memory(self, chain: "Chain") -> None:
        good = b'{"type":"log","level":"warn","message":"b","timestamp":"2026-11-21T12:00:00Z"}\n'
        path = chain.folder / "bucket/observability/logs/team.shop/long.jsonl"
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.write(good)
            for _ in range(200):
                file.write(b"x" * 1_000_000)
            file.write(b"\n" + good)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await chain.drain()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 120_000, "kilobytes"
        rows = await chain.rows("SELECT seq FROM logs ORDER BY seq")
        assert [row["seq"] for row in rows] == [1, 3]
        [row] = await chain.rows("SELECT line, size, length(bytes) AS kept FROM quarantine FINAL")
        assert (row["line"], row["size"], row["kept"]) == (2, 200_000_000, 65_536)

    async def test_a_bad_line_is_replayed_with_a_corrected_text(self, chain: "Chain") -> None:
        await chain.put(log_chunk("w", 1, 3, instead={2: b'{"half": \n'}))
        await chain.drain()
        [row] = await chain.rows("SELECT id FROM quarantine FINAL")
        quarantine = Quarantine(
            ClickHouseQuarantine(chain.database),
            chain.storage,
            chain.ingester.warehouse,
            chain.ingester.ledger,
            chain.ingester.filer,
            SystemClock(),
        )
        text = log_line("w", 2, message="mended").decode()
        for _ in range(2):
            await quarantine.replay(row["id"], text)
            await chain.ingester.drain()
        rows = await chain.rows("SELECT message FROM logs ORDER BY message")
        assert [row["message"] for row in rows] == ["mended", "w says 1", "w says 3"]
        [row] = await chain.rows("SELECT status FROM quarantine FINAL")
        assert row["status"] == "replayed"


class Chain:
    """The real ingester on a directory and the embedded engine."""

    def __init__(self, database: Database, storage: Any, folder: Path) -> None:
        self.database = database
        self.storage = storage
        self.folder = folder
        self.ingester = Ingester(
            IngesterSettings(
                storage="-", clickhouse="-", temp_dir=str(folder), owner="o", list_interval=0.2
            ),
            storage,
            ClickHouseWarehouse(database),
            SystemFiles(),
            SystemClock(),
            random.Random(1),
        )

    async def put(self, named: tuple[str, bytes]) -> None:
        await self.storage.write(*named)

    async def drain(self) -> None:
        await self.ingester.start()
        await self.ingester.drain()

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        return await self.database.rows(sql)


def test_good_lines_are_what_the_records_encode() -> None:
    assert all(msgspec.json.decode(encoded(line)) for line in GOOD.values())
