"""What Grafana's ClickHouse data source sends in its OpenTelemetry mode, answered by the front.

The statements are those that the plugin builds (4.20) for a logs panel, the histogram above it, a
trace search, a trace, its dashboards' panels, ad hoc filters and its editors' questions, with its
macros filled in as it does. It sends them by the Go driver: POST, Native of revision 54460.
"""

import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.fakes.front import LOGS, SPANS, TRACES, Front, running_front

pytestmark = pytest.mark.engine

DRIVER = {
    "client_protocol_version": "54460",
    "default_format": "Native",
    "database": "default",
    "max_execution_time": "60",
}


@pytest.fixture
def times() -> dict[str, int]:
    now = int(time.time())
    return {"from": now - 7_200, "to": now + 60}


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with running_front() as running:
        yield running


async def rows(front: Front, query: str) -> list[dict[str, str]]:
    """As Grafana asks; and again as JSON, to look at."""
    sent = await front.ask(query, headers={"Accept-Encoding": "gzip"}, **DRIVER)
    assert sent.status == 200, f"{sent.text}\n{query}"
    shown = await front.ask(
        query, default_format="JSONStringsEachRow", output_format_json_named_tuples_as_objects="1"
    )
    return [msgspec.json.decode(line, type=dict[str, str]) for line in shown.text.splitlines()]


def between(column: str, times: dict[str, int]) -> str:
    """`$__timeFilter`."""
    return f"{column} >= toDateTime({times['from']}) AND {column} <= toDateTime({times['to']})"


async def test_it_connects(front: Front) -> None:
    for query in (
        "SELECT displayName(), version(), revision(), timezone()",
        "SELECT 1",
        "SELECT version()",
    ):
        assert len(await rows(front, query)) == 1


async def test_its_editors_find_tables_columns_and_keys(front: Front) -> None:
    database = front.database.database
    names = {row["name"] for row in await rows(front, f'SHOW TABLES FROM "{database}"')}
    assert {"otel_logs", "otel_traces", "otel_traces_trace_id_ts", "otel_metrics_sum"} <= names
    assert {database, "system"} <= {row["name"] for row in await rows(front, "SHOW DATABASES")}
    columns = await rows(front, f'DESC TABLE "{database}"."otel_logs"')
    assert {"Timestamp", "Body", "LogAttributes"} <= {row["name"] for row in columns}
    # With a column of this name it would filter by it, and ours is no sort column.
    assert "TimestampTime" not in {row["name"] for row in columns}
    for query in (
        f"""SELECT name, type, table FROM system.columns
            WHERE database IN ('{database}') AND table = 'otel_logs'""",
        "SELECT name, type, table FROM system.columns",
        f"""SELECT DISTINCT arrayJoin(mapKeys("LogAttributes")) as keys FROM
            (SELECT "LogAttributes" FROM "{database}"."otel_logs" LIMIT 1000) LIMIT 1000""",
        "select distinct LogAttributes['http.method'] from otel_logs limit 1000",
        f"""SELECT DISTINCT "ServiceName" FROM "{database}"."otel_logs"
            WHERE "ServiceName" IS NOT NULL LIMIT 1000""",
        """SELECT name, is_aggregate, case_insensitive, alias_to, origin, description, syntax
           FROM system.functions""",
    ):
        assert await rows(front, query), query


async def test_logs_and_the_histogram_above_them(front: Front, times: dict[str, int]) -> None:
    table = f'"{front.database.database}"."otel_logs"'
    time_filter = (
        f"( Timestamp >= fromUnixTimestamp64Milli({times['from']}000)"
        f" AND Timestamp <= fromUnixTimestamp64Milli({times['to']}000) )"
    )
    found = await rows(
        front,
        f"""SELECT Timestamp as "timestamp", Body as "body", SeverityText as "level",
            TraceId as "traceID", ResourceAttributes as "resourceAttributes",
            ScopeAttributes as "scopeAttributes", LogAttributes as "logAttributes"
            FROM {table} WHERE {time_filter} AND ( SeverityText IN ('ERROR', 'WARN') )
            AND (Body LIKE '%line%') ORDER BY timestamp DESC LIMIT 1000""",
    )
    assert len(found) == LOGS // 2
    assert found[0]["level"] in {"ERROR", "WARN"}
    bars = await rows(
        front,
        f"""SELECT toStartOfInterval("Timestamp", INTERVAL 60 SECOND) as "time",
            sum(toString("SeverityText") IN ('error', 'ERROR', 'Error')) as error,
            sum(toString("SeverityText") IN ('info', 'INFO', 'Info')) as info, count() as "logs"
            FROM {table} WHERE {time_filter} GROUP BY time ORDER BY time ASC LIMIT 10000""",
    )
    assert sum(int(bar["logs"]) for bar in bars) == LOGS
    assert sum(int(bar["error"]) for bar in bars) == LOGS // 4


