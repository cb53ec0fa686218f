"""What commands make of live streams: each line once, whatever it comes by; a tree that grows; top."""

import io
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spanyard_core.clock import rfc3339
from spanyard_local.cli.build_log import FINISHED, follow
from spanyard_local.cli.listening import Listening
from spanyard_local.cli.live_build import LiveBuild
from spanyard_local.cli.live_lines import LiveLines, unknown_live
from spanyard_local.cli.live_trace import GrowingTrace, Watch
from spanyard_local.cli.newest import AT_ONCE, Newest
from spanyard_local.cli.painting import Painting
from spanyard_local.cli.tables import Cell, print_table
from spanyard_local.cli.top_rows import COLUMNS, SORTS, cells, figures, ordered
from spanyard_local.live_client import (
    Back,
    BuildStatus,
    Dropped,
    Event,
    Line,
    Lines,
    Live,
    Lost,
    Over,
    Partial,
    Resume,
    Span,
    Spans,
)
from spanyard_local.server_client import ServerClient, ServerError
from spanyard_local.terminal import Terminal

NOW = time.time_ns()


class Script:
    """A `Listening` that plays what each subscription hears, one after the other."""

    def __init__(self, *scripts: list[Event]) -> None:
        self.scripts = list(scripts)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self._heard: Iterator[Event] = iter(())
        self.live = self

    @property
    def subscriptions(self) -> list[str]:
        return list(self.open)

    def subscribe(self, channel: str, **wish: Any) -> str:
        self.asked.append((channel, wish))
        self._heard = iter(self.scripts.pop(0))
        self.open.append("a")
        return "a"

    def unsubscribe(self, subscription: str) -> None:
        self.open.remove(subscription)

    def next(self, timeout: float | None = None) -> Event | None:
        return next(self._heard, None)

    def events(self) -> Iterator[Event]:
        return self._heard


def at(ago_s: float) -> str:
    return rfc3339(time.time_ns() - int(ago_s * 1e9))


def lines(
    *seqs: int, ago_s: float = 1, history: bool = False, writer: str = "w", **more: Any
) -> Lines:
    items = [Line(seq=n, line=f"line {n}", timestamp=at(ago_s), level="info", **more) for n in seqs]
    return Lines(
        id="a", type="server:log", writer=writer, first=seqs[0], last=seqs[-1], left=0, items=items,
        history=history,
    )  # fmt: skip


def stored(*seqs: int, ago_s: float = 5) -> list[dict[str, Any]]:
    return [{"recordId": f"w#{n}", "timestamp": at(ago_s), "seq": n} for n in seqs]


LIVE = Live(id="a", resume=Resume(1, {}))


def shown(
    script: Script, params: dict[str, str], past: list[dict[str, Any]], *, most: int | None, since: int | None = None
) -> tuple[list[int], list[str]]:  # fmt: skip
    told: list[str] = []
    found = LiveLines(cast("Listening", script), "local.support", params, tell=told.append)
    return [line["seq"] for line in found.lines(past, since_ns=since, most=most)], told


def test_stored_lines_history_and_live_are_one_row_without_a_repeat() -> None:
    script = Script([lines(1, 2, 3, 4, ago_s=3, history=True), lines(5), LIVE, lines(6, 7)])
    found, told = shown(script, {"level": "warn,error", "text": "x"}, stored(1, 2, 3), most=100)
    assert (found, told) == ([1, 2, 3, 4, 5, 6, 7], [])
    assert script.asked == [
        ("project:local.support", {"history": 1000, "filter": {"level": ["warn", "error"], "text": "x"}})
    ]  # fmt: skip


def test_no_more_lines_begin_than_were_asked_for_and_none_older_than_they_may_be() -> None:
    old = lines(1, 2, ago_s=50, history=True)
    new = lines(8, 9, ago_s=1, history=True)
    past = stored(5, 6, 7)
    assert shown(Script([old, new, LIVE]), {}, past, most=3)[0] == [7, 8, 9]
    assert shown(Script([old, new, LIVE]), {}, past, most=9)[0] == [5, 6, 7, 1, 2, 8, 9]
    assert shown(Script([old, new, LIVE]), {}, past, most=None, since=time.time_ns() - 10**10)[
        0
    ] == [
        5,
        6,
        7,
        8,
        9,
    ]


