"""kill -9 of the real ingester at every fault point, on a directory and the embedded engine.

Each kill leaves its mess to the next process, which is killed in turn; at the end every record
must be in ClickHouse once.
"""

import pytest

from tests.fakes.ingester_process import IngesterSetup
from tests.fakes.objects import log_chunk

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
ROWS = 20_000


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
