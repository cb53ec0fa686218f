"""Spans of ours and of OpenTelemetry's inside each other, with its real SDK and its API alone."""

import asyncio
import contextvars
import gc
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

import spanyard
from spanyard import _otel, _places
from tests.unit.sdk.conftest import SpansDir


class Otel:
    """A tracer of the SDK, and what it exported: name -> (trace id, span id, parent id)."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def span(self, name: str) -> ReadableSpan:
        [found] = [s for s in self.exporter.get_finished_spans() if s.name == name]
        return found

    def ids(self, name: str) -> tuple[str, str, str]:
        found = self.span(name)
        assert found.context is not None
        parent = f"{found.parent.span_id:016x}" if found.parent else ""
        return f"{found.context.trace_id:032x}", f"{found.context.span_id:016x}", parent


@pytest.fixture(autouse=True)
def _nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING):
        yield
    assert not trace.get_current_span().get_span_context().is_valid
    assert _places.place() is None
    assert "detach" not in caplog.text


@pytest.fixture
def otel() -> Iterator[Otel]:
    made = Otel()
    yield made
    made.provider.shutdown()


def ours(spans_dir: SpansDir) -> dict[str, tuple[str, str, str]]:
    return {
        line["name"]: (line["traceId"], line["id"], line.get("parentSpanId", ""))
        for line in spans_dir.ended()
    }


def test_spans_nest_in_each_other_to_any_depth(spans_dir: SpansDir, otel: Otel) -> None:
    with otel.tracer.start_as_current_span("1 theirs"):
        with spanyard.span("2 ours"):
            with (
                otel.tracer.start_as_current_span("3 theirs"),
                spanyard.span("4 ours"),
                spanyard.span("5 ours"),
            ):
                with otel.tracer.start_as_current_span("6 theirs"):
                    pass
                with otel.tracer.start_as_current_span("7 theirs"):
                    pass
            with spanyard.span("8 ours"):
                pass
        with spanyard.span("9 ours"):
            pass
    found = ours(spans_dir)
    for name in ("1 theirs", "3 theirs", "6 theirs", "7 theirs"):
        found[name] = otel.ids(name)
    assert len({trace_id for trace_id, _, _ in found.values()}) == 1
    names = {span_id: name[0] for name, (_, span_id, _) in found.items()}
    parents = {name[0]: names.get(parent, "") for name, (_, _, parent) in sorted(found.items())}
    assert parents == dict(zip("123456789", ["", *"12345521"], strict=True))
    assert spanyard.stats().refused == {}


def test_a_root_of_ours_gives_its_trace_to_theirs(spans_dir: SpansDir, otel: Otel) -> None:
    with spanyard.span("ours") as span, otel.tracer.start_as_current_span("theirs"):
        pass
    assert otel.ids("theirs")[::2] == (span.trace_id, span.id)
    assert not otel.span("theirs").parent.is_remote  # type: ignore[union-attr]


def test_logs_metrics_scores_and_headers_carry_the_innermost_span(
    spans_dir: SpansDir, otel: Otel
) -> None:
    def tell() -> str:
        spanyard.log.info("said")
        spanyard.metrics.counter("c").add(1)
        spanyard.score("s", 1)
        return spanyard.traceparent()

    with spanyard.span("ours") as span:
        with otel.tracer.start_as_current_span("theirs") as theirs:
            inside = tell()
        outside = tell()
    about = theirs.get_span_context()
    expected = [(span.trace_id, f"{about.span_id:016x}"), (span.trace_id, span.id)]
    for signal in ("logs", "metrics", "scores"):
        lines = spans_dir.lines(signal)
        assert [(line["traceId"], line["spanId"]) for line in lines] == expected, signal
    assert [inside, outside] == [f"00-{t}-{s}-01" for t, s in expected]


def test_an_exception_gives_both_contexts_back(spans_dir: SpansDir, otel: Otel) -> None:
    with otel.tracer.start_as_current_span("theirs") as theirs:
        with (
            pytest.raises(ZeroDivisionError),
            spanyard.span("ours"),
            otel.tracer.start_as_current_span("inner"),
        ):
            _ = 1 / 0
        assert trace.get_current_span() is theirs
        with spanyard.span("after"):
            pass
    assert ours(spans_dir)["after"][2] == otel.ids("theirs")[1]


async def test_tasks_keep_to_their_own(spans_dir: SpansDir, otel: Otel) -> None:
    async def work(n: int) -> None:
        with otel.tracer.start_as_current_span(f"theirs {n}"):
            await asyncio.sleep(0)
            with spanyard.span(f"ours {n}"):
                await asyncio.sleep(0)
                with otel.tracer.start_as_current_span(f"inner {n}"):
                    await asyncio.sleep(0)

    with spanyard.span("root") as root:
        await asyncio.gather(*(work(n) for n in range(5)))
    found = ours(spans_dir)
    for n in range(5):
        assert otel.ids(f"theirs {n}")[::2] == (root.trace_id, root.id)
        assert found[f"ours {n}"][2] == otel.ids(f"theirs {n}")[1]
        assert otel.ids(f"inner {n}")[2] == found[f"ours {n}"][1]


def test_a_thread_begins_anew_and_may_be_handed_a_context(spans_dir: SpansDir, otel: Otel) -> None:
    def work(name: str, handed: context.Context | None) -> None:
        token = context.attach(handed) if handed is not None else None
        with spanyard.span(name), otel.tracer.start_as_current_span(f"{name} theirs"):
            pass
        if token is not None:
            context.detach(token)

    with spanyard.span("root") as root:
        for name, handed in (("alone", None), ("handed", context.get_current())):
            thread = threading.Thread(target=work, args=(name, handed))
            thread.start()
            thread.join()
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work, "copy", None))
        thread.start()
        thread.join()
    found = ours(spans_dir)
    assert found["alone"][0] != root.trace_id
    assert found["handed"][::2] == found["copy"][::2] == (root.trace_id, root.id)
    for name in ("alone", "handed", "copy"):
        assert otel.ids(f"{name} theirs")[::2] == found[name][:2]


async def test_a_generator_closed_in_another_context_logs_nothing(
    spans_dir: SpansDir, otel: Otel
) -> None:
    async def pieces() -> AsyncIterator[int]:
        with spanyard.span("stream"):
            yield 1
            yield 2

    stream = pieces()

    async def first() -> None:
        await anext(stream)

    await asyncio.create_task(first())
    with otel.tracer.start_as_current_span("theirs") as theirs:
        await stream.aclose()  # type: ignore[attr-defined]
        assert trace.get_current_span() is theirs
    assert "stream" in ours(spans_dir)
    assert spanyard.stats().refused == {}


def test_ends_out_of_order_leave_nothing_behind(spans_dir: SpansDir, otel: Otel) -> None:
    first, second = spanyard.span("first"), spanyard.span("second")
    with otel.tracer.start_as_current_span("theirs") as theirs:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        with otel.tracer.start_as_current_span("in second"):
            pass
        second.__exit__(None, None, None)
        assert trace.get_current_span() is theirs
    assert otel.ids("in second")[2] == second.id


def test_theirs_may_end_after_ours_around_it(spans_dir: SpansDir, otel: Otel) -> None:
    with spanyard.span("outer") as outer:
        ours_first = spanyard.span("ours").__enter__()
        theirs = otel.tracer.start_as_current_span("theirs")
        theirs.__enter__()
        ours_first.__exit__(None, None, None)
        theirs.__exit__(None, None, None)
        with spanyard.span("after"):
            pass
    assert ours(spans_dir)["after"][2] == outer.id


def test_what_has_ended_is_freed_at_once(spans_dir: SpansDir, otel: Otel) -> None:
    gc.collect()
    gc.disable()
    try:
        with spanyard.span("ours"), otel.tracer.start_as_current_span("theirs"):
            pass
        assert [o for o in gc.get_objects() if issubclass(type(o), _places.Place)] == []
    finally:
        gc.enable()


def test_a_chain_of_tasks_stays_short(spans_dir: SpansDir, otel: Otel) -> None:
    here = contextvars.copy_context()

    def step() -> contextvars.Context:
        with spanyard.span("step"):
            return contextvars.copy_context()

    for _ in range(20):
        here = here.run(step)

    def depth() -> int:
        span, found = trace.get_current_span(), 0
        while (place := _otel.owner(span)) is not None:
            span, found = place.outside, found + 1
        return found

    assert here.run(depth) == 1


def test_baggage_set_inside_survives_and_around_is_seen(spans_dir: SpansDir, otel: Otel) -> None:
    token = context.attach(baggage.set_baggage("tenant", "a"))
    with spanyard.span("ours"):
        assert baggage.get_baggage("tenant") == "a"
    assert baggage.get_baggage("tenant") == "a"
    context.detach(token)
    assert baggage.get_baggage("tenant") is None


def test_below_a_span_that_is_not_sampled_ours_are_written_and_theirs_stay_unsampled(
    spans_dir: SpansDir,
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("theirs") as theirs, spanyard.span("ours") as span:
        assert spanyard.traceparent() == span.traceparent
        assert span.traceparent.endswith("-00")
        with tracer.start_as_current_span("inner") as inner:
            assert not inner.is_recording()
    about = theirs.get_span_context()
    ids = (f"{about.trace_id:032x}", f"{about.span_id:016x}")
    assert ours(spans_dir)["ours"][::2] == ids
    assert exporter.get_finished_spans() == ()
    provider.shutdown()


def test_a_trace_reports_the_trace_that_opentelemetry_began(
    spans_dir: SpansDir, otel: Otel
) -> None:
    with (
        otel.tracer.start_as_current_span("theirs"),
        spanyard.trace("joined") as joined,
        spanyard.span("ours"),
        spanyard.trace("own") as own,
    ):
        pass
    with spanyard.trace("alone") as alone, otel.tracer.start_as_current_span("in alone"):
        pass
    assert (joined.id, otel.ids("theirs")[1]) == ours(spans_dir)["ours"][::2]
    assert joined.id == otel.ids("theirs")[0] != own.id
    assert otel.ids("in alone")[0] == alone.id


def test_the_api_alone_without_sdk_changes_nothing(spans_dir: SpansDir) -> None:
    tracer = trace.NoOpTracer()
    with (
        tracer.start_as_current_span("nothing"),
        spanyard.span("outer") as outer,
        tracer.start_as_current_span("nothing"),
    ):
        with spanyard.trace("own") as own, spanyard.span("in own"):
            pass
        with spanyard.span("inner"):
            pass
    found = ours(spans_dir)
    assert found["outer"][2] == ""
    assert found["inner"][::2] == (outer.trace_id, outer.id)
    assert own.id == found["in own"][0] != outer.trace_id


def test_a_copy_of_our_span_is_our_span(spans_dir: SpansDir) -> None:
    # What older releases of the API alone make of each new span.
    with spanyard.span("outer"):
        copy = trace.NonRecordingSpan(trace.get_current_span().get_span_context())
        with trace.use_span(copy), spanyard.trace("own") as own, spanyard.span("in own"):
            pass
    found = ours(spans_dir)
    assert own.id == found["in own"][0] != found["outer"][0]


class Broken(trace.NonRecordingSpan):
    def get_span_context(self) -> trace.SpanContext:
        raise OSError


def test_what_fails_in_opentelemetry_is_counted_and_never_raised(spans_dir: SpansDir) -> None:
    token = context.attach(trace.set_span_in_context(Broken(trace.INVALID_SPAN_CONTEXT)))
    with spanyard.span("ours"):
        spanyard.log.info("said")
    spanyard.log.info("said")
    context.detach(token)
    assert "ours" in ours(spans_dir)
    assert len(spans_dir.lines("logs")) == 2
    assert "OpenTelemetry's current span: OSError" in spanyard.stats().refused


def test_a_context_that_cannot_be_attached_leaves_ours_as_it_was(
    spans_dir: SpansDir, otel: Otel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    with otel.tracer.start_as_current_span("theirs"):
        with monkeypatch.context() as patch:
            patch.setattr(trace, "NonRecordingSpan", broken)
            outer = spanyard.span("outer").__enter__()
        with spanyard.span("inner"):
            pass
        outer.__exit__(None, None, None)
    assert ours(spans_dir)["inner"][2] == outer.id
    assert spanyard.stats().refused == {"OpenTelemetry's context: RuntimeError": 1}


def test_a_module_that_another_thread_is_importing_is_left_alone(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", ModuleType("opentelemetry.trace"))
    with spanyard.span("ours"):
        spanyard.log.info("said")
    assert spanyard.stats().refused == {}


def test_the_example_of_the_documentation_runs(spans_dir: SpansDir) -> None:
    text = (Path(__file__).parents[3] / "docs" / "sdk.md").read_text("utf-8")
    [example] = re.findall(r"## Together with OpenTelemetry.*?```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example],
        check=False,
        capture_output=True,
        env={**os.environ, "SPANYARD_SPANS_DIR": str(spans_dir.path)},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    [plan] = spans_dir.ended()
    [log], [metric] = spans_dir.lines("logs"), spans_dir.lines("metrics")
    assert log["traceId"] == plan["traceId"] == metric["traceId"]
    assert plan["parentSpanId"]
    assert log["spanId"] == plan["id"] != metric["spanId"]


def test_opentelemetry_is_never_imported_unasked() -> None:
    script = (
        "import sys, tempfile, spanyard\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    spanyard.configure(spans_dir=folder)\n"
        "    with spanyard.span('a'): spanyard.log.info('b')\n"
        "    assert not [m for m in sys.modules if m.startswith('opentelemetry')]\n"
        "    outer = spanyard.span('early').__enter__()\n"
        "    from opentelemetry import trace\n"
        "    with spanyard.span('late') as late:\n"
        "        there = trace.get_current_span().get_span_context()\n"
        "        assert f'{there.span_id:016x}' == late.id and late.parent_id == outer.id\n"
        "    outer.__exit__(None, None, None)\n"
        "    assert not spanyard.stats().refused\n"
        "    spanyard.shutdown()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