def test_history_that_may_not_reach_back_to_what_is_stored_is_asked_for_deeper() -> None:
    many = [lines(*range(n, n + 500), history=True) for n in range(1, 10_001, 500)]
    script = Script([*many[-2:], LIVE], [*many, LIVE, lines(10_001)])
    found, told = shown(script, {"deployment": "agent"}, [], most=None)
    assert [wish["history"] for _, wish in script.asked] == [1_000, 10_000]
    assert script.open == ["a"]
    assert "came within a minute" in told[0]
    assert found == []  # of another deployment: the gateway was not asked by its name
    script = Script([lines(*range(1, 1_001), ago_s=90, history=True), LIVE])
    assert shown(script, {}, [], most=None) == (list(range(1, 1_001)), [])


def test_filters_that_the_gateway_does_not_know_live_are_applied_here() -> None:
    script = Script([
        LIVE,
        lines(1, deployment="agent", pod="p", attributes={"user": "u-1", "n": 5}),
        lines(2, deployment="agent", pod="q", attributes={"user": "u-1", "n": 5}),
        lines(3, deployment="agent", pod="p", attributes={"user": "u-2", "n": 5}),
        lines(4, deployment="agent", pod="p"),
    ])  # fmt: skip
    params = {"deployment": "agent", "pod": "p", "attr.user": "u-1", "attr.n": "5"}
    assert shown(script, params, [], most=10)[0] == [1]
    assert script.asked[0][0] == "server:local.agent"
    script = Script([LIVE, lines(1, build="local.b"), lines(2)])
    assert shown(script, {"build": "local.b"}, [], most=10)[0] == [1]
    assert script.asked[0][0] == "build:local.b"
    assert unknown_live({"traceId": "y", "level": "warn", "attr.service": "z"}) == (
        "only the database knows --trace"
    )
    assert unknown_live({"service": None, "level": "warn"}) == ""


def test_a_deployment_that_is_gone_is_followed_in_its_project_and_other_refusals_are_errors() -> (
    None
):
    gone = Over(id="a", code="not-found", message="there is no deployment local.agent")
    script = Script([gone], [LIVE, lines(1, deployment="agent"), lines(2, deployment="other")])
    assert shown(script, {"deployment": "agent"}, [], most=10)[0] == [1]
    assert [channel for channel, _ in script.asked] == [
        "server:local.agent",
        "project:local.support",
    ]
    with pytest.raises(ServerError, match="not any more") as refused:
        shown(
            Script([LIVE, Over(id="a", code="forbidden", message="not any more")]), {}, [], most=1
        )
    assert refused.value.status == 403


def test_what_is_missing_and_what_is_away_is_said_beside_the_lines() -> None:
    dropped = Dropped(id="a", writer="w", first=1, last=3, count=3, reason="slow-client")
    partial = Partial(id="a", reason="database-away", message="ClickHouse is away")
    script = Script([LIVE, dropped, partial, Lost(reason="gone", again=1), Back(), lines(4)])
    found, told = shown(script, {}, [], most=10)
    assert found == [4]
    assert told == [
        "3 records are missing here: they came faster than they could be shown",
        "for now not everything can be had: ClickHouse is away",
        "gone; trying again …",
        "the gateway answers again; it goes on where it was",
    ]


# --- a build's log ---------------------------------------------------------------------------


def status(phase: str) -> BuildStatus:
    return BuildStatus(id="a", build_id="local.b", uid="u", status={"phase": phase})


def test_a_build_is_told_until_it_has_ended_and_its_split_lines_are_whole() -> None:
    script = Script([
        LIVE, status("Building"), lines(1), lines(2, marks=["split"]), lines(3, marks=["split"], writer="v"),
        lines(3, marks=["split", "split-end"]), status("Succeeded"), lines(4),
    ])  # fmt: skip
    found = LiveBuild(cast("Listening", script), "local.b", at(60))
    assert list(found.lines(FINISHED)) == ["line 1", "line 2line 3", "line 4"]
    [(channel, wish)] = script.asked
    assert (channel, wish["resume"].seen) == ("build:local.b", {})
    assert found.trouble == ""


@pytest.mark.parametrize(
    "event",
    [
        Over(id="a", code="not-found", message="x"),
        Partial(id="a", reason="database-away", message="x"),
        Dropped(id="a", writer="w", first=1, last=1, count=1, reason="x"),
    ],
)
def test_a_stream_that_cannot_tell_all_of_a_build_leaves_it_to_what_is_stored(event: Event) -> None:
    found = LiveBuild(cast("Listening", Script([lines(1), event, lines(2)])), "local.b", at(60))
    assert list(found.lines(FINISHED)) == ["line 1"]
    assert "x" in found.trouble


