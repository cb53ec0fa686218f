"""Storage is away: the spool keeps its limit, memory stays bounded, nothing is lost in silence."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.chain import Place, Pod, assert_once
from tests.fakes.processes import wait_for
from tests.fakes.s3_server import S3Server, running_s3
from tests.limits.requests import names, send, until_turned_away
from tests.limits.spooling import GOAL_BYTES, LIMIT_BYTES, Chatter, Watch, check_against_gaps

pytestmark = [pytest.mark.s3, pytest.mark.slow]

SPOOL_LIMIT = 16_000_000
RATE = 25_000
LEAST_RATE = 20_000


@pytest.fixture
def own_s3() -> Iterator[S3Server]:
    """A server that may be stopped."""
    with running_s3() as server:
        yield server
        server.kill()  # in order, it takes 10 s


def test_the_spool_keeps_its_limit_while_storage_is_away(tmp_path: Path, own_s3: S3Server) -> None:
    """First it does not answer, then it refuses connections, then it is back."""
    place = Place(own_s3.url_for("limits"), own_s3.env, own_s3.options)
    pod = Pod(tmp_path / "pod")
    log = pod.container(max_size=3_000_000, max_files=3)
    with pod.collector(place, spool_limit=SPOOL_LIMIT, chunk_size="2MB") as collector:
        collector.addresses(2)
        with Watch(collector, pod.spool) as watch, Chatter(log, rate=RATE) as application:
            collector.wait_uploaded()
            own_s3.pause()
            wait_for("a full spool", lambda: "stands still" in collector.text())
            own_s3.kill()
            sent = until_turned_away(collector)
            full_at, read = application.written, collector.metrics()["records_total"]
            wait_for("a lot lost", lambda: application.written > full_at + 150_000)
            seen = collector.metrics()
            assert seen["records_total"] - read < 50_000, "it went on reading with a full spool"
            assert seen["spool_bytes"] <= seen["spool_limit_bytes"] == SPOOL_LIMIT
            own_s3.start()
            wait_for("takes entries again", lambda: "takes entries again" in collector.text())
            wait_for("OTLP taken", lambda: send(collector, sent[-1]) == 200)
            application.stop()
            log.close()
            collector.wait_uploaded()
            collector.end()
    assert application.written / application.seconds >= LEAST_RATE
    assert application.slowest < 5, "the application had to wait"
    assert watch.spool <= SPOOL_LIMIT
    assert watch.memory <= LIMIT_BYTES, f"{watch.memory} (goal {GOAL_BYTES})"
    records = place.records(pod.project)
    spans = [record["name"] for record in records if record["type"] == "span"]
    assert_once(spans, names(sent), "spans")
    gaps = check_against_gaps(records, application.written)
    assert {gap["cause"] for gap in gaps} == {"rotated-away"}
