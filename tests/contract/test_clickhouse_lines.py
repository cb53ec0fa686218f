"""Lines become rows: nothing is lost on the way, and what readers look for is found."""

import random
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanyard_core.clickhouse import Database, attribute_is, rfc3339, words_in
from spanyard_core.clickhouse.lines import LINE_TABLES, time_guard, time_value
from spanyard_core.records import (
    LINE_TYPES,
    AnyLine,
    Exemplar,
    GapLine,
    LogLine,
    MetricLine,
    ScoreLine,
    Signal,
    SpanEvent,
    SpanLine,
    SpanLink,
    TraceLine,
)
from spanyard_ingester.linecheck import BadLineError, check_values
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import migrated_database

pytestmark = pytest.mark.engine

DAY = date(2026, 11, 21)
START = "2026-11-21T14:45:00.123456789Z"
END = "2026-11-21T14:45:01.5Z"
IDENTITY: dict[str, Any] = {
    "project": "team.shop",
    "writer": "uid/server/0@ab12",
    "uid": "u-1",
    "deployment": "agent",
    "build": "b-7",
    "pod": "agent-0",
    "container": "server",
    "stream": "stdout",
    "service": "support",
    "recorded_at": "2026-11-21T14:45:02Z",
}
BARE: dict[str, Any] = {"project": "team.shop", "writer": "w", "seq": 1}
SCOPE: dict[str, Any] = {
    "resource": {"host.name": "h1"},
    "scope_name": "lib",
    "scope_version": "1.2",
}


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with migrated_database() as opened:
        yield opened


@pytest.fixture
def load(db: Database, tmp_path: Path) -> Any:
    attempts = iter(range(1, 1000))

    async def insert(signal: Signal, *lines: AnyLine) -> None:
        path = tmp_path / f"{signal}.jsonl.zst"
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        path.write_bytes(zstandard.compress(data))
        await ClickHouseWarehouse(db).insert(next(attempts), signal, DAY, [path])

    return insert


@pytest.mark.parametrize("signal", LINE_TABLES)
def test_every_field_of_a_line_has_a_place(signal: Signal) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(LINE_TYPES[signal])}
    declared = [part.split()[0] for part in LINE_TABLES[signal].structure.split(", ")]
    assert len(declared) == len(set(declared))
    assert set(declared) == fields | {"type"}


@pytest.mark.parametrize("signal", LINE_TABLES)
async def test_every_column_of_a_table_is_filled(db: Database, signal: Signal) -> None:
    rows = await db.rows(
        "SELECT name FROM system.columns WHERE database = currentDatabase()"
        " AND table = {table:String} AND default_kind != 'ALIAS'",
        {"table": signal},
    )
    filled = {name for name, _ in LINE_TABLES[signal].columns} | {"batch", "ingest_day"}
    assert {row["name"] for row in rows} == filled


async def test_a_whole_log_line(db: Database, load: Any) -> None:
    line = LogLine(
        **IDENTITY,
        **SCOPE,
        seq=7,
        timestamp=START,
        level="warn",
        message='She said "hi"\n\tto C:\\ – é \x00 🎉',
        trace_id="t1",
        span_id="s1",
        attributes={"a": 1, "b": {"c": [1.5, None]}, "long": "x" * 300, "n": None, "f": False},
        marks=["split", "invalid-utf8"],
    )
    await load("logs", line)
    [row] = await db.rows(f"SELECT *, {rfc3339('timestamp')} AS at FROM logs")
    assert {name: row[name] for name in IDENTITY if name != "recorded_at"} == {
        name: value for name, value in IDENTITY.items() if name != "recorded_at"
    }
    assert row["at"] == START
    assert (row["seq"], row["batch"], row["ingest_day"]) == (7, 1, DAY)
    assert row["recorded_at"].isoformat() == "2026-11-21T14:45:02"
    assert row["message"] == line.message
    assert (row["level"], row["trace_id"], row["span_id"]) == ("warn", "t1", "s1")
    assert msgspec.json.decode(row["attributes"]) == line.attributes
    assert row["attribute_map"] == {"a": "1", "b": '{"c":[1.5,null]}', "n": "", "f": "false"}
    assert msgspec.json.decode(row["resource"]) == SCOPE["resource"]
    assert (row["scope_name"], row["scope_version"]) == ("lib", "1.2")
    assert row["marks"] == ["split", "invalid-utf8"]