class Stored(ServerClient):
    """A build whose log is stored in two steps."""

    def __init__(self) -> None:
        super().__init__("http://gateway")
        self.texts = [
            ("one\nsame\ntwo\nsame\n", False),
            ("one\nsame\ntwo\nsame\nlate\nthree\n", True),
        ]

    def get(self, path: str, params: Any = None) -> Any:
        if not path.endswith("/logs"):
            return {"resource": {"status": {"phase": "Succeeded"}}}
        text, complete = self.texts.pop(0)
        return {"text": text, "offset": 0, "complete": complete}


def test_what_the_stream_told_of_a_build_is_not_told_again() -> None:
    live = iter(["one", "same", "two"])
    found = list(follow(Stored(), "local.b", live=live, sleep=lambda s: None, clock=lambda: 0.0))
    assert found == ["one", "same", "two", "same", "late", "three"]


# --- a trace ---------------------------------------------------------------------------------


def span(seq: int, name: str, parent: str = "", end: bool = False, **more: Any) -> Span:
    return Span(
        seq=seq, id=name, trace_id="t", name=name, start_time=rfc3339(NOW), parent_span_id=parent,
        end_time=rfc3339(NOW + 5 * 10**6) if end else None, **more,
    )  # fmt: skip


def test_a_trace_grows_by_starts_and_ends_and_is_over_when_nothing_runs() -> None:
    trace = GrowingTrace()
    assert not trace.over
    trace.take(span(1, "root"))
    trace.take(span(2, "chat", "root"))
    assert [s["durationNs"] for s in trace.spans(NOW + 10**9)] == [10**9, 10**9]
    tokens = {"gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 12,
              "gen_ai.usage.output_tokens": "3", "gen_ai.usage.cost": 0.5}  # fmt: skip
    ended = trace.take(span(3, "chat", "root", end=True, attributes=tokens))
    assert (ended["durationNs"], ended["model"]) == (5 * 10**6, "m-1")
    assert (ended["inputTokens"], ended["outputTokens"], ended["cost"]) == (12, 3, 0.5)
    assert trace.unfinished == 1
    trace.take(span(4, "root", end=True, attributes={"gen_ai.usage.input_tokens": "many"}))
    trace.take(span(1, "root"))  # an earlier word that comes later
    assert trace.over


def test_of_two_projects_with_a_trace_of_this_id_one_is_shown() -> None:
    out = io.StringIO()
    left: list[str] = []
    context: Any = SimpleNamespace(terminal=Terminal(out, False, False), output="json")
    listening: Any = SimpleNamespace(unsubscribe=left.append)
    watch = Watch(context, listening, "t", {"a": "local.a", "b": "local.b"})
    for subscription in ("b", "a", "b"):  # what was under way still comes
        watch.take(
            Spans(
                id=subscription, type="span:started", writer="w", first=1, last=1, left=0,
                items=[span(1, "root")],
            )
        )  # fmt: skip
    assert [json.loads(line)["projectId"] for line in out.getvalue().splitlines()] == [
        "local.b",
        "local.b",
    ]
    assert left == ["a"]


# --- top -------------------------------------------------------------------------------------


def deployment(name: str, ready: str = "True", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "reason": "Serving"}]
    return {"id": f"local.{name}", "projectId": "local.p", "name": name,
            "resource": {"status": {"conditions": conditions, **status}}}  # fmt: skip


class Many:
    """A `Listening` to deployments that print a line each; those that are silent answer nothing."""

    def __init__(self, silent: str = "") -> None:
        self.silent = silent
        self.open: dict[str, str] = {}
        self.most = self.asked = 0
        self._events: list[Event] = []

    def subscribe(self, channel: str, **_: Any) -> str:
        name = f"s{self.asked}"
        self.asked += 1
        self.open[name] = channel
        self.most = max(self.most, len(self.open))
        if channel != self.silent:
            line = Line(seq=7, line="x", timestamp=rfc3339(NOW), level="info")
            told = Lines(id=name, type="server:log", writer=channel, first=7, last=7, left=0,
                         items=[line])  # fmt: skip
            self._events += [told, Live(id=name, resume=Resume(0, {}))]
        return name

    def unsubscribe(self, name: str) -> None:
        del self.open[name]

    def next(self, timeout: float) -> Event | None:
        return self._events.pop(0) if self._events else None


