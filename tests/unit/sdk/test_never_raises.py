"""Telemetry never breaks its application: whatever it is given is recorded, or counted and said."""

import contextvars
import json
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import spanyard
from spanyard import ObservabilityWriter, _counts, _process
from spanyard_core.errors import BadRecordError
from tests.unit.sdk.conftest import SpansDir

HUGE = 10**5000
"""Python refuses to write it in decimals, and it is no float."""


class Odd:
    """Raises at whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no attributes")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    __repr__ = __str__
    __iter__ = __float__ = __len__ = __bool__  # type: ignore[assignment]


class OddDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("changed while it was read")


class Level(Enum):
    HIGH = 2**70


s: Any = spanyard
say: Any = spanyard.log  # its own rules, not those of logging


def in_span(use: Callable[[Any], Any]) -> Callable[[], None]:
    def call() -> None:
        with s.span("x") as span:
            use(span)

    return call


def in_trace(use: Callable[[Any], Any]) -> Callable[[], None]:
    def call() -> None:
        with s.trace("x") as trace:
            use(trace)

    return call


ODD_VALUES = [
    HUGE,
    -HUGE,
    math.nan,
    Odd(),
    OddDict(a=1),
    {Odd: Odd()},
    [[Odd()]],
    object(),
    b"\xff",
]
CALLS: list[Callable[[], Any]] = [
    *(lambda v=v: say.info("m", {"a": v}, b=v) for v in ODD_VALUES),
    *(lambda v=v: say.info(v, v) for v in ODD_VALUES),
    *(lambda v=v: say.info("%d %s", v, v) for v in ODD_VALUES),
    *(lambda v=v: s.metrics.counter("c").add(v, {"a": v}) for v in ODD_VALUES),
    *(lambda v=v: s.metrics.updown_counter("c").add(1, v) for v in ODD_VALUES),
    *(lambda v=v: s.metrics.gauge("g", unit=v, description=v).set(1) for v in ODD_VALUES),
    *(lambda v=v: s.metrics.gauge(v).set(v) for v in ODD_VALUES),
    *(lambda v=v: s.metrics.histogram("h", bounds=v).record(v, v) for v in ODD_VALUES),
    *(lambda v=v: s.score(v, v, trace_id=v, comment=v, attributes=v) for v in ODD_VALUES),
    *(lambda v=v: s.score("x", 1, trace_id=v, attributes={"a": v}) for v in ODD_VALUES),
    *(in_span(lambda x, v=v: x.set(v).set(a=v).set({"a": v})) for v in ODD_VALUES),
    *(in_span(lambda x, v=v: x.event(v, v).event("e", a=v)) for v in ODD_VALUES),
    *(in_span(lambda x, v=v: x.link(v, v, a=v).status(v, v).status("ok", v)) for v in ODD_VALUES),
    *(in_trace(lambda x, v=v: x.set(v).output(v).status(v)) for v in ODD_VALUES),
    *(lambda v=v: s.span(v, kind=v, attributes=v).__enter__().__exit__() for v in ODD_VALUES),
    *(lambda v=v: s.span("x", parent=v, traceparent=v).set(v) for v in ODD_VALUES),
    *(lambda v=v: s.trace(v, input=v, metadata=v).__enter__() for v in ODD_VALUES),
    say.info,
    lambda: say.error("%s"),
    lambda: say.error("%s and %s", 1),
    lambda: say.critical("x", exc_info=True),
    lambda: s.span().__enter__(),
    s.trace,
    s.score,
    in_span(lambda x: x.event()),
    in_span(lambda x: x.set(1, 2, 3)),
    in_span(lambda x: x.status()),
    lambda: s.metrics.counter("c").add(),
    lambda: s.metrics.counter().add(1),
    lambda: s.metrics.updown_counter("c", "unit").add(1),
    lambda: s.metrics.gauge("g", colour="red").set(1),
    lambda: s.metrics.histogram("h", 1, 2, 3).record(1),
    lambda: s.traceparent(1),
]


def test_no_call_raises_and_none_goes_uncounted(spans_dir: SpansDir) -> None:
    for number, call in enumerate(CALLS):
        before = spanyard.stats()
        try:
            contextvars.copy_context().run(call)  # some leave a span open
        except Exception as error:
            pytest.fail(f"call {number} raised {type(error).__name__}: {error}")
        after = spanyard.stats()
        assert after != before, f"call {number} left no trace"
        assert not after.dropped, f"call {number}: {after.errors}"
    for signal in ("logs", "metrics", "scores", "spans", "traces"):
        assert spans_dir.lines(signal)  # type: ignore[arg-type]  # and each keeps its schema


def test_nor_does_one_when_nothing_is_recorded() -> None:
    spanyard.configure()
    for call in CALLS:
        contextvars.copy_context().run(call)


def test_the_arguments_of_logging_are_understood(spans_dir: SpansDir) -> None:
    say.info("%s of %d", "one", 2, took=0.5)
    say.info("%s", {"order": 7})
    say.info("100%", 5)
    say.info("plain %s")
    first, mapping, wrong, plain = spans_dir.lines("logs")
    assert (first["message"], first["attributes"]) == ("one of 2", {"took": 0.5})
    assert (mapping["message"], mapping["attributes"]) == ("%s", {"order": 7})
    assert (wrong["message"], wrong["attributes"]) == ("100%", {"spanyard.arguments": [5]})
    assert plain["message"] == "plain %s"
    assert list(spanyard.stats().refused) == ["log message '100%' does not fit its 1 arguments"]


def test_an_exception_is_logged_with_its_stack(spans_dir: SpansDir) -> None:
    try:
        {}["weather"]
    except KeyError:
        spanyard.log.exception("tool %s failed", "weather", attempt=2)
    spanyard.log.exception("there is none")
    line, without = spans_dir.lines("logs")
    assert (line["level"], line["message"]) == ("error", "tool weather failed")
    assert line["attributes"]["exception.type"] == "KeyError"
    assert line["attributes"]["attempt"] == 2
    assert "test_never_raises.py" in line["attributes"]["exception.stacktrace"]
    assert "attributes" not in without


def test_what_was_given_is_kept_as_far_as_it_can_be_said(spans_dir: SpansDir) -> None:
    spanyard.log.info(
        "m",
        huge=2**70,
        vast=HUGE,
        nans=OrderedDict(a=math.nan),
        several={math.inf},
        level=Level.HIGH,
        changing=OddDict(a=1),
    )
    s.span("no mapping", attributes=[1, 2]).__enter__().__exit__(None, None, None)
    (line,) = spans_dir.lines("logs")
    given = line["attributes"]
    assert given["huge"] == given["level"] == str(2**70)
    assert given["vast"] == hex(HUGE)
    assert given["nans"] == {"a": "NaN"}
    assert given["several"] == ["Infinity"]
    assert "'a': 1" in given["changing"]
    assert spans_dir.ended()[0]["attributes"] == {"spanyard.value": [1, 2]}


def test_numbers_of_other_kinds_count_and_what_is_none_is_refused(spans_dir: SpansDir) -> None:
    class Float32:
        def __float__(self) -> float:
            return 0.5

    counter: Any = spanyard.metrics.counter("c")
    counter.add(Float32())
    counter.add(HUGE)
    counter.add("5")
    spanyard.metrics.histogram("h").record(math.nan)
    (line,) = spans_dir.lines("metrics")
    assert line["value"] == 0.5
    assert list(spanyard.stats().refused) == [
        "metric 'c': a huge number is not a number",
        "metric 'c': a str is not a number",
        "histogram 'h': NaN is in no bucket",
    ]


def test_a_misuse_is_said_once_and_kinds_of_it_are_bounded(
    spans_dir: SpansDir, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="spanyard"):
        for n in range(1000):
            s.metrics.gauge(f"g{n}").set("x")
            s.metrics.gauge("g").set("x")
    refused = spanyard.stats().refused
    assert len(refused) == _counts.MOST_KINDS + 1
    assert sum(refused.values()) == 2000
    assert len(caplog.records) == len(refused)


def test_the_writer_refuses_by_its_own_error_or_takes_it(tmp_path: Path) -> None:
    with ObservabilityWriter(tmp_path, project="team.shop", flush_interval=3600) as writer:
        with pytest.raises(BadRecordError, match="metric: .*value"):
            writer.record_metric(name="n", value=HUGE)
        writer.record_log(message="m", attributes={"v": HUGE, "w": math.nan, "o": Odd()})
        assert writer.flush().events == 1
    (file,) = tmp_path.rglob("*.jsonl")
    assert json.loads(file.read_text())["attributes"] == {
        "v": hex(HUGE),
        "w": "NaN",
        "o": "<Odd: RuntimeError>",
    }


def test_a_first_call_that_is_wrong_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process, "_sink", _process._Unread())
    monkeypatch.setenv("SPANYARD_SPANS_DIR", str(tmp_path / "spans"))
    with s.span("step", at=1) as span:
        assert not span.recording
    (told,) = spanyard.stats().refused
    assert "unexpected keyword argument 'at'" in told
    spanyard.configure()
