"""Traces and scores over time: the same numbers as the lists, whatever was recorded."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from spanyard_core.clock import rfc3339
from spanyard_core.records import AnyLine, ScoreLine, Signal, SpanLine, TraceLine
from tests.fakes.gateway_api import T0, Api, Filled, filled, running_gateway
from tests.fakes.odd_records import PROJECT as ODD
from tests.fakes.odd_records import odd_lines

PROJECT = "local.figures"
CROWD = "local.crowd"
LATE = "local.late"
MINUTE = 60 * 10**9
PODS = ("agent-1-bcdfg", "agent-2-hjklm", "agent-server-7c9f8d6b5d-x2x5z", "agent-0", "")
SUMS = ("inputTokens", "outputTokens", "cost")


def at(ns: int) -> str:
    return rfc3339(T0 + ns)


def traces() -> list[AnyLine]:
    """Some 300 traces in an hour and more, some of them begun twice, failed, or never ended."""
    rng = random.Random(7)
    made: list[AnyLine] = []

    def span(trace: str, start: int, **more: Any) -> None:
        values = {"project": PROJECT, "writer": "w/spans@e", "seq": len(made) + 1, "trace_id": trace,
                  "id": f"{len(made):016x}", "name": "ask", "start_time": at(start)}  # fmt: skip
        made.append(SpanLine(**(values | more)))

    for n in range(300):
        trace, start = f"{n:032x}", rng.randrange(80 * MINUTE)
        pod = rng.choice(PODS)
        whose = {"deployment": "agent" if pod else rng.choice(("", "other")), "pod": pod}
        took = rng.randrange(10**6, 10**10)
        for root in range(rng.choice((1, 1, 1, 2))):
            begin = start + root * rng.randrange(10**9)
            id_ = f"{n:08x}{root:08x}"
            status = rng.choice(("ok", "ok", "error", "unset"))
            if rng.random() < 0.6:
                span(trace, begin, id=id_, end_time=None, **whose)
            if rng.random() < 0.9:
                span(trace, begin, id=id_, end_time=at(begin + took), status=status, **whose)
        for child in range(rng.randrange(4)):
            begin = start + rng.randrange(took)
            attributes = {
                "gen_ai.usage.input_tokens": rng.randrange(1000), "gen_ai.usage.cost": rng.random(),
                "gen_ai.usage.output_tokens": rng.randrange(100),
            }  # fmt: skip
            ended = {"end_time": at(begin + 5)} if rng.random() < 0.9 else {"end_time": None}
            span(trace, begin, parent_span_id=f"{n:016x}", id=f"c{n:07x}{child:08x}",
                 attributes=attributes, **whose, **ended)  # fmt: skip
    return made


def reports() -> list[AnyLine]:
    """Told as a whole: some with spans of their own, some without."""
    return [
        TraceLine(project=PROJECT, writer="w/traces@e", seq=n + 1, id=f"{n * 7:032x}" if n < 20 else f"{n:031x}f",
                  name="ask", status=("ok", "error")[n % 2], start_time=at(n * 2 * MINUTE),
                  end_time=at(n * 2 * MINUTE + n * 10**7) if n % 3 else None)
        for n in range(40)
    ]  # fmt: skip


def crowd() -> list[AnyLine]:
    """Twenty-five deployments, with 25, 24, … traces."""
    names = [name for name in range(25) for _ in range(25 - name)]
    return [
        SpanLine(project=CROWD, writer="w/crowd@e", seq=n + 1, trace_id=f"{n:032x}", id=f"{n:016x}",
                 name="ask", start_time=at(n * 10**9), end_time=at(n * 10**9 + 7), deployment=f"d{name:02}")
        for n, name in enumerate(names)
    ]  # fmt: skip


def late() -> list[AnyLine]:
    """A root of an hour, in its second minute one of four; spans long after."""
    hour = 60 * MINUTE
    made: list[AnyLine] = []
    for trace, root, end, tokens in (
        ("1", 0, hour, {-59 * MINUTE: 16, hour - 1: 1, 7 * hour - 1: 2, 7 * hour + MINUTE: 4}),
        ("2", MINUTE, 4 * hour, {25 * hour + 1: 8, -61 * MINUTE: 32}),
    ):
        times = [(root, end, 0), *((start, start + 1, n) for start, n in tokens.items())]
        for i, (start, ends, n) in enumerate(times):
            made.append(SpanLine(
                project=LATE, writer="w/late@e", seq=len(made) + 1, trace_id=trace * 32,
                id=f"{trace}{i:015x}", parent_span_id=f"{trace}{0:015x}" if i else "", name="ask",
                start_time=at(start), end_time=at(ends),
                attributes={"gen_ai.usage.input_tokens": n} if n else {},
            ))  # fmt: skip
    return made


def scores() -> list[AnyLine]:
    values: list[tuple[str, str, float | str, dict[str, Any]]] = [
        *(("helpful", f"agent-{1 + n % 2}-bcdfg", n / 20, {}) for n in range(21)),
        ("helpful", "agent-1-bcdfg", "NaN", {}),
        *(("grounded", "agent-1-bcdfg", float(n % 3 == 0), {}) for n in range(9)),
        *(("tone", "", 0.5, {"label": ("warm", "cold", "warm")[n % 3]}) for n in range(6)),
        *(("stars", "agent-2-hjklm", float(n), {}) for n in (1, 5, 5, 3)),
        ("always", "", 7.0, {}),
    ]
    return [
        ScoreLine(project=PROJECT, writer="w/scores@e", seq=n + 1, name=name, value=value, timestamp=at(n * MINUTE),
                  deployment="agent" if pod else "", pod=pod, attributes=attributes)
        for n, (name, pod, value, attributes) in enumerate(values)
    ]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder = tmp_path_factory.mktemp("series")
    odd = odd_lines()
    batches: list[tuple[Signal, list[AnyLine]]] = [
        ("spans", traces()), ("traces", reports()), ("spans", crowd()), ("scores", scores()),
        ("spans", odd["spans"]), ("traces", odd["traces"]), ("scores", odd["scores"]), ("spans", late()),
    ]  # fmt: skip
    async with filled(folder, batches) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
HOUR = {"from": at(0), "to": at(60 * MINUTE)}


def figures(items: list[dict[str, Any]]) -> dict[str, Any]:
    """What a list adds up to, as a series has it."""
    took = sorted(i["durationNs"] for i in items if i["durationNs"] is not None)

    def rank(level: float) -> int | None:
        return took[min(len(took) - 1, int(level * len(took)))] if took else None

    return {
        "traces": len(items),
        "errors": sum(i["status"] == "error" for i in items),
        "p50Ns": rank(0.5),
        "p95Ns": rank(0.95),
        "p99Ns": rank(0.99),
        **{name: pytest.approx(sum(i[name] for i in items)) for name in SUMS},
    }


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"status": "error"},
        {"deployment": "agent"},
        {"deployment": "agent", "revision": "2"},
        {"revision": "7c9f8d6b5d"},
        {"minDuration": "2s"},
        {"q": "status:error OR tokens:>900"},
        {"q": "-name:chat* duration:>2s", "deployment": "agent"},
        {"from": at(21 * MINUTE + 12345), "to": at(33 * MINUTE + 999)},
        {"name": "nothing is called so"},
    ],
    ids=str,
)
async def test_a_series_says_what_the_list_adds_up_to_in_all_and_in_each_piece(
    api: Api, more: dict[str, str]
) -> None:
    asked = {**HOUR, **more}
    items = await api.all_pages(f"/projects/{PROJECT}/traces", limit="1000", **asked)
    answer = await api.get(f"/projects/{PROJECT}/traces/series", buckets="30", **asked)
    [series] = answer["series"]
    assert (series["deployment"], series["revision"], series["other"]) == (None, None, False)
    assert series["total"] == figures(items)
    assert len(series["points"]) <= 30
    times = [point["time"] for point in series["points"]]
    for i, point in enumerate(series["points"]):
        end = times[i + 1] if i + 1 < len(times) else "9"
        inside = [item for item in items if times[i] <= item["startTime"] < end]
        assert {k: v for k, v in point.items() if k != "time"} == figures(inside), point["time"]


async def test_odd_traces_count_as_the_list_has_them(api: Api) -> None:
    asked = {"from": at(0), "to": at(MINUTE)}
    items = await api.all_pages(f"/projects/{ODD}/traces", **asked)
    [series] = (await api.get(f"/projects/{ODD}/traces/series", **asked))["series"]
    assert series["total"] == figures(items)


async def test_each_deployment_and_revision_has_its_own_series(api: Api) -> None:
    path = f"/projects/{PROJECT}/traces"
    items = await api.all_pages(path, limit="1000", **HOUR)
    deployments = (await api.get(f"{path}/series", by="deployment", **HOUR))["series"]
    for series in deployments:
        its = [i for i in items if i["deployment"] == series["deployment"]]
        assert series["total"] == figures(its)
    sizes = [series["total"]["traces"] for series in deployments]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == len(items)
    found = (await api.get(f"{path}/series", by="revision", **HOUR))["series"]
    assert {s["revision"] for s in found} == {"1", "2", "7c9f8d6b5d", ""}
    for series in deployments:
        its = [s["total"] for s in found if s["deployment"] == series["deployment"]]
        for name in ("traces", "errors", *SUMS):
            assert sum(t[name] for t in its) == pytest.approx(series["total"][name])


async def test_beyond_twenty_the_small_ones_are_one_and_nothing_is_left_out(api: Api) -> None:
    found = (await api.get(f"/projects/{CROWD}/traces/series", by="deployment", **HOUR))["series"]
    assert [s["total"]["traces"] for s in found] == [*range(25, 5, -1), 5 + 4 + 3 + 2 + 1]
    assert [(s["deployment"], s["other"]) for s in found[-2:]] == [("d19", False), (None, True)]


async def test_pieces_are_round_cover_the_time_and_are_there_when_nothing_is(api: Api) -> None:
    answer = await api.get("/projects/local.empty/traces/series", buckets="500", **HOUR)
    assert (answer["from"], answer["to"], answer["stepSeconds"]) == (*HOUR.values(), 10)
    [series] = answer["series"]
    assert series["total"]["p95Ns"] is None
    assert len(series["points"]) in {360, 361}
    assert all(p["traces"] == 0 and p["p50Ns"] is None for p in series["points"])
    assert (await api.get("/projects/local.empty/traces/series", by="revision"))["series"] == []
    for wrong in ({"buckets": "501"}, {"buckets": "0"}, {"by": "pod"}, {"limit": "5"}):
        await api.get(f"/projects/{PROJECT}/traces/series", expect=400, **wrong)


async def test_tokens_are_looked_for_until_six_hours_after_the_last_root_and_a_day_after_the_time(
    api: Api,
) -> None:
    path = f"/projects/{LATE}/traces/series"
    for more, tokens in (({"to": at(MINUTE)}, 1 + 2 + 16), ({}, 1 + 2 + 4 + 16)):
        [series] = (await api.get(path, **{**HOUR, **more}))["series"]
        assert series["total"]["inputTokens"] == tokens, more


async def test_scores_have_trend_distribution_and_shares(api: Api) -> None:
    path = f"/projects/{PROJECT}/scores/series"
    answer = await api.get(path, buckets="61", **HOUR)
    found = {s["name"]: s for s in answer["series"]}
    assert {name: s["kind"] for name, s in found.items()} == {
        "helpful": "number", "grounded": "boolean", "tone": "category", "stars": "number",
        "always": "number",
    }  # fmt: skip
    total = found["helpful"]["total"]
    assert total == {"count": 22, "mean": pytest.approx(0.5), "p5": 0.05, "p50": 0.5, "p95": 0.95}
    bars = found["helpful"]["histogram"]
    assert (bars[0]["from"], bars[-1]["to"], sum(b["count"] for b in bars)) == (0, 1, 21)
    assert bars[-1]["count"] == 3  # 0.9, 0.95 and 1 itself
    assert found["grounded"]["values"] == [{"value": "0", "count": 6}, {"value": "1", "count": 3}]
    assert found["tone"]["values"] == [{"value": "warm", "count": 4}, {"value": "cold", "count": 2}]
    assert found["always"]["histogram"] == [{"from": 7, "to": 7, "count": 1}]
    points = [p for p in found["helpful"]["points"] if p["count"]]
    assert len(points) == 22
    assert points[-1] | {"time": ""} == {
        "time": "",
        "count": 1,
        "mean": None,
        "min": None,
        "max": None,
    }
    assert [p["mean"] for p in points[:2]] == [0, 0.05]
    items = await api.all_pages(f"/projects/{PROJECT}/scores", **HOUR)
    assert sum(s["total"]["count"] for s in answer["series"]) == len(items)


async def test_revisions_are_judged_side_by_side_on_the_same_bars(api: Api) -> None:
    path = f"/projects/{PROJECT}/scores/series"
    found = (await api.get(path, by="revision", name="helpful", **HOUR))["series"]
    assert [(s["revision"], s["total"]["count"]) for s in found] == [("1", 12), ("2", 10)]
    assert [[b["from"] for b in s["histogram"]] for s in found] == [[i / 10 for i in range(10)]] * 2
    [second] = (await api.get(path, revision="2", name="helpful", **HOUR))["series"]
    assert second["total"] == found[1]["total"]
    [odd] = (await api.get(f"/projects/{ODD}/scores/series", **HOUR))["series"]
    assert (odd["total"]["count"], odd["total"]["mean"], odd["histogram"]) == (1, None, [])