def test_top_of_hundreds_of_deployments_asks_for_some_at_each_look_and_one_holds_up_nobody() -> (
    None
):
    stored = {"recordId": "else#1", "timestamp": rfc3339(NOW - 10**9)}
    context: Any = SimpleNamespace(client=SimpleNamespace(pages=lambda *_, **__: [stored]))
    listening = Many(silent="server:local.d7")
    deployments = [deployment(f"d{n}") for n in range(500)]
    newest = Newest(context, listening)
    first = newest.lags(deployments)
    assert (first.pop("local.d8"), len(first)) == (10**9, 498), "all but the silent one"
    assert (listening.asked, listening.most, listening.open) == (500, AT_ONCE, {})
    for look in range(1, 500 // AT_ONCE + 1):
        assert len(newest.lags(deployments)) == 499
        assert listening.asked == 500 + look * AT_ONCE
    listening.silent = ""
    for _ in range(500 // AT_ONCE):
        found = newest.lags(deployments)
    assert len(found) == 500, "each had its turn"
    assert newest.lags(deployments[:3]).keys() == {"local.d0", "local.d1", "local.d2"}


def test_top_adds_up_a_deployments_traces_and_sorts_the_worst_first() -> None:
    total = {
        "traces": 30,
        "errors": 3,
        "p95Ns": 2 * 10**9,
        "inputTokens": 500,
        "outputTokens": 100,
        "cost": 1.5,
    }
    busy = figures(
        deployment("b", revision=3, replicas=2, readyReplicas=1, restarts=4), total, 60, 5 * 10**9
    )
    idle = figures(deployment("a", "False", reason="CrashLoop"), None, 60, None)
    assert (busy["requestsPerSecond"], busy["errorPercent"], busy["tokensPerSecond"]) == (
        0.5,
        10,
        10,
    )
    assert [c.text if isinstance(c, Cell) else c for c in cells(busy)] == [
        "local.b", "healthy", "3", "1/2", "0.50", "10.0%", "2.00s", "10", "$1.5000", "5.00s", "4",
    ]  # fmt: skip
    assert [c.text if isinstance(c, Cell) else c for c in cells(idle)] == [
        "local.a", "CrashLoop", "", "0/0", "0", "", "", "", "", "", "0",
    ]  # fmt: skip
    first = {sort: ordered([idle, busy], sort)[0]["id"] for sort in SORTS}
    assert {sort for sort, name in first.items() if name == "local.a"} == {"name", "health"}
    assert len({key for key, _ in SORTS.values()} - {"q"}) == len(SORTS), "a key for each"


def test_a_picture_is_painted_over_and_one_that_is_too_high_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    painting = Painting(Terminal(out, colours=False, live=True))

    def draw(terminal: Terminal) -> None:
        for n in range(20):
            terminal.print(f"row {n}")

    painting.paint(draw)
    assert out.getvalue().splitlines() == [
        "row 0",
        "row 1",
        "… 15 lines more …",
        "row 17",
        "row 18",
        "row 19",
    ]
    painting.paint(draw, whole=True)
    painting.clear()
    assert out.getvalue().count("\033[6F\033[J") == 1
    assert out.getvalue().endswith("row 18\nrow 19\n")


def test_a_picture_knows_how_high_it_is_and_whether_it_still_stands_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("COLUMNS", "10")
    out = io.StringIO()
    painting = Painting(Terminal(out, colours=True, live=True), tail=False)

    def draw(terminal: Terminal) -> None:
        terminal.print(terminal.style("漢字漢字漢字", "bold"))
        for n in range(5):
            terminal.print(f"row {n}")

    painting.paint(draw)
    assert out.getvalue().splitlines()[1:] == ["row 0", "row 1", "… 3 lines more …"]
    painting.paint(draw)
    assert "\033[6F\033[J" in out.getvalue(), "two lines of it were wider than the terminal"
    monkeypatch.setenv("COLUMNS", "20")
    assert not painting.fits
    painting.paint(draw)
    assert painting.fits
    assert out.getvalue().count("\033[H\033[J") == 1
    painting.afresh()
    assert not painting.fits
    painting.paint(draw)
    assert out.getvalue().count("\033[J") == 2, "what others wrote is left alone"


def test_a_narrow_terminal_has_the_columns_of_top_that_matter_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [cells(figures({"id": "local.support", "projectId": "p"}, {"traces": 5}, 60.0, 0))]
    for room, last in ((200, "RESTARTS"), (60, "LAG"), (40, "P95"), (20, "HEALTH")):
        monkeypatch.setenv("COLUMNS", str(room))
        out = io.StringIO()
        print_table(Terminal(out, colours=False, live=True), COLUMNS, rows, keep_empty=True)
        head = out.getvalue().splitlines()[0]
        assert (len(head) <= room, head.split()[-1]) == (True, last), head
