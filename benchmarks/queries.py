"""Queries: how long the gateway takes for what a page or a person asks of millions of rows.

    python -m benchmarks.queries [--rows 2000000] [--folder DIR] [--times 20] [--only WORD]

Method: one embedded ClickHouse is filled with INSERT … SELECT FROM numbers() in the shape that the
ingester leaves (day partitions, batches of 500,000 rows, writers, text indexes built by merges),
then merged until it is quiet. `--rows` is the number of log lines, and of ended spans: ten spans
to a trace, each with the row of its start as the SDK writes it, so `spans` has twice as many rows.
2,000 writers, one in ten with a hole. A gateway in the same process answers over loopback HTTP,
one request at a time; times are those of the client, all but the first; CPU is that of the process
(gateway, engine and this client), which other work on the machine changes less. With `--folder` what was
filled stays there for the next run.
"""

import argparse
import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlencode

import aiohttp

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_core.storage import open_storage
from spanyard_gateway.app import make_app
from spanyard_gateway.ingester_client import HttpIngesterClient
from spanyard_gateway.settings import GatewaySettings

PROJECT = "bench.load"
BATCH = 500_000
WRITERS = 2_000
PER_TRACE = 10
T0 = "2026-11-21 00:00:00"
DAY = "2026-11-21"
DAY_NS = 86_400 * 10**9
SEARCHES = {
    "logs": (
        "took",
        "zeppelin",
        "level:error 317 -status*",
        '"took 317 ms"',
        'level:error "took 317 ms"',
        "text:zeppel",
        "@user:u-17 (took OR zeppelin)",
    ),
    "spans": (
        "parcel",
        "zeppelin",
        "input:parcel status:error duration:>500ms",
    ),
    "traces": (
        "parcel",
        "zeppelin",
        "input:parcel span.duration:>990ms",
    ),
}
WHOLE_DAY = {"from": f"{DAY}T00:00:00Z", "to": "2026-11-22T00:00:00Z"}
SEARCHED = {"q": '"took 317 ms"', **WHOLE_DAY}
SERIES = {
    "1 h": {"from": f"{DAY}T12:00:00Z", "to": f"{DAY}T13:00:00Z"},
    "24 h": WHOLE_DAY,
    "24 h by revision": {**WHOLE_DAY, "by": "revision"},
    "24 h of a search": {**WHOLE_DAY, "q": "input:parcel span.duration:>990ms"},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    path: str
    goal_ms: float = 0
    """p95 that the design asks for; 0: none."""


def cases(rows: int) -> list[Case]:
    """What is asked. `{hex}` of a trace in the middle of the data."""
    middle = f"{rows // PER_TRACE // 2:032x}"
    late = f"{rows - 5:016x}"
    of = f"/projects/{PROJECT}"
    return [
        Case("newest traces", f"{of}/traces", 100),
        Case("oldest traces", f"{of}/traces?order=asc", 100),
        Case("newest traces with an error", f"{of}/traces?status=error", 100),
        Case("slow traces", f"{of}/traces?minDuration=990ms"),
        Case("traces by an attribute", f"{of}/traces?attr.user=u-77", 200),
        Case(
            "traces of a minute", f"{of}/traces?from=2026-11-21T06:00:00Z&to=2026-11-21T06:01:00Z"
        ),
        Case("one trace by its id", f"/traces/{middle}", 50),
        Case("one span by its id", f"/spans/{late}"),
        Case("newest spans", f"{of}/spans", 100),
        Case("newest ended spans by name", f"{of}/spans?open=false&name=chat"),
        Case("what still runs", f"{of}/spans?open=true"),
        Case("newest log lines", f"{of}/logs", 100),
        Case("oldest log lines", f"{of}/logs?order=asc", 100),
        Case("newest errors", f"{of}/logs?level=error"),
        Case("a word that is often there", f"{of}/logs?text=took"),
        Case("a word that is nowhere", f"{of}/logs?text=zeppelin"),
        Case("log lines by an attribute, 1 in 100", f"{of}/logs?attr.user=u-17", 200),
        Case("log lines by an attribute, 1 in 10⁶", f"{of}/logs?attr.request=r-{rows // 2}", 200),
        Case("log lines by two attributes", f"{of}/logs?attr.user=u-17&attr.n=317", 200),
        Case("an attribute that is nowhere", f"{of}/logs?attr.user=nobody", 200),
        *(
            Case(f"search {kind} for {query}", f"{of}/{kind}?{urlencode({'q': query})}")
            for kind, queries in SEARCHES.items()
            for query in queries
        ),
        Case("histogram of a search in all", f"{of}/logs/histogram?{urlencode(SEARCHED)}"),
        Case("facets of a search in all", f"{of}/logs/facets?{urlencode(SEARCHED)}"),
        Case("lines and events of a trace", f"{of}/logs?traceId={middle}"),
        *(
            Case(f"series of traces, {name}", f"{of}/traces/series?{urlencode(asked)}", 1000)
            for name, asked in SERIES.items()
        ),
        Case("facets of traces, 24 h", f"{of}/traces/facets?{urlencode(WHOLE_DAY)}"),
        Case("newest metric points", f"{of}/metrics"),
        Case("metric points by name", f"{of}/metrics?name=latency"),
        Case("the proof, 2,000 writers", f"{of}/proof", 1000),
        Case("deployments", "/deployments"),
        Case("projects", "/projects"),
    ]


_WRITER = f"concat('0b6ccf0e-', toString(intDiv(number * {WRITERS}, {{rows}})), '/server/0@bench')"
_SEQ = f"1 + number - intDiv(intDiv(number * {WRITERS}, {{rows}}) * {{rows}}, {WRITERS})"
_IDENTITY = (
    f"'{PROJECT}' AS project, {_WRITER} AS writer, {_SEQ} AS seq, "
    f"1 + intDiv(number, {BATCH}) AS batch, toDate('{DAY}') AS ingest_day, 'uid' AS uid, "
    "'load' AS deployment, 'load-0' AS pod, 'server' AS container"
)
_AT = f"toDateTime64('{T0}', 9, 'UTC') + toIntervalNanosecond(number * {{step}})"
"""All of it within a day."""
_ATTRIBUTES = (
    "map('user', concat('u-', toString(cityHash64(number) % 100)), 'request',"
    " concat('r-', toString(number)), 'n', toString(number % 1000), 'route', '/ask',"
    " 'region', 'eu-1') AS attribute_map, toJSONString(attribute_map) AS attributes"
)
_SPAN = (
    "leftPad(lower(hex(intDiv(number, 10))), 32, '0') AS trace_id,"
    " leftPad(lower(hex(number)), 16, '0') AS id,"
    " if(number % 10 = 0, '', leftPad(lower(hex(number - number % 10)), 16, '0')) AS parent_span_id,"
    " empty(parent_span_id) AS root, ['answer', 'plan', 'chat', 'tool', 'score'][1 + number % 5] AS name"
)
_HOLE = "NOT (seq = 7 AND writer LIKE '%0/server/0@bench')"
FILL = {
    "logs": f"SELECT {_IDENTITY}, 'stdout' AS stream, {_AT} AS timestamp, timestamp AS recorded_at,"
    " if(number % 50 = 0, 'error', 'info') AS level, concat('request ',"
    " lower(hex(cityHash64(number))), ' took ', toString(number % 900), ' ms, status 200') AS message,"
    " if(number % 5 = 0, leftPad(lower(hex(intDiv(number, 10))), 32, '0'), '') AS trace_id,"
    f" if(number % 5 < 2, _map, map()) AS attribute_map, toJSONString(attribute_map) AS attributes"
    f" FROM (SELECT number, {_ATTRIBUTES.split(' AS attribute_map', maxsplit=1)[0]} AS _map"
    f" FROM numbers({{first}}, {{count}})) WHERE {_HOLE}",
    "spans": f"SELECT {_IDENTITY.replace('/server/0@', '/spans@')}, 'otlp' AS stream,"
    f" {_AT} AS start_time, start_time AS recorded_at, 1 AS ended, {_SPAN},"
    " 1000000 * (cityHash64(number) % 1000) AS duration_ns,"
    " start_time + toIntervalNanosecond(duration_ns) AS end_time,"
    " if(number % 70 = 0, 'error', 'ok') AS status, 'internal' AS span_kind,"
    " if(name = 'chat', concat('Where is my parcel number ', toString(cityHash64(number) % 100000),"
    " '?'), '') AS input,"
    " if(name = 'chat', 100 + number % 900, 0) AS input_tokens,"
    " if(name = 'chat', number % 200, 0) AS output_tokens,"
    " if(name = 'chat', 0.001 * (number % 10), 0) AS cost,"
    " if(name = 'chat', 'm-1', '') AS model,"
    " if(name = 'chat', concat('It left ', toString(number % 90), ' minutes ago'), '') AS output,"
    f" {_ATTRIBUTES} FROM numbers({{first}}, {{count}})",
    "starts": f"SELECT {_IDENTITY.replace('/server/0@', '/starts@')}, 'otlp' AS stream,"
    f" {_AT} AS start_time, start_time AS recorded_at, 0 AS ended, {_SPAN}, start_time AS end_time,"
    f" 'unset' AS status, 'internal' AS span_kind, {_ATTRIBUTES}"
    " FROM numbers({first}, {count})",
    "metrics": f"SELECT {_IDENTITY.replace('/server/0@', '/metrics@')}, 'otlp' AS stream,"
    f" {_AT} AS timestamp, timestamp AS recorded_at, if(number % 2 = 0, 'requests', 'latency') AS name,"
    " 'gauge' AS kind, toFloat64(number % 900) AS value, number % 200 AS series"
    " FROM numbers({first}, {count})",
}


async def fill(db: Database, rows: int) -> None:
    """Insert everything, batch by batch."""
    step = DAY_NS // rows
    for name, select in FILL.items():
        table = "spans" if name == "starts" else name
        columns = await db.rows(
            f"DESCRIBE ({select.format(rows=rows, step=step, first=0, count=1)})"
        )
        names = ", ".join(str(c["name"]) for c in columns)
        for first in range(0, rows, BATCH):
            count = min(BATCH, rows - first)
            text = select.format(rows=rows, step=step, first=first, count=count)
            await db.command(f"INSERT INTO {table} ({names}) SETTINGS async_insert = 0 {text}")
    await db.command(
        "INSERT INTO trace_index SELECT trace_id, project, ingest_day, min(start_time),"
        " max(end_time) FROM spans GROUP BY trace_id, project, ingest_day"
    )
    writers = f"concat('0b6ccf0e-', toString(number), '/server/0@bench') AS subject FROM numbers({WRITERS})"
    for seq, event in ((1, "begin"), (2, "end")):
        await db.command(
            "INSERT INTO gaps (project, writer, seq, batch, ingest_day, event, timestamp, subject,"
            f" signal, after_seq) SELECT '{PROJECT}', concat(subject, '/meta'), {seq}, {seq},"
            f" toDate('{DAY}'), '{event}', toDateTime64('{T0}', 9, 'UTC'), subject, 'logs',"
            f" {rows // WRITERS if event == 'end' else 0} FROM (SELECT {writers})"
        )
    await db.command(
        "INSERT INTO ledger (shard, n, attempt, key, writer, seq_from, seq_to, records, signal,"
        f" project, status, time) SELECT 0, number, number, toString(number), subject, 1,"
        f" {rows // WRITERS}, {rows // WRITERS}, 'logs', '{PROJECT}', 'committed',"
        f" toDateTime64('{T0}', 3, 'UTC') FROM (SELECT number, {writers})"
    )


async def settle(db: Database) -> None:
    """Wait until the engine merges no more, as after a quiet minute."""
    quiet = 0
    while quiet < 5:
        [merges] = await db.rows("SELECT count() AS n FROM system.merges")
        quiet = 0 if merges["n"] else quiet + 1
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def gateway(folder: Path, rows: int) -> AsyncIterator[tuple[Database, str]]:
    """The filled database and the address of a gateway over it."""
    async with database(f"chdb://{folder}/db") as db:
        await migrate(db)
        [there] = await db.rows("SELECT count() AS n FROM metrics")
        if not there["n"]:
            start = time.perf_counter()
            await fill(db, rows)
            print(f"filled in {time.perf_counter() - start:.0f} s")
        await settle(db)
        storage = open_storage(f"file://{folder}/bucket")
        async with aiohttp.ClientSession() as session:
            app = make_app(
                GatewaySettings(storage="file:///unused", clickhouse="chdb:///unused"),
                database=db,
                storage=storage,
                ingester=HttpIngesterClient(session, ""),
                clock=SystemClock(),
            )
            async with serving(app, "127.0.0.1", 0, cancel_abandoned=True) as address:
                yield db, address.url
        await storage.close()


async def measure(
    db: Database, session: aiohttp.ClientSession, case: Case, times: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of each request but the first, by the clock and of CPU."""
    took, cpu = [], []
    for _ in range(times + 1):
        # Else the same filter asked again costs nothing: it is another question each time.
        await db.command("SYSTEM CLEAR QUERY CONDITION CACHE")
        start, spent = time.perf_counter(), time.process_time()
        async with session.get(case.path) as response:
            body = await response.read()
            assert response.status == 200, body
        took.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - spent) * 1000)
    return took[1:], cpu[1:]


async def main(rows: int, times: int, folder: Path, only: str) -> None:
    """Fill, ask, print the table."""
    async with gateway(folder, rows) as (db, url), aiohttp.ClientSession(url) as session:
        print(
            f"| {rows:,} log lines, {rows:,} spans and their starts"
            " | p50 ms | p95 ms | goal | CPU ms |"
        )
        print("|---|---|---|---|---|")
        for case in cases(rows):
            if only not in case.name:
                continue
            took, cpu = await measure(db, session, case, times)
            goal = f"{case.goal_ms:.0f}" if case.goal_ms else ""
            p95 = quantiles(took, n=20)[18] if len(took) > 1 else took[0]
            print(
                f"| {case.name} | {median(took):.0f} | {p95:.0f} | {goal} | {median(cpu):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="spanyard-bench-"))
    try:
        asyncio.run(main(given.rows, given.times, folder.resolve(), given.only))
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
