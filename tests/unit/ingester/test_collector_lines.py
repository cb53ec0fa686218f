"""What the collector writes, the ingester's check lets pass.

A batch is scanned because of one bad line in it. If the check were stricter than the engine, all
good lines of that kind in the batch would go to quarantine for their neighbour's fault.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.records import Signal
from spanyard_ingester.linecheck import Expected, LineCheck
from spanyard_sidecar.cri import CriTransformer
from spanyard_sidecar.cri_state import CriState
from spanyard_sidecar.events import EventLines
from spanyard_sidecar.model import Identity

IDENTITY = Identity(project="team.shop", pod="p", pod_uid="u")
TIME = "2026-11-21T14:45:00.123456789Z"

ODD = [
    b'{"a":1,"a":2}',
    b'{"m":{"a":1,"a":2}}',
    b'{"msg":"a\\u0000b","level":"error"}',
    b'{"x":"\\ud800"}',
    b'{"x":"\\udfff\\ud800"}',
    b'{"x":1e400}',
    b'{"x":' + b"9" * 5_000 + b"}",
    b'{"x":-0.0,"y":1.5e-400,"z":1E+2}',
    b'{"x":NaN}',
    b'{"":1,"":2}',
    b'{"a":' * 100 + b"1" + b"}" * 100,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"type":"x","seq":5,"writer":"q","project":"x.y"}',
    b"\x00\x01\x1b[31m",
    b"\xff\xfe",
    b"\xf4\x90\x80\x80",
    '{"x":"\u2028"}'.encode(),
    b'{ "a" : [1, null, true, {}] } ',
]


def check(signal: Signal, lines: bytes) -> int:
    """How many lines passed; raises for one that does not."""
    checked = LineCheck(Expected(signal, IDENTITY.project, "w", 1, 10**9))
    return sum(bool(checked(line)) for line in lines.split(b"\n")[:-1])


def cri(text: bytes) -> bytes:
    block = b"%b stdout F %b\n" % (TIME.encode(), text.replace(b"\n", b" "))
    return CriTransformer(IDENTITY, "w", "app").transform(block, CriState()).lines


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_container_lines_pass(text: bytes) -> None:
    assert check("logs", cri(text)) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_container_line_passes(text: bytes) -> None:
    assert check("logs", cri(text)) == 1


EVENTS: dict[Signal, dict[str, object]] = {
    "logs": {"type": "log", "level": "info", "message": "m", "timestamp": TIME},
    "spans": {"type": "span", "id": "s", "traceId": "t", "name": "n", "startTime": TIME},
    "metrics": {"type": "metric", "name": "n", "kind": "gauge", "value": 1, "timestamp": TIME},
    "scores": {"type": "score", "name": "n", "value": 1, "timestamp": TIME},
    "traces": {"type": "trace", "id": "t", "name": "n", "startTime": TIME, "endTime": None},
}
EVENTS["spans"]["endTime"] = None
_FIELDS = st.sampled_from(
    [
        "attributes",
        "resource",
        "metadata",
        "input",
        "output",
        "events",
        "links",
        "exemplars",
        "service",
        "recordedAt",
        "endTime",
        "count",
        "bounds",
        "bucketCounts",
        "min",
        "value",
        "traceId",
        "spanId",
        "unit",
        "comment",
        "status",
        "level",
        "seq",
        "writer",
        "project",
    ]
)
_VALUES = (
    JSON.map(json.dumps)
    | st.sampled_from(['{"a":1,"a":2}', '"NaN"', "1e308", "-1", "18446744073709551616", '""'])
    | st.sampled_from([f'"{TIME}"', '"1700-01-01T00:00:00Z"', '"2261-12-31T23:59:59Z"', "[1,2]"])
)


@pytest.mark.parametrize("signal", EVENTS)
@given(extra=st.dictionaries(_FIELDS, _VALUES, max_size=3))
def test_any_event_that_the_collector_takes_passes(signal: Signal, extra: dict[str, str]) -> None:
    fields = {name: json.dumps(value) for name, value in EVENTS[signal].items()} | extra
    event = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    line, _ = EventLines(IDENTITY, "w", signal, service="s").stamped(event.encode(), 1)
    if b'"unreadable":' not in line:  # its own refusal, told as such
        assert check(signal, line) == 1
