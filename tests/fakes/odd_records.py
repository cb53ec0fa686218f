"""Records that nobody expects: odd attributes, texts, ids and times, several roots, no ends."""

from typing import Any

from spanyard_core.clock import rfc3339
from spanyard_core.records import (
    AnyLine,
    LogLine,
    MetricLine,
    ScoreLine,
    Signal,
    SpanLine,
    TraceLine,
)
from tests.fakes.gateway_api import T0

PROJECT = "local.odd"
ODD = {
    "plain": "v", "n": 3, "float": 0.5, "yes": True, "no": False, "null": None, "empty": "",
    "it's": "don't", "back\\slash": "C:\\", 'quo"te': 'a"b', "percent%": "50%_", "delimiter": ",",
    "after": "x", "end": "x',", "emoji 😀": "😀", "regex": "a.*b$", "tab\t": "line\nbreak",
    "a.b.c": "dotted", "list": [1, 2], "ünï": "Straße", "long": "x" * 300,
}  # fmt: skip
MULTI, TOLD, OPEN, BAD_EVENTS = "a" * 32, "b" * 32, "c" * 32, "d" * 32


def at(ns: int) -> str:
    """A time of these records."""
    return rfc3339(T0 + ns)


def _log(seq: int, message: str, **more: Any) -> LogLine:
    values = {"project": PROJECT, "writer": "w/server/0@e", "seq": seq, "level": "info",
              "timestamp": at(seq), "message": message}  # fmt: skip
    return LogLine(**(values | more))


def _span(seq: int, name: str, ns: int, **more: Any) -> SpanLine:
    values = {"project": PROJECT, "writer": "w/spans@e", "seq": seq, "recorded_at": at(seq),
              "id": f"{seq:016x}", "name": name, "start_time": at(ns), "end_time": at(ns + 10)}  # fmt: skip
    return SpanLine(**(values | more))


TEXTS = ("100% done", 'it\'s "quoted"', "emoji 😀 here", "a.*b (regex) [x] \\d+$", "snake_case", "")


def odd_lines() -> dict[Signal, list[AnyLine]]:
    """By signal; one writer each."""
    return {
        "logs": [
            _log(1, "odd attributes", attributes=ODD),
            _log(2, "others", attributes={"plain": "w", "n": 33, "after": "y", "delimiter": ";"}),
            _log(3, "none"),
            *(_log(10 + i, text) for i, text in enumerate(TEXTS)),
        ],
        "spans": [
            # A trace of three roots, interleaved with others, as `spanyard.trace()` makes them.
            _span(1, "first", 100, trace_id=MULTI),
            _span(2, "second", 300, trace_id=MULTI),
            _span(3, "third", 500, trace_id=MULTI, status="error"),
            _span(4, "between", 200, trace_id="1" * 32,
                  attributes={"db.system": "x", "http.method": "GET", "http.route": "/"}),
            _span(5, "between", 400, trace_id="2" * 32,
                  attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}),
            # Told as a whole, and by its root.
            _span(6, "root of told", 620, trace_id=TOLD, attributes={"n": 7}),
            # Begun, ended: its start said nothing of a status.
            _span(7, "done", 700, trace_id="3" * 32, end_time=None, id="00000000000000e1"),
            _span(8, "done", 700, trace_id="3" * 32, status="ok", id="00000000000000e1"),
            # Begun, told again twice, never ended.
            *(
                _span(9 + i, f"open {i}", 800, trace_id=OPEN, end_time=None, id="00000000000000e2",
                      attributes={"step": i})
                for i in range(3)
            ),
            # Its clock was set back while it ran.
            _span(31, "set back", 950, trace_id="4" * 32, end_time=at(940)),
            # Events that no clock made.
            _span(20, "events", 900, trace_id=BAD_EVENTS,
                  events=[{"name": "no time"}, {"name": "bad time", "timestamp": "yesterday"},
                          {"name": "n", "timestamp": at(5), "attributes": {"n": 2, "o": {"a": 1}}},
                          {"name": "null", "timestamp": at(6), "attributes": None}]),
            # Its parent began in another trace's time.
            _span(30, "child", 950, trace_id=MULTI, parent_span_id=f"{1:016x}"),
            # Ids of an application's own.
            _span(21, "own", 1000, trace_id="Order/17 ü%", id="Step 1"),
            _span(22, "own", 1000, trace_id="order/17 ü%", id="step 1"),
        ],
        "traces": [
            TraceLine(project=PROJECT, writer="w/traces@e", seq=1, id=TOLD, name="told", status="ok",
                      start_time=at(600), end_time=None, metadata={"n": 7, "who": "me"}),
            TraceLine(project=PROJECT, writer="w/traces@e", seq=2, id=TOLD, name="told", status="ok",
                      start_time=at(600), end_time=at(690), metadata={"n": 7, "who": "me"}),
        ],
        "scores": [
            ScoreLine(project=PROJECT, writer="w/scores@e", seq=1, name="s", value="NaN", timestamp=at(1),
                      trace_id=MULTI),
        ],
        "metrics": [
            MetricLine(project=PROJECT, writer="w/metrics@e", seq=1, name="m", kind="gauge", value=1.0,
                       timestamp=at(1), attributes=ODD),
            MetricLine(project=PROJECT, writer="w/metrics@e", seq=2, name="m", kind="histogram",
                       value="Infinity", timestamp=at(2), count=3, bounds=[1.0], bucket_counts=[1, 2]),
        ],
    }  # fmt: skip
