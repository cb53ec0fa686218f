"""Spans and traces: nesting, status, times, misuse."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import spanyard
from spanyard import _spans
from tests.unit.sdk.conftest import SpansDir


def test_a_span_is_written_at_its_start_and_at_its_end(spans_dir: SpansDir) -> None:
    with spanyard.span("plan", kind="client", attributes={"gen_ai.system": "x"}) as span:
        assert [line["endTime"] for line in spans_dir.lines("spans")] == [None]
        span.set({"gen_ai.usage.input_tokens": 12}, note="n")
        span.event("retry", attempt=2)
        span.link("a" * 32, "b" * 16, why="cause")
    start, end = spans_dir.lines("spans")
    assert start["id"] == end["id"] == span.id
    assert len(span.id) == 16
    assert len(span.trace_id) == 32
    assert "status" not in start
    assert (end["status"], end["spanKind"], end["name"]) == ("ok", "client", "plan")
    assert end["attributes"] == {
        "gen_ai.system": "x",
        "gen_ai.usage.input_tokens": 12,
        "note": "n",
    }
    assert end["events"][0]["name"] == "retry"
    assert end["events"][0]["attributes"] == {"attempt": 2}
    assert end["links"] == [
        {"traceId": "a" * 32, "spanId": "b" * 16, "attributes": {"why": "cause"}}
    ]
    assert start["startTime"] == end["startTime"] <= end["endTime"]


def test_starts_can_be_left_out(spans_dir: SpansDir) -> None:
    spanyard.configure(spans_dir=spans_dir.path, starts=False, service="shop")
    with spanyard.span("a") as span:
        assert spans_dir.lines("spans") == []
        span.update()
        assert [line["endTime"] for line in spans_dir.lines("spans")] == [None]
    assert len(spans_dir.ended()) == 1
    assert spans_dir.ended()[0]["service"] == "shop"


def test_spans_nest_by_their_blocks(spans_dir: SpansDir) -> None:
    with spanyard.span("outer") as outer:
        with spanyard.span("inner") as inner, spanyard.span("innermost"):
            pass
        with spanyard.span("sibling"):
            pass
    with spanyard.span("other root") as other:
        pass
    parents = {line["name"]: line.get("parentSpanId", "") for line in spans_dir.ended()}
    assert parents == {
        "outer": "",
        "inner": outer.id,
        "innermost": inner.id,
        "sibling": outer.id,
        "other root": "",
    }
    traces = {line["traceId"] for line in spans_dir.ended()}
    assert traces == {outer.trace_id, other.trace_id}


async def test_tasks_nest_below_the_span_they_were_started_in(spans_dir: SpansDir) -> None:
    async def work(name: str) -> None:
        with spanyard.span(name):
            await asyncio.sleep(0.001)
            with spanyard.span(f"{name} inner"):
                await asyncio.sleep(0.001)

    with spanyard.span("outer") as outer:
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(work(f"task {n}"))
    await asyncio.create_task(work("alone"))
    lines = {line["name"]: line for line in spans_dir.ended()}
    assert len(lines) == 43
    for n in range(20):
        assert lines[f"task {n}"]["parentSpanId"] == outer.id
        assert lines[f"task {n} inner"]["parentSpanId"] == lines[f"task {n}"]["id"]
    assert "parentSpanId" not in lines["alone"]


def test_threads_do_not_inherit_but_may_name_a_parent(spans_dir: SpansDir) -> None:
    def work(parent: spanyard.Span | None, n: int) -> None:
        with spanyard.span(f"t{n}", parent=parent):
            time.sleep(0.001)

    with spanyard.span("outer") as outer, ThreadPoolExecutor(8) as pool:
        for n in range(40):
            pool.submit(work, outer if n % 2 else None, n)  # type: ignore[arg-type]
    lines = [line for line in spans_dir.ended() if line["name"] != "outer"]
    assert len(lines) == 40
    for line in lines:
        odd = int(line["name"][1:]) % 2
        assert line.get("parentSpanId", "") == (outer.id if odd else "")
    assert len({line["id"] for line in lines}) == 40


def test_an_exception_marks_the_span_and_goes_on_its_way(spans_dir: SpansDir) -> None:
    with pytest.raises(KeyError), spanyard.span("outer"), spanyard.span("tool"):
        raise KeyError("weather")
    tool, outer = spans_dir.ended()
    assert (tool["status"], tool["statusMessage"]) == ("error", "'weather'")
    assert outer["status"] == "error"
    (event,) = tool["events"]
    assert event["name"] == "exception"
    assert event["attributes"]["exception.type"] == "KeyError"
    assert "test_spans.py" in event["attributes"]["exception.stacktrace"]
    assert _spans.place() is None


def test_an_exception_that_cannot_be_shown_is_still_recorded(spans_dir: SpansDir) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(OddError), spanyard.span("a"):
        raise OddError
    assert spans_dir.ended()[0]["status"] == "error"


def test_a_cancelled_task_is_an_error(spans_dir: SpansDir) -> None:
    async def work() -> None:
        with spanyard.span("slow"):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert spans_dir.ended()[0]["status"] == "error"
    assert spans_dir.ended()[0]["statusMessage"] == "CancelledError"


def test_a_status_that_was_set_stays(spans_dir: SpansDir) -> None:
    with spanyard.span("a") as span:
        span.status("error", "no answer")
    with pytest.raises(OSError, match="x"), spanyard.span("b").status("ok"):
        raise OSError("x")
    a, b = spans_dir.ended()
    assert (a["status"], a["statusMessage"]) == ("error", "no answer")
    assert b["status"] == "ok"


def test_a_clock_set_back_does_not_turn_a_span_around(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spanyard.span("a"):
        back = time.time_ns() - 3600 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: back)
    (line,) = spans_dir.ended()
    assert line["startTime"] <= line["endTime"]


def test_a_span_ended_in_another_context_harms_nobody(spans_dir: SpansDir) -> None:
    span = spanyard.span("handed over")
    contextvars.copy_context().run(span.__enter__)
    with spanyard.span("here") as here:
        span.__exit__(None, None, None)
        assert spanyard.span("child").parent_id == here.id  # type: ignore[union-attr]
    assert {line["name"] for line in spans_dir.ended()} == {"handed over", "here"}


def test_generators_that_end_out_of_order_leave_no_ended_span_open(spans_dir: SpansDir) -> None:
    def answers(name: str) -> Iterator[int]:
        with spanyard.span(name):
            yield 1

    with spanyard.span("request") as request:
        first, second = answers("first"), answers("second")
        next(first)
        next(second)
        first.close()
        spanyard.log.info("second is open")
        second.close()
        with spanyard.span("after"):
            pass
    assert _spans.place() is None
    lines = {line["name"]: line for line in spans_dir.ended()}
    assert spans_dir.lines("logs")[0]["spanId"] == lines["second"]["id"]
    assert lines["after"]["parentSpanId"] == request.id


def test_what_ends_elsewhere_leaves_the_span_alone_that_is_open_there(spans_dir: SpansDir) -> None:
    handed = spanyard.span("handed over")
    contextvars.copy_context().run(handed.__enter__)
    with spanyard.span("here") as here:
        handed.__exit__(None, None, None)
        spanyard.log.info("still here")
    assert spans_dir.lines("logs")[0]["spanId"] == here.id  # type: ignore[union-attr]


async def test_a_task_that_outlives_its_span_stays_in_its_trace(spans_dir: SpansDir) -> None:
    async def later() -> None:
        await ended.wait()
        spanyard.log.info("later")
        await asyncio.to_thread(spanyard.log.info, "in a thread of it")

    ended = asyncio.Event()
    with spanyard.span("request") as request:
        task = asyncio.create_task(later())
    ended.set()
    await task
    assert [x["spanId"] for x in spans_dir.lines("logs")] == [request.id] * 2  # type: ignore[union-attr]


async def test_a_chain_of_tasks_that_start_each_other_does_not_grow(spans_dir: SpansDir) -> None:
    depths: list[int] = []

    async def link(left: int) -> None:
        with spanyard.span("link"):
            here, depth = _spans.place(), 0
            while here is not None:
                here, depth = here.above, depth + 1
            depths.append(depth)
            following = asyncio.create_task(link(left - 1)) if left else None
            await asyncio.sleep(0)  # both are open for a moment
            await asyncio.sleep(0)
        if following:
            await following

    await link(50)
    assert len(depths) == 51
    assert max(depths) < 10


def test_misuse_is_counted_and_raises_nothing(spans_dir: SpansDir) -> None:
    with spanyard.span("a", kind="wrong") as span:  # type: ignore[arg-type]
        span.status("fine")  # type: ignore[arg-type]
    span.set(late=1)
    span.event("late")
    span.__exit__(None, None, None)
    span.__enter__()
    refused = spanyard.stats().refused
    assert len(refused) == 6
    assert any("'wrong' is not one of" in text for text in refused)
    assert len(spans_dir.ended()) == 1


def test_a_flood_of_events_is_cut_and_counted(spans_dir: SpansDir) -> None:
    with spanyard.span("a") as span:
        for n in range(1500):
            span.event("e", n=n)
    (line,) = spans_dir.ended()
    assert len(line["events"]) == 1000
    assert line["attributes"] == {"spanyard.dropped_events": 500}


def test_a_traceparent_continues_a_trace_from_elsewhere(spans_dir: SpansDir) -> None:
    header = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with spanyard.span("server", kind="server", traceparent=header) as span:
        assert spanyard.traceparent() == f"00-{'ab' * 16}-{span.id}-01" == span.traceparent
    (line,) = spans_dir.ended()
    assert (line["traceId"], line["parentSpanId"]) == ("ab" * 16, "cd" * 8)
    assert spanyard.traceparent() == ""


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        "00-abc-def-01",
        f"00-{'AB' * 16}-{'cd' * 8}-01",
        f"00-{'00' * 16}-{'cd' * 8}-01",
        f"00-{'ab' * 16}-{'00' * 8}-01",
        f"ff-{'ab' * 16}-{'cd' * 8}-01",
    ],
)
def test_a_traceparent_that_is_none_is_ignored(spans_dir: SpansDir, header: str) -> None:
    with spanyard.span("server", traceparent=header) as span:
        assert span.parent_id == ""


def test_a_trace_reports_input_and_output_and_holds_its_spans(spans_dir: SpansDir) -> None:
    with spanyard.trace("question", input={"text": "?"}, metadata={"user": "u1"}) as trace:
        with spanyard.span("plan"):
            spanyard.log.info("thinking")
        trace.set(model="m").output(["answer"])
    start, end = spans_dir.lines("traces")
    assert (start["endTime"], start["status"]) == (None, "unset")
    assert end["status"] == "ok"
    assert (end["input"], end["output"]) == ({"text": "?"}, ["answer"])
    assert end["metadata"] == {"user": "u1", "model": "m"}
    (span,) = spans_dir.ended()
    assert span["traceId"] == trace.id == end["id"]
    assert "parentSpanId" not in span
    assert spans_dir.lines("logs")[0]["traceId"] == trace.id


def test_many_threads_write_whole_lines(spans_dir: SpansDir) -> None:
    barrier = threading.Barrier(8)

    def work(n: int) -> None:
        barrier.wait()
        for k in range(200):
            spanyard.log.info("m", n=n, k=k, text="x" * (k % 50))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    lines = spans_dir.lines("logs")
    assert len(lines) == 1600
    for n in range(8):
        mine = [x["attributes"]["k"] for x in lines if x["attributes"]["n"] == n]
        assert mine == list(range(200))
    assert len(spans_dir.files("logs")) == 1


def test_nothing_is_done_without_a_directory() -> None:
    spanyard.configure()
    with spanyard.span("a") as span, spanyard.trace("t", input=1) as trace:
        span.set(x=1).event("e").status("ok").update().link("a", "b")
        trace.output(1)
        spanyard.log.info("x")
        spanyard.metrics.counter("c").add(1)
        spanyard.score("s", 1)
    assert not span.recording
    assert spanyard.traceparent() == ""
    stats = spanyard.stats()
    assert not stats.enabled
    assert stats.reason == "SPANYARD_SPANS_DIR is not set: nothing is recorded"
