"""kill -9 of the real ingester at every fault point, on a directory and the embedded engine.

Each kill leaves its mess to the next process, which is killed in turn; at the end every record
must be in ClickHouse once.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clickhouse import Database
from spanyard_core.clock import SystemClock
from spanyard_core.faults import set_hook
from spanyard_core.files import SystemFiles
from spanyard_core.storage import Storage, open_storage
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import migrated_database
from tests.fakes.ingester_process import IngesterSetup
from tests.fakes.objects import log_chunk, log_line
from tests.fakes.s3_server import S3Server

pytestmark = [pytest.mark.kill, pytest.mark.engine, pytest.mark.slow]

PLAIN_POINTS = (
    "ingest.before-plan",
    "ingest.planned",
    "ingest.inserting",
    "ingest.inserted",
    "ingest.derived",
    "ingest.committed",
    "ingest.moved",
)
BAD_LINE_POINTS = ("ingest.scanned", "ingest.closed", "ingest.quarantined")
ROWS = 6_000


class Killed(BaseException):
    """Stands for SIGKILL where the process has to live on."""


@contextmanager
def killed_at(point: str) -> Iterator[None]:
    """Whoever passes this point in the block is ended there."""

    def hook(name: str) -> None:
        if name == point:
            raise Killed

    set_hook(hook)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        set_hook(None)


@pytest.fixture
def setup(tmp_path_factory: pytest.TempPathFactory) -> IngesterSetup:
    return IngesterSetup(tmp_path_factory.mktemp("ingester"))


def _put(setup: IngesterSetup, writer: str, *, bad: bool = False) -> None:
    half = ROWS // 2
    broken = {half // 2: b'{"type":"log","message":"cut of\n', 7: b"{}\n"} if bad else {}
    setup.put(*log_chunk(writer, 1, half, instead=broken))
    setup.put(*log_chunk(writer, half + 1, ROWS))


def test_every_record_is_stored_once_whatever_point_it_is_killed_at(setup: IngesterSetup) -> None:
    for point in PLAIN_POINTS:
        _put(setup, point)
        with setup.running(point) as ingester:
            ingester.wait_killed()
    for point in BAD_LINE_POINTS:
        _put(setup, point, bad=True)
        with setup.running(point) as ingester:
            ingester.wait_killed()
    with setup.running() as ingester:
        ingester.wait_until_loaded()
        ingester.stop()

    assert {*PLAIN_POINTS, *BAD_LINE_POINTS} <= setup.passed
    counts, lines, twice = setup.query(
        "SELECT writer, count() AS stored, uniqExact(seq) AS unique, uniqExact(message) AS texts,"
        " min(seq) AS first, max(seq) AS last FROM logs GROUP BY writer",
        "SELECT writer, count() AS lines, groupArray(line) AS numbers FROM quarantine FINAL"
        " GROUP BY writer",
        "SELECT writer, seq FROM logs GROUP BY writer, seq HAVING count() > 1 LIMIT 1",
    )
    bad = dict.fromkeys(BAD_LINE_POINTS, 2)
    for row in counts:
        expected = ROWS - bad.get(row["writer"], 0)
        assert row["stored"] == row["unique"] == row["texts"] == expected, row
        assert (row["first"], row["last"]) == (1, ROWS)
    assert {row["writer"] for row in counts} == {*PLAIN_POINTS, *BAD_LINE_POINTS}
    assert {row["writer"]: row["lines"] for row in lines} == bad
    assert all(sorted(row["numbers"]) == [7, ROWS // 4] for row in lines)
    assert not twice
    assert len(setup.keys("processed/")) == 2 * len(counts)


def test_killed_between_copy_and_delete_of_a_move_on_s3(
    tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> None:
    setup = IngesterSetup(tmp_path_factory.mktemp("on-s3"), server=s3_server)
    for first in (1, 101, 201):
        setup.put(*log_chunk("w", first, first + 99))
    with setup.running("ingest.copied:2") as ingester:
        ingester.wait_killed()
    # Requests run side by side: what was copied by then is not always the same.
    assert len(setup.keys("processed/")) + len(setup.keys("observability/")) > 3
    with setup.running() as ingester:
        ingester.wait_until_loaded()
        ingester.stop()
    [[counts]] = setup.query("SELECT count() AS n, uniqExact(seq) AS u FROM logs")
    assert counts == {"n": 300, "u": 300}
    assert len(setup.keys("processed/")) == 3
    assert setup.keys("quarantine/") == []


def test_a_replay_pressed_twice_with_a_kill_in_between(setup: IngesterSetup) -> None:
    setup.put(*log_chunk("w", 1, 10, instead={4: b"{}\n"}))
    with setup.running() as ingester:
        ingester.wait_until_loaded()
        ingester.stop()
    [[row]] = setup.query("SELECT id FROM quarantine FINAL")
    press = f"/quarantine/{row['id']}/replay"
    mended = {"text": log_line("w", 4, message="mended").decode()}
    with setup.running("replay.written") as ingester:
        assert ingester.post(press, mended) is None
        ingester.wait_killed()
    with setup.running() as ingester:
        for _ in range(2):
            answer = ingester.post(press, mended)
            assert answer is not None
            assert answer["status"] == "replayed"
            ingester.wait_until_loaded()
        ingester.stop()
    [[counts], [quarantined]] = setup.query(
        "SELECT count() AS n, uniqExact(message) AS texts, countIf(message = 'mended') AS mended"
        " FROM logs",
        "SELECT status FROM quarantine FINAL",
    )
    assert counts == {"n": 10, "texts": 10, "mended": 1}
    assert quarantined == {"status": "replayed"}


class _LaterClock(SystemClock):
    """A day and a bit later than it is."""

    def time_ns(self) -> int:
        return super().time_ns() + 30 * 3600 * 10**9


class TestInOneProcess:
    """On the real engine, where two processes cannot be: it opens its folder alone."""

    def ingester(
        self, database: Database, storage: Storage, folder: Path, owner: str, **settings: Any
    ) -> Ingester:
        return Ingester(
            IngesterSettings(
                storage="-",
                clickhouse="-",
                temp_dir=str(folder),
                owner=owner,
                batch_objects=2,
                **settings,
            ),
            storage,
            ClickHouseWarehouse(database),
            SystemFiles(),
            _LaterClock() if owner == "later" else SystemClock(),
            random.Random(owner),
        )

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        storage = open_storage(f"file://{tmp_path}/bucket")
        yield storage
        await storage.close()

    async def check(self, database: Database, expected: int) -> None:
        [row] = await database.rows(
            "SELECT count() AS n, uniqExact(writer, seq) AS u, uniqExact(message) AS t FROM logs"
        )
        assert row == {"n": expected, "u": expected, "t": expected}

    async def test_two_ingesters_that_both_believe_they_own_the_shard(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        for number in range(24):
            await storage.write(*log_chunk(f"w{number}", 1, 50))
        async with migrated_database(pool=4) as database:
            both = [
                self.ingester(database, storage, tmp_path, owner, takeover_after=0)
                for owner in ("one", "two")
            ]
            for ingester in both:
                await ingester.start()
            # With takeover_after=0 each ends the other's plans while they are being inserted.
            await asyncio.gather(*(ingester.drain() for ingester in both))
            for ingester in both:
                await ingester.ledger.refresh()
                await ingester.audit()
            await self.check(database, 24 * 50)
            assert both[0].ledger.conflicts + both[1].ledger.conflicts > 0
            assert both[0].ledger.state == both[1].ledger.state

    async def test_a_retry_a_day_later(self, tmp_path: Path, storage: Storage) -> None:
        """Outside every deduplication window, in another partition if it were planned anew."""
        await storage.write(*log_chunk("w", 1, 50))
        async with migrated_database() as database:
            first = self.ingester(database, storage, tmp_path, "first")
            await first.start()
            with killed_at("ingest.inserted"):
                await first.drain()
            later = self.ingester(database, storage, tmp_path, "later", takeover_after=0)
            await later.start()
            await later.drain()
            await self.check(database, 50)
