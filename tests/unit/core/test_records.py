"""Lines: camelCase, defaults left out, one type per signal."""

import json

import msgspec
import pytest

from spanyard_core.records import (
    LEVELS,
    LINE_TYPES,
    SIGNALS,
    LogLine,
    MetricLine,
    SpanLine,
    record_id,
)


def test_every_signal_has_a_line_type_with_its_own_tag() -> None:
    assert tuple(LINE_TYPES) == SIGNALS
    tags = [line_type.__struct_config__.tag for line_type in LINE_TYPES.values()]
    assert tags == ["trace", "span", "log", "metric", "score", "gap"]


def test_a_line_has_camel_case_names_and_leaves_defaults_out() -> None:
    line = LogLine(
        project="a.b", writer="w", seq=1, timestamp="t", level="info", message="m", trace_id="x"
    )
    assert json.loads(msgspec.json.encode(line)) == {
        "type": "log",
        "project": "a.b",
        "writer": "w",
        "seq": 1,
        "timestamp": "t",
        "level": "info",
        "message": "m",
        "traceId": "x",
    }


def test_an_unfinished_span_says_so_with_null() -> None:
    span = SpanLine(
        project="a.b",
        writer="w",
        seq=1,
        id="s",
        trace_id="t",
        name="n",
        start_time="t0",
        end_time=None,
    )
    assert json.loads(msgspec.json.encode(span))["endTime"] is None
    decoded = msgspec.json.decode(msgspec.json.encode(span), type=SpanLine)
    assert decoded == span


def test_raw_attributes_are_carried_byte_by_byte() -> None:
    raw = b'{"a": 1.50, "b":"\\u00e9"}'
    line = LogLine(
        project="a.b",
        writer="w",
        seq=1,
        timestamp="t",
        level="info",
        message="m",
        attributes=msgspec.Raw(raw),
    )
    assert raw in msgspec.json.encode(line)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", 1.5, -3])
def test_numbers_that_json_cannot_say_are_words(value: float | str) -> None:
    text = json.dumps(
        {
            "type": "metric",
            "project": "a.b",
            "writer": "w",
            "seq": 1,
            "name": "n",
            "kind": "gauge",
            "value": value,
            "timestamp": "t",
        }
    )
    assert msgspec.json.decode(text, type=MetricLine).value == value


def test_other_words_are_no_numbers() -> None:
    text = (
        '{"type":"metric","project":"a.b","writer":"w","seq":1,"name":"n","kind":"gauge",'
        '"value":"nan","timestamp":"t"}'
    )
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=MetricLine)


def test_a_line_of_another_signal_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"span"}', type=LogLine)


def test_defaults_are_not_shared_between_lines() -> None:
    first, second = (
        LogLine(project="a.b", writer="w", seq=1, timestamp="t", level="info", message="m")
        for _ in range(2)
    )
    first.attributes["x"] = 1
    first.marks.append("split")
    assert second.attributes == {}
    assert second.marks == []


def test_ids_and_levels() -> None:
    assert record_id("pod/c/0@e", 7) == "pod/c/0@e#7"
    assert LEVELS == ("debug", "info", "warn", "error", "fatal")
