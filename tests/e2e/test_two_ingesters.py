"""Two ingesters as processes on one shard, both sure that it is theirs: every record once.

They share an S3 server, where the ledger's create-if-absent decides, and one ClickHouse behind
HTTP. In turn, one of them is stopped in the middle of its work for longer than the other waits
before it takes over, and then goes on where it was: a zombie.
"""

import asyncio
import itertools
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clickhouse import database
from tests.fakes.chain import Place, Pod, assert_once, place_of
from tests.fakes.clickhouse_server import running_clickhouse
from tests.fakes.processes import Program, fetch, metrics, wait_for
from tests.fakes.threads import in_a_thread

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.s3, pytest.mark.slow]

CONTAINERS = 6
LINES = 10_000
"""Per container: four blocks of the reader, each an object."""
TAKEOVER_S = 0.5


def ingester(name: str, folder: Path, place: Place, clickhouse: str) -> Program:
    flags = {
        "storage": place.url,
        "clickhouse": clickhouse,
        "owner": name,
        "port": "0",
        "temp-dir": str(folder),
        "takeover-after": f"{TAKEOVER_S}s",
        "list-interval": "100ms",
        "audit-interval": "500ms",
        "batch-objects": "1",
    }
    return Program(
        "spanyard_ingester",
        [part for flag, value in flags.items() for part in (f"--{flag}", value)],
        log=folder / f"{name}.log",
        environ=place.environ,
    )


def rows(url: str, statement: str) -> list[dict[str, Any]]:
    async def ask() -> list[dict[str, Any]]:
        async with database(url, pool=2) as db:
            return await db.rows(statement)

    return asyncio.run(ask())


def store_objects(pod: Pod, place: Place) -> list[str]:
    """A real collector's objects; the texts of their lines."""
    texts = []
    for n in range(CONTAINERS):
        log = pod.container(f"server-{n}")
        lines = [f"line {i} of {n}" for i in range(LINES)]
        log.write("stdout", "".join(f"{line}\n" for line in lines).encode())
        log.close()
        texts += lines
    with pod.collector(place, chunk_size="50kB") as collector:
        collector.wait_records(len(texts))
        collector.end()
    assert len(place.keys("observability/logs/")) > CONTAINERS * 3
    return texts


def test_two_ingesters_on_one_shard_store_every_record_once(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = place_of("s3", request)
    texts = store_objects(Pod(tmp_path / "pod"), place)
    rng = random.Random(7)
    with in_a_thread(running_clickhouse(), "ClickHouse server") as server:
        url = server.url(f"two_{time.time_ns()}")
        with (
            ingester("one", tmp_path, place, url) as one,
            ingester("two", tmp_path, place, url) as two,
        ):
            # Side by side from the first object on: who started sooner could be done with all.
            one.addresses(1)
            one.pause()
            two.addresses(1)
            one.resume()
            for stopped in itertools.cycle((one, two)):
                time.sleep(rng.uniform(0.05, 0.4))
                if not place.keys("observability/"):
                    break
                stopped.pause()
                time.sleep(TAKEOVER_S * 3)
                stopped.resume()
            seen = {}
            for process in (one, two):
                (address,) = process.addresses(1)
                wait_for("all settled", partial(is_quiet, address))
                assert fetch(f"{address}/audit", body=b"{}")[0] == 200
                seen[process] = metrics(f"{address}/metrics")
                assert process.stop() == 0
        (counts,) = rows(url, "SELECT count() AS stored, uniqExact(writer, seq) AS ids FROM logs")
        assert (counts["stored"], counts["ids"]) == (len(texts), len(texts))
        found = rows(url, "SELECT message FROM logs")
        assert_once([row["message"] for row in found], texts, "log lines")
    both = [m["spanyard_ingester_batches_total"] for m in seen.values()]
    assert all(both), f"one of them had nothing to do: {both}"
    conflicts = sum(m["spanyard_ingester_ledger_conflicts_total"] for m in seen.values())
    assert conflicts, "they never met in the ledger"


def is_quiet(address: str) -> bool:
    seen = metrics(f"{address}/metrics")
    return not (seen["spanyard_ingester_unsettled"] or seen["spanyard_ingester_open_plans"])
