"""Ingester: rows per second against ClickHouse's own INSERT … SELECT FROM file(), and latency.

The same objects go, in the same process and run, into the same schema in two databases: once by
a bare `INSERT … SELECT … FROM file()` per 500,000 rows with the pinned settings, once by the
ingester with plan, verification, read-back, derived tables, commit and moves. Rounds alternate;
the best of each counts, in seconds of the clock and of the CPU (all threads, the engine's too:
the figure to trust on a machine that does other things). Then single objects are hinted one after the other, and the time from
their upload to the row's appearance in a query is taken.

    python -m benchmarks.ingester [rows per round] [rounds]
"""

import asyncio
import json
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from spanyard_core.chunks import ChunkWriter
from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.files import SystemFiles
from spanyard_core.records import LogLine
from spanyard_core.storage import Storage, open_storage
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.warehouse import MAX_BATCH_BYTES
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse

ROWS_PER_OBJECT = 25_000
BATCH = 500_000
TIME_NS = 1_795_262_400_000_000_000


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds."""

    clock: float
    cpu: float

    def best(self, other: "Took | None") -> "Took":
        """The lesser of both, each."""
        if other is None:
            return self
        return Took(min(self.clock, other.clock), min(self.cpu, other.cpu))


class Watch:
    """Measures from its making."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    @property
    def took(self) -> Took:
        return Took(time.perf_counter() - self._clock, time.process_time() - self._cpu)


def line(writer: str, seq: int, rng: random.Random) -> bytes:
    """A log line of about 330 bytes, two in five with attributes, like the collector's mix."""
    message = f"request {rng.getrandbits(48):x} took {rng.random() * 900:.3f} ms, status 200"
    attributes = {}
    if seq % 5 < 2:
        attributes = {"level": "info", "msg": message, "user": rng.getrandbits(20), "ok": True}
    return msgspec.json.encode(
        LogLine(
            project="bench.load",
            writer=writer,
            seq=seq,
            uid="0b6ccf0e-6c3b-4a5e-9b57-0f3e8c6d2a11",
            deployment="load",
            pod="load-6d5f7c9b8d-x2x7k",
            container="server",
            stream="stdout",
            timestamp=f"2026-11-21T12:00:{seq % 60:02d}.{rng.getrandbits(29):09d}Z",
            recorded_at="2026-11-21T12:00:59.000000000Z",
            level="info",
            message=message,
            attributes=attributes,
        )
    )


def make_object(writer: str, first: int, rows: int, rng: random.Random) -> tuple[str, bytes, int]:
    """Key, bytes and decoded size of one object."""
    out = ChunkWriter()
    out.add(b"".join(line(writer, first + i, rng) + b"\n" for i in range(rows)), rows)
    facts, parts = out.finish(
        signal="logs",
        project="bench.load",
        writer=writer,
        first=first,
        last=first + rows - 1,
        time_ns=TIME_NS,
    )
    return facts.name.key(), b"".join(parts), facts.decoded


async def bare(
    db: Database, paths: Sequence[Path], day: date, attempt: int, batch_objects: int
) -> Took:
    """Seconds of ClickHouse alone, in batches as large as the ingester's."""
    warehouse = ClickHouseWarehouse(db)
    per_batch = batch_objects
    watch = Watch()
    for at in range(0, len(paths), per_batch):
        await warehouse.insert(attempt + at, "logs", day, paths[at : at + per_batch])
    return watch.took


async def through_ingester(ingester: Ingester, expected: int) -> Took:
    """Seconds of the ingester's own run, from its first listing to its last commit."""
    stop = asyncio.Event()
    before = ingester.loader.counts.rows
    running = asyncio.ensure_future(ingester.run(stop))
    while not ingester.started and not running.done():
        await asyncio.sleep(0.001)
    watch = Watch()
    while ingester.loader.counts.rows < before + expected:
        if running.done():
            running.result()
        await asyncio.sleep(0.005)
    took = watch.took
    stop.set()
    await running
    return took


def settings(folder: Path) -> IngesterSettings:
    """Settings of the benchmark's ingesters."""
    return IngesterSettings(
        storage=f"file://{folder}", clickhouse="-", temp_dir=str(folder), owner="bench"
    )


