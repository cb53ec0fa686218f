"""Published schemas agree with the code, and with what the code writes and reads."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from spanyard_core.records import LINE_TYPES, GapLine, LogLine, Signal, SpanEvent, SpanLine
from spanyard_core.schema import EVENT_SIGNALS, schema_files, schema_of

PUBLISHED = Path(__file__).parents[3] / "docs" / "schema"
IDENTITY: dict[str, Any] = {"project": "team.shop", "writer": "w@e", "seq": 1}
TIME = "2026-11-21T14:45:00.123456789Z"


def test_published_schemas_are_fresh() -> None:
    published = {
        str(path.relative_to(PUBLISHED)): path.read_text("utf-8")
        for path in PUBLISHED.rglob("*.json")
    }
    assert published == schema_files(), "run `make docs`"


@pytest.mark.parametrize("signal", LINE_TYPES)
def test_every_schema_is_a_valid_schema(signal: Signal) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(signal))
    if signal in EVENT_SIGNALS:
        jsonschema.Draft202012Validator.check_schema(schema_of(signal, event=True))


@pytest.mark.parametrize("signal", EVENT_SIGNALS)
def test_an_event_is_a_line_without_its_identity(signal: Signal) -> None:
    line, event = schema_of(signal), schema_of(signal, event=True)
    left_out = set(line["properties"]) - set(event["properties"])
    assert {"project", "writer", "seq", "pod"} <= left_out
    assert set(line["required"]) - set(event["required"]) == {"project", "writer", "seq"}


@pytest.mark.parametrize(
    "line",
    [
        LogLine(**IDENTITY, timestamp=TIME, level="info", message="m", attributes={"a": 1}),
        SpanLine(
            **IDENTITY,
            id="s",
            trace_id="t",
            name="n",
            start_time=TIME,
            end_time=None,
            events=[SpanEvent(name="e", timestamp=TIME)],
        ),
        GapLine(**IDENTITY, event="end", timestamp=TIME, subject="w", after_seq=5, bytes=10),
    ],
)
def test_what_the_code_writes_keeps_the_schema(line: LogLine | SpanLine | GapLine) -> None:
    signal = next(s for s, line_type in LINE_TYPES.items() if line_type is type(line))
    jsonschema.validate(json.loads(msgspec.json.encode(line)), schema_of(signal))


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": "1"},
        {"project": "nodot"},
        {"level": "loud"},
        {"timestamp": "yesterday"},
        {"attributes": []},
        {"unknown": 1},
        {"writer": ""},
    ],
)
def test_the_schema_refuses_what_is_no_line(change: dict[str, Any]) -> None:
    good = {**IDENTITY, "type": "log", "timestamp": TIME, "level": "info", "message": "m"}
    jsonschema.validate(good, schema_of("logs"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, **change}, schema_of("logs"))
