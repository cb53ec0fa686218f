"""Lines become rows: nothing is lost on the way."""

import random
from typing import Any

import msgspec
import pytest

from spanyard_core.clickhouse import Database, rfc3339
from spanyard_core.clickhouse.lines import LINE_TABLES, time_guard, time_value
from spanyard_core.records import (
    LINE_TYPES,
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
from tests.contract.loading import BARE, DAY, END, IDENTITY, SCOPE, START, db, load

__all__ = ["db", "load"]
pytestmark = pytest.mark.engine


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