async def throughput(folder: Path, rows: int, rounds: int) -> None:
    """Print rows per second of both, best of the rounds."""
    rng = random.Random(1)
    decoded = 0
    objects: list[tuple[str, bytes]] = []
    for number in range(rows // ROWS_PER_OBJECT):
        key, data, size = make_object(
            f"w{number % 8}", number * ROWS_PER_OBJECT + 1, ROWS_PER_OBJECT, rng
        )
        objects.append((key, data))
        decoded += size
    print(
        f"{rows:,} rows, {len(objects)} objects, {decoded / 1e6:.0f} MB decoded, {sum(len(d) for _, d in objects) / 1e6:.0f} MB stored"
    )
    per_batch = min(BATCH // ROWS_PER_OBJECT, MAX_BATCH_BYTES * len(objects) // decoded)
    best: dict[str, Took] = {}
    source = open_storage(f"file://{folder}/source")
    for key, data in objects:
        await source.write(key, data)
    paths = [path for key, _ in objects if (path := source.local_path(key)) is not None]
    for number in range(rounds):
        async with database(f"chdb://{folder}/db?database=bare{number}", pool=4) as db:
            await migrate(db)
            took = await bare(db, paths, date(2026, 11, 21), 1 + number * 10_000, per_batch)
            best["bare"] = took.best(best.get("bare"))
            await db.command(f"DROP DATABASE bare{number} SYNC")
        bucket = open_storage(f"file://{folder}/bucket{number}")
        for key, data in objects:
            await bucket.write(key, data)
        async with database(f"chdb://{folder}/db?database=ingester{number}", pool=4) as db:
            await migrate(db)
            ingester = Ingester(
                settings(folder), bucket, ClickHouseWarehouse(db), SystemFiles(), SystemClock(), rng
            )
            took = await through_ingester(ingester, rows)
            best["ingester"] = took.best(best.get("ingester"))
            [count] = await db.rows("SELECT count() AS n, uniqExact(writer, seq) AS u FROM logs")
            assert int(count["n"]) == int(count["u"]) == rows
            await db.command(f"DROP DATABASE ingester{number} SYNC")
        await bucket.close()
        shutil.rmtree(folder / f"bucket{number}")
    await source.close()
    print(f"{'':12}{'s':>8}{'rows/s':>14}{'CPU s':>8}{'rows/CPU s':>14}")
    for name, took in best.items():
        print(
            f"{name:12}{took.clock:8.2f}{rows / took.clock:14,.0f}"
            f"{took.cpu:8.2f}{rows / took.cpu:14,.0f}"
        )
    bare_took, took = best["bare"], best["ingester"]
    print(
        f"ratio by the clock {bare_took.clock / took.clock:.2f}, by CPU {bare_took.cpu / took.cpu:.2f}"
        f" (goal 0.90); peak memory {peak_mb():.0f} MB"
    )


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


async def latency(folder: Path, count: int) -> None:
    """Print p50 and p99 of upload → queryable."""
    rng = random.Random(2)
    bucket: Storage = open_storage(f"file://{folder}/latency")
    async with database(f"chdb://{folder}/db?database=latency", pool=4) as db:
        await migrate(db)
        ingester = Ingester(
            settings(folder), bucket, ClickHouseWarehouse(db), SystemFiles(), SystemClock(), rng
        )
        stop = asyncio.Event()
        running = asyncio.ensure_future(ingester.run(stop))
        while not ingester.started:
            await asyncio.sleep(0.01)
        took = []
        for number in range(count):
            key, data, _ = make_object(f"w{number}", 1, 500, rng)
            await bucket.write(key, data)
            start = time.perf_counter()
            ingester.hint([key])
            while True:
                [row] = await db.rows(
                    "SELECT count() AS n FROM logs WHERE writer = {w:String}", {"w": f"w{number}"}
                )
                if int(row["n"]) == 500:
                    break
                await asyncio.sleep(0.005)
            took.append(time.perf_counter() - start)
        stop.set()
        await running
    await bucket.close()
    took.sort()
    print(
        json.dumps(
            {
                "uploads": count,
                "p50_s": round(statistics.median(took), 3),
                "p99_s": round(took[int(count * 0.99) - 1], 3),
                "goal_p99_s": 2.0,
            }
        )
    )


async def main(rows: int = 2_000_000, rounds: int = 3) -> None:
    """Everything, with its tables on stdout."""
    folder = Path(tempfile.mkdtemp(prefix="spanyard-bench-"))
    try:
        await throughput(folder, rows, rounds)
        await latency(folder, 100)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:])))
