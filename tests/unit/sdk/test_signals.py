"""Logs, metrics and scores: shape, ties to spans, misuse."""

import math

import pytest

import spanyard
from tests.unit.sdk.conftest import SpansDir


def test_a_log_has_its_level_and_attributes(spans_dir: SpansDir) -> None:
    spanyard.log.info("stored", {"order.id": 7}, took=0.5)
    for name in ("debug", "warn", "warning", "error", "fatal"):
        getattr(spanyard.log, name)("x")
    lines = spans_dir.lines("logs")
    assert (lines[0]["message"], lines[0]["attributes"]) == ("stored", {"order.id": 7, "took": 0.5})
    assert [x["level"] for x in lines] == ["info", "debug", "warn", "warn", "error", "fatal"]
    assert "attributes" not in lines[1]


def test_logs_metrics_and_scores_are_tied_to_the_open_span(spans_dir: SpansDir) -> None:
    with spanyard.span("a") as span:
        spanyard.log.info("x")
        spanyard.metrics.gauge("g").set(1)
        spanyard.score("good", 0.5)
    for signal in ("logs", "metrics", "scores"):
        (line,) = spans_dir.lines(signal)  # type: ignore[arg-type]
        assert (line["traceId"], line["spanId"]) == (span.trace_id, span.id)


def test_counters_write_what_was_added(spans_dir: SpansDir) -> None:
    tokens = spanyard.metrics.counter("tokens", unit="{token}", description="used")
    tokens.add(3, {"model": "m"})
    tokens.add(2.5)
    spanyard.metrics.updown_counter("open").add(-1)
    first, second, third = spans_dir.lines("metrics")
    assert (first["kind"], first["value"], first["temporality"]) == ("counter", 3, "delta")
    assert (first["unit"], first["description"]) == ("{token}", "used")
    assert first["attributes"] == {"model": "m"}
    assert second["value"] == 2.5
    assert (third["kind"], third["value"]) == ("updowncounter", -1)


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.001, 0), (0.005, 0), (0.0051, 1), (10, 13), (11, 14)]
)
def test_a_histogram_puts_a_value_into_its_bucket(
    spans_dir: SpansDir, value: float, bucket: int
) -> None:
    spanyard.metrics.histogram("latency", unit="s").record(value)
    (line,) = spans_dir.lines("metrics")
    assert line["bucketCounts"].index(1) == bucket
    assert sum(line["bucketCounts"]) == line["count"] == 1
    assert len(line["bucketCounts"]) == len(line["bounds"]) + 1
    assert line["value"] == line["min"] == line["max"] == value


def test_a_histogram_takes_bounds_that_grow(spans_dir: SpansDir) -> None:
    spanyard.metrics.histogram("size", bounds=[1, 10]).record(5)
    assert spans_dir.lines("metrics")[0]["bucketCounts"] == [0, 1, 0]
    spanyard.metrics.histogram("size", bounds=[]).record(5)
    assert spans_dir.lines("metrics")[1]["bucketCounts"] == [1]


def test_numbers_that_json_cannot_say_are_words(spans_dir: SpansDir) -> None:
    spanyard.metrics.gauge("g").set(math.nan)
    spanyard.metrics.gauge("g").set(-math.inf)
    spanyard.metrics.histogram("h").record(math.inf)
    spanyard.score("s", math.nan)
    assert [x["value"] for x in spans_dir.lines("metrics")] == ["NaN", "-Infinity", "Infinity"]
    assert spans_dir.lines("scores")[0]["value"] == "NaN"


def test_scores_name_what_they_judge(spans_dir: SpansDir) -> None:
    with spanyard.span("open"):
        spanyard.score("helpful", True, trace_id="t", span_id="s", comment="c", attributes={"a": 1})
    (line,) = spans_dir.lines("scores")
    assert (line["traceId"], line["spanId"], line["value"]) == ("t", "s", 1)
    assert (line["comment"], line["attributes"]) == ("c", {"a": 1})


def test_misuse_is_counted_not_written(spans_dir: SpansDir) -> None:
    spanyard.metrics.counter("c").add(-1)
    spanyard.metrics.counter("c").add("many")  # type: ignore[arg-type]
    spanyard.metrics.gauge("g").set(True)
    spanyard.metrics.histogram("h").record(None)  # type: ignore[arg-type]
    spanyard.score("s", "great")  # type: ignore[arg-type]
    assert len(spanyard.stats().refused) == 5
    assert spans_dir.lines("metrics") == []
    assert spans_dir.lines("scores") == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, None])
def test_a_metric_needs_a_name(spans_dir: SpansDir, name: str) -> None:
    for _ in range(2):
        spanyard.metrics.counter(name).add(1)
        spanyard.metrics.histogram(name).record(1)
    ((text, times),) = spanyard.stats().refused.items()
    assert "is not the name of a metric: 1 to 255 characters" in text
    assert times == 4
    assert spans_dir.lines("metrics") == []
