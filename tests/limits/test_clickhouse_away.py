"""ClickHouse is away or slow: the ingester waits, says so, counts what waits, and catches up."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanyard_core.clickhouse import database
from tests.fakes.chain import Place
from tests.fakes.clickhouse_server import ClickHouseServer, running_clickhouse
from tests.fakes.objects import log_chunk
from tests.fakes.processes import Program, fetch, metrics, wait_for
from tests.fakes.threads import in_a_thread

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NOBODY = "http://127.0.0.1:9/default"
"""A ClickHouse that nobody runs."""
ROWS = 500
"""Per object."""


@pytest.fixture
def clickhouse() -> Iterator[ClickHouseServer]:
    with in_a_thread(running_clickhouse(), "ClickHouse server") as server:
        yield server


def ingester(folder: Path, place: Place, clickhouse: str) -> Program:
    flags = {
        "storage": place.url,
        "clickhouse": clickhouse,
        "owner": "one",
        "port": "0",
        "temp-dir": str(folder),
        "list-interval": "200ms",
    }
    return Program(
        "spanyard_ingester",
        [part for flag, value in flags.items() for part in (f"--{flag}", value)],
        log=folder / "ingester.log",
    )


def put(folder: Path, first: int, count: int) -> None:
    """Objects of as many writers."""
    for n in range(first, first + count):
        key, data = log_chunk(f"w{n}@abcdefgh", 1, ROWS)
        path = folder / "bucket" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(".tmp")
        temporary.write_bytes(data)
        temporary.rename(path)


def stored(url: str) -> tuple[int, int]:
    """Rows, and distinct ids."""

    async def ask() -> tuple[int, int]:
        async with database(url, pool=2) as db:
            (row,) = await db.rows("SELECT count() AS n, uniqExact(writer, seq) AS ids FROM logs")
            return row["n"], row["ids"]

    return asyncio.run(ask())


def seen(program: Program) -> dict[str, float]:
    (url,) = program.addresses(1)
    found = metrics(f"{url}/metrics")
    return {name.removeprefix("spanyard_ingester_"): value for name, value in found.items()}


def test_without_clickhouse_it_waits_healthy_and_not_ready(tmp_path: Path) -> None:
    place = Place((tmp_path / "bucket").as_uri())
    put(tmp_path, 0, 3)
    with ingester(tmp_path, place, NOBODY) as program:
        url = program.addresses(1)[0]
        assert fetch(f"{url}/healthz")[0] == 200
        status, _, text = fetch(f"{url}/readyz")
        assert status == 503
        assert b"waiting for ClickHouse" in text
        time.sleep(3)
        program.check_alive()
        assert 1 <= program.text().count("waiting for ClickHouse") < 20
        assert "urllib3" not in program.text()
        assert fetch(f"{url}/healthz")[0] == 200, "it was not there all the time"
        assert program.stop() == 0
    assert len(place.keys("observability/")) == 3


def test_an_outage_is_told_and_counted_and_caught_up_with(
    tmp_path: Path, clickhouse: ClickHouseServer
) -> None:
    place = Place((tmp_path / "bucket").as_uri())
    url = clickhouse.url(f"away_{time.time_ns()}")
    put(tmp_path, 0, 5)
    with ingester(tmp_path, place, url) as program:
        wait_for("all objects moved", lambda: not place.keys("observability/"))
        assert seen(program)["clickhouse_up"] == 1
        before = program.memory()

        clickhouse.answer_status = 503
        put(tmp_path, 5, 100)
        wait_for("the backlog counted", lambda: seen(program)["backlog_objects"] == 100)
        wait_for("it knows", lambda: not seen(program)["clickhouse_up"])
        assert seen(program)["backlog_bytes"] > 100 * 1_000
        refused = clickhouse.refused
        time.sleep(4)
        assert clickhouse.refused - refused < 40, "it does not back off"
        assert seen(program)["backlog_oldest_seconds"] > 2
        status, _, text = fetch(f"{program.addresses(1)[0]}/readyz")
        assert (status, text != b"") == (503, True)
        assert program.memory() - before < 100_000_000
        assert program.text().count("503") < 40, "it says so all the time"

        clickhouse.answer_status = 0
        clickhouse.delay = 0.2  # and when it is back, it is slow
        wait_for("all objects moved", lambda: not place.keys("observability/"))
        wait_for("the backlog gone", lambda: seen(program)["backlog_objects"] == 0)
        assert seen(program)["clickhouse_up"] == 1
        assert program.stop() == 0
    assert stored(url) == (105 * ROWS, 105 * ROWS)


def test_lost_answers_of_clickhouse_double_nothing(
    tmp_path: Path, clickhouse: ClickHouseServer
) -> None:
    place = Place((tmp_path / "bucket").as_uri())
    url = clickhouse.url(f"lost_{time.time_ns()}")
    with ingester(tmp_path, place, url) as program:
        program.addresses(1)
        clickhouse.lose_answers_to = "INSERT INTO logs"
        put(tmp_path, 0, 10)
        wait_for("the insert arrived", clickhouse.inserts)
        time.sleep(1)
        clickhouse.lose_answers_to = ""
        wait_for("all objects moved", lambda: not place.keys("observability/"))
        assert program.stop() == 0
    assert stored(url) == (10 * ROWS, 10 * ROWS)