async def test_a_whole_span_with_what_a_model_was_asked(db: Database, load: Any) -> None:
    span = SpanLine(
        **IDENTITY,
        **SCOPE,
        seq=7,
        id="s1",
        trace_id="t1",
        parent_span_id="s0",
        name="chat",
        start_time=START,
        end_time=END,
        status="error",
        status_message="too long",
        span_kind="client",
        trace_state="x=1",
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "acme",
            "gen_ai.request.model": "small",
            "gen_ai.response.model": "small-2026",
            "gen_ai.agent.name": "helper",
            "gen_ai.tool.name": "search",
            "gen_ai.conversation.id": "c1",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 34,
            "gen_ai.usage.cost": 0.0125,
            "gen_ai.input.messages": [{"role": "user", "content": "Wo ist die Straße?"}],
            "gen_ai.output.messages": "Over there",
        },
        events=[SpanEvent(name="e", timestamp=START, attributes={"k": 1})],
        links=[SpanLink(trace_id="t2", span_id="s9")],
    )
    await load("spans", span)
    [row] = await db.rows(
        f"SELECT *, {rfc3339('start_time')} AS a, {rfc3339('end_time')} AS b FROM spans"
    )
    assert (row["a"], row["b"]) == (START, "2026-11-21T14:45:01.500000000Z")
    assert (row["ended"], row["root"], row["duration_ns"]) == (1, 0, 1_376_543_211)
    expected = {
        "id": "s1", "trace_id": "t1", "parent_span_id": "s0", "name": "chat", "status": "error",
        "status_message": "too long", "span_kind": "client", "trace_state": "x=1",
        "operation": "chat", "provider": "acme", "model": "small-2026", "agent": "helper",
        "tool": "search", "conversation": "c1", "input_tokens": 12, "output_tokens": 34,
        "cost": 0.0125, "output": "Over there",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert msgspec.json.decode(row["input"]) == span.attributes["gen_ai.input.messages"]
    assert msgspec.json.decode(row["attributes"]) == span.attributes
    assert msgspec.json.decode(row["events"], type=list[SpanEvent]) == span.events
    assert msgspec.json.decode(row["links"], type=list[SpanLink]) == span.links


async def test_a_span_without_an_end_is_open_until_its_end_comes(db: Database, load: Any) -> None:
    def span(seq: int, name: str, end: str | None) -> SpanLine:
        return SpanLine(
            **{**BARE, "seq": seq}, id=f"s-{name}", trace_id="t", name=name, start_time=START,
            end_time=end, attributes={"step": seq},
        )  # fmt: skip

    async def open_spans() -> list[tuple[str, str]]:
        rows = await db.rows(
            "SELECT name, attributes FROM open_spans(project = {p:String}, since = {t:String})"
            " ORDER BY name",
            {"p": "team.shop", "t": "2026-11-21T00:00:00Z"},
        )
        return [(row["name"], row["attributes"]) for row in rows]

    await load("spans", span(1, "a", None), span(2, "b", None), span(3, "a", None))
    assert await open_spans() == [("a", '{"step":3}'), ("b", '{"step":2}')]
    await load("spans", span(4, "a", END))
    assert await open_spans() == [("b", '{"step":2}')]
    rows = await db.rows("SELECT SpanName FROM otel_traces")
    assert [row["SpanName"] for row in rows] == ["a"]


async def test_histograms_and_numbers_that_json_cannot_say(db: Database, load: Any) -> None:
    histogram = MetricLine(
        **IDENTITY, **SCOPE, seq=1, name="latency", kind="histogram", value=5.5, timestamp=END,
        start_time=START, temporality="delta", unit="s", description="how long", trace_id="t",
        span_id="s", attributes={"b": "2", "a": 1}, count=4, min=0.5, max="Infinity",
        bounds=[0.5, 1.0], bucket_counts=[1, 2, 2**64 - 1],
        exemplars=[Exemplar(timestamp=START, value=1.5, trace_id="t")],
    )  # fmt: skip
    gauges = [
        MetricLine(**{**BARE, "seq": n + 2}, name="g", kind="gauge", value=value, timestamp=END)  # type: ignore[arg-type]
        for n, value in enumerate(["NaN", "Infinity", "-Infinity", -0.25, 7])
    ]
    await load("metrics", histogram, *gauges)
    [row] = await db.rows("SELECT * FROM metric_histograms")
    assert await db.rows("SELECT count() AS n FROM metric_points") == [{"n": 5}]
    assert (row["sum"], row["count"], row["min"], row["max"]) == (5.5, 4, 0.5, float("inf"))
    assert (row["bounds"], row["bucket_counts"]) == ([0.5, 1.0], [1, 2, 2**64 - 1])
    assert list(row["attribute_map"].items()) == [("a", "1"), ("b", "2")]
    assert (row["temporality"], row["unit"], row["description"]) == ("delta", "s", "how long")
    assert msgspec.json.decode(row["exemplars"], type=list[Exemplar]) == histogram.exemplars
    rows = await db.rows(
        "SELECT toString(value) AS v, min, max FROM metrics WHERE kind = 'gauge' ORDER BY seq"
    )
    assert [row["v"] for row in rows] == ["nan", "inf", "-inf", "-0.25", "7"]
    assert {(row["min"], row["max"]) for row in rows} == {(None, None)}


async def test_a_series_is_its_name_and_labels_in_any_order(db: Database, load: Any) -> None:
    labels = [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1"}, {"a": "2", "b": "2"}]
    await load(
        "metrics",
        *(
            MetricLine(
                **{**BARE, "seq": n},
                name="m",
                kind="gauge",
                value=n,
                timestamp=END,
                attributes=each,
            )
            for n, each in enumerate(labels, 1)
        ),
    )
    rows = await db.rows("SELECT series FROM metrics ORDER BY seq")
    series = [row["series"] for row in rows]
    assert series[0] == series[1]
    assert len(set(series)) == 3


async def test_traces_scores_and_gaps(db: Database, load: Any) -> None:
    await load(
        "traces",
        TraceLine(
            **IDENTITY, seq=1, id="t1", name="ask", start_time=START, end_time=END, status="ok",
            input={"q": 1}, output="text", metadata={"m": 1},
        ),
        TraceLine(**{**BARE, "seq": 2}, id="t2", name="ask", start_time=START, end_time=None),
    )  # fmt: skip
    await load(
        "scores",
        ScoreLine(
            **IDENTITY, seq=1, name="helpful", value=0.9, timestamp=END, trace_id="t1", span_id="s1",
            comment="good", attributes={"by": "judge"},
        ),
    )  # fmt: skip
    await load(
        "gaps",
        GapLine(
            **{**IDENTITY, "writer": "w/meta"}, seq=1, event="gap", timestamp=END, subject="w",
            signal="spans", cause="rotated-away", message="m", after_seq=9, lines=0, bytes=2**63,
            from_time=START, to_time=END, source="f", from_offset=0, to_offset=10,
        ),
        GapLine(**{**BARE, "seq": 2}, event="begin", timestamp=END, subject="w", continues="v",
                continues_seq=4),
    )  # fmt: skip
    [whole, bare] = await db.rows("SELECT * FROM traces ORDER BY seq")
    assert (whole["ended"], whole["status"]) == (1, "ok")
    assert (whole["input"], whole["output"], whole["metadata"]) == ('{"q":1}', "text", '{"m":1}')
    assert (bare["ended"], bare["status"], bare["metadata"]) == (0, "unset", "{}")
    assert bare["end_time"] == bare["start_time"]
    [score] = await db.rows("SELECT * FROM scores")
    assert (score["name"], score["value"], score["comment"]) == ("helpful", 0.9, "good")
    [gap, begin] = await db.rows("SELECT * FROM gaps ORDER BY seq")
    assert (gap["lines"], gap["bytes"], gap["from_offset"], gap["after_seq"]) == (0, 2**63, 0, 9)
    assert gap["from_time"].isoformat() == "2026-11-21T14:45:00.123456"
    assert gap["signal"] == "spans"
    empty = ("lines", "bytes", "from_time", "to_time", "from_offset", "to_offset")
    assert {begin[name] for name in empty} == {None}
    assert (begin["signal"], begin["continues"], begin["continues_seq"]) == ("logs", "v", 4)


async def test_a_bare_line_gets_its_defaults(db: Database, load: Any) -> None:
    await load("logs", LogLine(**BARE, timestamp="1969-12-31T23:59:59Z", level="debug", message=""))
    [row] = await db.rows("SELECT * FROM logs")
    assert (row["attributes"], row["attribute_map"], row["resource"]) == ("{}", {}, "{}")
    assert (row["uid"], row["pod"], row["trace_id"], row["marks"]) == ("", "", "", [])
    assert row["timestamp"].isoformat() == "1969-12-31T23:59:59"
    assert row["recorded_at"] == row["timestamp"]


async def test_every_time_that_the_line_check_takes_the_engine_takes_too(db: Database) -> None:
    # Else a batch is refused again and again for a line that nobody can name.
    rng = random.Random(7)
    zones = ["Z", "z", "", "+00:00", "-23:59", "+14:00", "+24:00", "-99:99"]
    times = [
        f"{rng.randrange(1670, 2270):04d}-{rng.randrange(14):02d}-{rng.randrange(33):02d}"
        f"{rng.choice('TTTTt ')}{rng.randrange(26):02d}:{rng.randrange(62):02d}"
        f":{rng.randrange(63):02d}{rng.choice(['', '.', '.5', '.123456789', '.1234567891'])}"
        f"{rng.choice(zones)}"
        for _ in range(20_000)
    ]
    good = []
    for text in times:
        try:
            check_values({"project": "p", "writer": "w", "timestamp": text}, "logs")
        except BadLineError:
            continue
        good.append(text)
    assert len(good) > 500
    guard, reading = time_guard("t"), time_value("t")
    [row] = await db.rows(
        f"SELECT countIf({guard}) AS strange, count({reading}) AS n"
        " FROM (SELECT arrayJoin({times:Array(String)}) AS t)",
        {"times": good},
    )
    assert (row["strange"], row["n"]) == (0, len(good))


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
