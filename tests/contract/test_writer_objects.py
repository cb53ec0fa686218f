"""What `ObservabilityWriter` writes, the ingester takes as lines without a single bad one."""

import json
import math
from pathlib import Path

import jsonschema

from spanyard import ObservabilityWriter
from spanyard_core.object_names import PlainName, parse_key
from spanyard_core.records import LINE_TYPES
from spanyard_core.schema import schema_of
from spanyard_core.storage import open_storage
from spanyard_ingester.plain import PlainEvents

TIME = "2026-11-21T14:45:00.123456789Z"


async def test_every_event_becomes_a_line(tmp_path: Path) -> None:
    with ObservabilityWriter(tmp_path / "observability", project="team.shop") as writer:
        for n in range(20):
            writer.record_trace(id=f"t{n}", name="q", start_time=TIME, input={"a": [n]}, output="x")
            writer.record_span(
                id=f"s{n}", trace_id=f"t{n}", name="n", start_time=TIME, end_time=TIME
            )
            writer.record_log(id=f"l{n}", message="odd \x00 \ud800 text", attributes={"n": 2**70})
            writer.record_metric(name="m", value=math.nan if n % 2 else n)
            writer.record_score(name="s", value=n / 7, trace_id=f"t{n}")
        writer.record_log(message="y" * 3_000_000, project_id="team.other")
    storage = open_storage(tmp_path.as_uri())
    counts = dict.fromkeys(LINE_TYPES, 0)
    try:
        async for found in storage.list("observability/"):
            name = parse_key(found.key)
            assert isinstance(name, PlainName)
            events = PlainEvents(name)
            validator = jsonschema.Draft202012Validator(schema_of(name.signal))
            lines = (await storage.read(found.key)).splitlines()
            for seq, raw in enumerate(lines, 1):
                validator.validate(json.loads(events.line(raw, seq)))
            counts[name.signal] += len(lines)
    finally:
        await storage.close()
    expected = {"traces": 20, "spans": 20, "logs": 21, "metrics": 20, "scores": 20, "gaps": 0}
    assert counts == expected
