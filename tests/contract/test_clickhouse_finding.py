"""Rows are found: by word and attribute, and under the names of OpenTelemetry."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanyard_core.clickhouse import Database, attribute_is, words_in
from spanyard_core.records import (
    AnyLine,
    LogLine,
    SpanEvent,
    SpanLine,
    SpanLink,
)
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.contract.loading import BARE, DAY, END, IDENTITY, START, db, load

__all__ = ["db", "load"]
pytestmark = pytest.mark.engine


class TestFinding:
    """The same answer from parts whose indexes are built (merged) and not yet (fresh)."""

    @pytest.fixture
    async def mixed(self, db: Database, load: Any) -> Database:
        def lines(first: int) -> list[AnyLine]:
            return [
                LogLine(
                    **{**BARE, "seq": n}, timestamp=START, level="info",
                    message=f"Order {n} FAILED in straße {n % 7}",
                    attributes={"user": f"u{n % 10}", "quote": f"it's {n % 3}, {{so}}",
                                "path": "C:\\x\n" if n % 2 else "", "comma": ",",
                                "after": f"a{n % 4}", "odd": "it',", "last": f"l{n % 5}',"},
                )
                for n in range(first, first + 500)
            ]  # fmt: skip

        await load("logs", *lines(1))
        await db.command("OPTIMIZE TABLE logs FINAL")
        await load("logs", *lines(501))
        return db

    @pytest.mark.parametrize(
        ("key", "value", "found"),
        [
            ("user", "u3", 100),
            ("user", "u", 0),
            ("quote", "it's 1, {so}", 334),
            ("path", "C:\\x\n", 500),
            ("path", "", 500),
            ("nothing", "", 0),
            ("comma", ",", 1000),
            ("comma", "", 0),
            ("after", "a1", 250),
            ("after", ",a1", 0),
            ("odd", "it',", 1000),
            ("odd", "it", 0),
            ("last", "l3',", 200),
        ],
    )
    async def test_by_an_attribute(self, mixed: Database, key: str, value: str, found: int) -> None:
        condition = attribute_is("{k:String}", "{v:String}")
        rows = await mixed.rows(
            f"SELECT count() AS n FROM logs WHERE project = 'team.shop' AND {condition}",
            {"k": key, "v": value},
        )
        assert rows == [{"n": found}]

    @pytest.mark.parametrize(
        ("words", "found"),
        [("failed", 1000), ("order 77", 1), ("STRASSE", 0), ("straße 3", 143), ("ail", 0)],
    )
    async def test_by_words(self, mixed: Database, words: str, found: int) -> None:
        rows = await mixed.rows(
            f"SELECT count() AS n FROM logs WHERE {words_in('message', '{w:String}')}",
            {"w": words},
        )
        assert rows == [{"n": found}]

    async def test_the_indexes_are_used_where_they_are_built(self, mixed: Database) -> None:
        await mixed.command("OPTIMIZE TABLE logs FINAL")
        conditions = {
            "attribute_index": attribute_is("'user'", "'nobody'"),
            "message_index": words_in("message", "'nothing'"),
            "timestamp_minmax": "timestamp > '2027-01-01 00:00:00'",
            "trace_id_bloom": "trace_id = 'none'",
        }
        for index, condition in conditions.items():
            plan = await mixed.rows(f"EXPLAIN indexes = 1 SELECT level FROM logs WHERE {condition}")
            assert index in "\n".join(str(next(iter(row.values()))) for row in plan), plan

    async def test_an_insert_builds_no_text_index(self, db: Database, load: Any) -> None:
        await load("logs", LogLine(**BARE, timestamp=START, level="info", message="x y z"))
        sql = (
            "SELECT sum(secondary_indices_compressed_bytes) AS n FROM system.parts"
            " WHERE database = currentDatabase() AND table = 'logs' AND active"
        )
        [before] = await db.rows(sql)
        await db.command("OPTIMIZE TABLE logs FINAL")
        [after] = await db.rows(sql)
        assert after["n"] > before["n"]

    @settings(
        max_examples=30, deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    @given(key=st.text(max_size=20), value=st.text(max_size=40), other=st.text(max_size=40))
    async def test_any_attribute_is_found_and_no_other(
        self, db: Database, key: str, value: str, other: str
    ) -> None:
        # What the index's tokenizer does, spelled out on a row that was never stored.
        rows = await db.rows(
            "WITH toString(map({k:String}, {o:String}, 'last', 'x')) AS whole"
            " SELECT {o:String} = {v:String} AS same,"
            " has(splitByString('\\',\\'', substring(whole, 3, length(whole) - 4)),"
            " substring(toString(map({k:String}, {v:String})), 3,"
            " length(toString(map({k:String}, {v:String}))) - 4)) AS found",
            {"k": key, "v": value, "o": other},
        )
        assert rows[0]["same"] == rows[0]["found"]


OTEL_COLUMNS = {
    "otel_logs": "Timestamp TraceId SpanId TraceFlags SeverityText SeverityNumber ServiceName"
    " Body ResourceSchemaUrl ResourceAttributes ScopeSchemaUrl ScopeName ScopeVersion"
    " ScopeAttributes LogAttributes EventName",
    "otel_traces": "Timestamp TraceId SpanId ParentSpanId TraceState SpanName SpanKind"
    " ServiceName ResourceAttributes ScopeName ScopeVersion SpanAttributes Duration StatusCode"
    " StatusMessage Events.Timestamp Events.Name Events.Attributes Links.TraceId Links.SpanId"
    " Links.TraceState Links.Attributes",
    "otel_traces_trace_id_ts": "TraceId Start End",
    "otel_metrics_gauge": "ResourceAttributes ServiceName MetricName MetricDescription"
    " MetricUnit Attributes StartTimeUnix TimeUnix Value Flags Exemplars.TraceId",
    "otel_metrics_sum": "ServiceName MetricName Attributes TimeUnix Value"
    " AggregationTemporality IsMonotonic",
    "otel_metrics_histogram": "ServiceName MetricName Attributes TimeUnix Count Sum"
    " BucketCounts ExplicitBounds Min Max AggregationTemporality",
}


class TestOpenTelemetryNames:
    @pytest.mark.parametrize("view", OTEL_COLUMNS)
    async def test_a_view_has_the_exporters_columns(self, db: Database, view: str) -> None:
        rows = await db.rows(
            "SELECT name, type FROM system.columns"
            " WHERE database = currentDatabase() AND table = {view:String}",
            {"view": view},
        )
        types = {row["name"]: row["type"] for row in rows}
        assert set(OTEL_COLUMNS[view].split()) <= set(types)
        for name, kind in types.items():
            if name.endswith("Attributes") and "." not in name:
                assert kind == "Map(LowCardinality(String), String)", name
        expected = {
            "AggregationTemporality": "Int32",
            "IsMonotonic": "Bool",
            "SeverityNumber": "UInt8",
        }
        for name in expected.keys() & types.keys():
            assert types[name] == expected[name], name
        # A server refuses to make others, by default.
        low = {kind for kind in types.values() if kind.startswith("LowCardinality")}
        assert low <= {"LowCardinality(String)"}
        times = {name for name, kind in types.items() if "DateTime" in kind and "." not in name}
        if view in {"otel_logs", "otel_traces"}:
            assert times == {"Timestamp"}

    async def test_logs_and_traces_as_grafana_asks_for_them(self, db: Database, load: Any) -> None:
        await load(
            "logs",
            LogLine(
                **IDENTITY, seq=1, timestamp=START, level="error", message="broken", trace_id="t1",
                attributes={"user": "u1"}, resource={"service.name": "own"},
            ),
        )  # fmt: skip
        await load(
            "spans",
            SpanLine(
                **IDENTITY, seq=1, id="s1", trace_id="t1", name="ask", start_time=START,
                end_time=END, status="error", attributes={"user": "u1"},
                events=[SpanEvent(name="exception", timestamp=END, attributes={"type": "E"})],
                links=[SpanLink(trace_id="t0", span_id="s0", trace_state="z")],
            ),
        )  # fmt: skip
        await ClickHouseWarehouse(db).derive(2, "spans", DAY)
        rows = await db.rows(
            'SELECT Timestamp as "timestamp", Body as "body", SeverityText as "level",'
            ' LogAttributes as "labels", TraceId as "traceID", ResourceAttributes AS r'
            " FROM otel_logs WHERE ( timestamp >= fromUnixTimestamp64Milli(1795270000000)"
            " AND SeverityText = 'ERROR' AND LogAttributes['user'] = 'u1' )"
            " ORDER BY timestamp DESC LIMIT 1000"
        )
        assert [(row["body"], row["level"], row["traceID"]) for row in rows] == [
            ("broken", "ERROR", "t1")
        ]
        assert rows[0]["labels"] == {"user": "u1"}
        assert rows[0]["r"]["service.name"] == "own"
        assert rows[0]["r"]["k8s.namespace.name"] == "team"
        [span] = await db.rows(
            "WITH 't1' as trace_id, (SELECT min(Start) FROM otel_traces_trace_id_ts"
            " WHERE TraceId = trace_id) as trace_start, (SELECT max(End) + 1 FROM"
            " otel_traces_trace_id_ts WHERE TraceId = trace_id) as trace_end"
            ' SELECT TraceId as "traceID", SpanName as "operationName", multiply(Duration, 0.000001)'
            ' as "duration", StatusCode as "statusCode", SpanKind as "kind",'
            " arrayMap((name, timestamp, attributes) -> tuple(name, toString("
            "toUnixTimestamp64Milli(timestamp)), arrayMap(key -> map('key', key, 'value',"
            " attributes[key]), mapKeys(attributes))), Events.Name, Events.Timestamp,"
            " Events.Attributes) AS logs, Links.TraceState AS states"
            " FROM otel_traces WHERE traceID = trace_id"
            " AND Timestamp >= trace_start AND Timestamp <= trace_end"
        )
        assert (span["operationName"], span["statusCode"], span["kind"]) == (
            "ask",
            "Error",
            "Internal",
        )
        assert span["duration"] == pytest.approx(1376.543211)
        assert span["logs"] == [("exception", "1795272301500", [{"key": "type", "value": "E"}])]
        assert span["states"] == ["z"]