async def test_ad_hoc_filters(front: Front) -> None:
    query = "SELECT count() AS n, any(SeverityText) AS level FROM otel_logs"
    filters = " settings additional_table_filters={{'otel_logs' : ' {} '}}"
    [row] = await rows(front, query + filters.format(r"SeverityText = \'INFO\'"))
    assert (row["n"], row["level"]) == (str(LOGS // 4), "INFO")
    [row] = await rows(front, query + filters.format(r"LogAttributes[\'http.method\'] = \'PUT\'"))
    assert row["n"] == "0"
    bad = await front.ask(query + filters.format(r"file(\'/etc/passwd\') = \'\'"), **DRIVER)
    assert bad.code == 164


async def test_traces_and_one_trace(front: Front, times: dict[str, int]) -> None:
    table = f'"{front.database.database}"."otel_traces"'
    index = f'"{front.database.database}"."otel_traces_trace_id_ts"'
    found = await rows(
        front,
        f"""SELECT "TraceId" as traceID, "ServiceName" as serviceName, "SpanName" as operationName,
            "Timestamp" as startTime, multiply("Duration", 0.000001) as duration FROM {table}
            WHERE ( {between("Timestamp", times)} ) AND ( ParentSpanId = '' ) AND ( Duration > 0 )
            ORDER BY Timestamp DESC, Duration DESC LIMIT 1000""",
    )
    assert len(found) == TRACES - 1
    trace = found[0]["traceID"]

    def pairs(name: str) -> str:
        return f"arrayMap(key -> map('key', key, 'value',{name}[key]), mapKeys({name}))"

    spans = await rows(
        front,
        f"""WITH '{trace}' as __gf_trace_id,
            (SELECT min(Start) FROM {index} WHERE TraceId = __gf_trace_id) as __gf_trace_start,
            (SELECT max(End) + 1 FROM {index} WHERE TraceId = __gf_trace_id) as __gf_trace_end
            SELECT "TraceId" as traceID, "SpanId" as spanID, "ParentSpanId" as parentSpanID,
            "ServiceName" as serviceName, "SpanName" as operationName,
            multiply(toUnixTimestamp64Nano("Timestamp"), 0.000001) as startTime,
            multiply("Duration", 0.000001) as duration, {pairs('"SpanAttributes"')} as tags,
            {pairs('"ResourceAttributes"')} as serviceTags,
            if("StatusCode" IN ('Error', 'STATUS_CODE_ERROR'), 2, 0) as statusCode,
            arrayMap((name, timestamp, attributes) -> tuple(name,
            toString(toUnixTimestamp64Milli(timestamp)), {pairs("attributes")})::Tuple(name String,
            timestamp String, fields Array(Map(String, String))),
            "Events".Name, "Events".Timestamp, "Events".Attributes) AS logs,
            arrayMap((traceID, spanID, attributes) -> tuple(traceID, spanID,
            {pairs("attributes")})::Tuple(traceID String, spanID String,
            tags Array(Map(String, String))),
            "Links".TraceId, "Links".SpanId, "Links".Attributes) AS references,
            "SpanKind" as kind, "StatusMessage" as statusMessage,
            "ScopeName" as instrumentationLibraryName,
            "ScopeVersion" as instrumentationLibraryVersion, "TraceState" as traceState
            FROM {table} WHERE traceID = __gf_trace_id
            AND "Timestamp" >= __gf_trace_start AND "Timestamp" <= __gf_trace_end""",
    )
    assert len(spans) == SPANS // TRACES
    assert {span["traceID"] for span in spans} == {trace}
    assert "seen" in spans[0]["logs"]
    assert "http.method" in spans[0]["tags"]


async def test_the_panels_of_its_dashboards(front: Front, times: dict[str, int]) -> None:
    when = between("Timestamp", times)
    interval = "toStartOfInterval(Timestamp, INTERVAL 30 second) AS time"
    failed = "StatusCode IN ('Error', 'STATUS_CODE_ERROR')"
    for query in (
        f"""SELECT {interval}, SeverityText AS metric, count() AS count FROM otel_logs
            WHERE {when} AND 1=1 AND SeverityText IN ('INFO')
            AND positionCaseInsensitive(Body, 'LINE') > 0 GROUP BY time, metric ORDER BY time""",
        f"""SELECT SeverityText AS Level, ServiceName AS Service, replaceRegexpAll(Body,
            '(userId|orderId)=[a-zA-Z0-9-]+', '\\1=…') AS Message, count() AS Count FROM otel_logs
            WHERE {when} GROUP BY Level, Service, Message ORDER BY Count DESC LIMIT 20""",
        f"""SELECT ServiceName AS id, concat(toString(count()), ' spans') AS mainstat,
            concat(toString(round(avg(Duration) / 1000000, 1)), ' ms avg') AS secondarystat,
            (count() - countIf({failed})) / count() AS arc__success FROM otel_traces
            WHERE {when} GROUP BY ServiceName ORDER BY count() DESC LIMIT 30""",
        f"""SELECT TraceId, any(ServiceName) AS Service, min(Timestamp) AS Time,
            max(Duration) AS Duration, count() AS Spans, anyIf(StatusCode, {failed}) AS Status
            FROM otel_traces WHERE {when} GROUP BY TraceId HAVING 1=1
            ORDER BY Time DESC LIMIT 200""",
        f"""SELECT {interval}, Duration / 1000000 AS duration_ms FROM otel_traces WHERE {when}
            AND cityHash64(SpanId) % 5 = 0 ORDER BY time""",
        f"""SELECT {interval}, quantile(0.5)(Duration) AS p50, quantile(0.99)(Duration) AS p99
            FROM otel_traces WHERE {when} AND ServiceName IN ('agent') GROUP BY time
            ORDER BY time""",
        f"""SELECT SpanName AS Operation, round(countIf({failed}) / count() * 100, 2) AS "Error %",
            anyIf(if(StatusMessage != '', StatusMessage, SpanAttributes['http.status_code']),
            {failed}) AS "Top Error" FROM otel_traces WHERE {when}
            GROUP BY Operation ORDER BY Operation DESC LIMIT 15""",
        f"""SELECT {interval}, count() / 30 AS rps FROM otel_traces WHERE {when}
            AND ServiceName = 'agent' AND SpanKind = 'Server' GROUP BY time ORDER BY time""",
    ):
        assert await rows(front, query), query
    for query in (
        f"""SELECT concat(parent.ServiceName, '-', child.ServiceName) AS id, count() AS calls
            FROM otel_traces AS child INNER JOIN otel_traces AS parent
            ON child.ParentSpanId = parent.SpanId AND child.TraceId = parent.TraceId
            WHERE {between("child.Timestamp", times)} AND parent.ServiceName != child.ServiceName
            GROUP BY id ORDER BY calls DESC LIMIT 50""",
        f"""SELECT time, ServiceName AS tags, concat(ServiceName, ' deployed ', version) AS text
            FROM (SELECT {interval}, ServiceName,
            topK(1)(ResourceAttributes['service.version'])[1] AS version,
            lagInFrame(topK(1)(ResourceAttributes['service.version'])[1])
            OVER (PARTITION BY ServiceName ORDER BY time) AS prev_version
            FROM otel_traces WHERE {when} AND ResourceAttributes['service.version'] != ''
            GROUP BY ServiceName, time ORDER BY ServiceName, time)
            WHERE prev_version != '' AND prev_version != version ORDER BY time""",
    ):
        assert await rows(front, query) == []  # one service, never deployed anew: but it runs
