"""Counts against what the lists hold, over records that are as untidy as real ones.

Spans that were told several times in other words, in several batches and out of order, ids that
another project has too, times at the edges of pieces.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

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
from tests.fakes.gateway_api import T0, Api, Filled, filled, running_gateway

PROJECT, TWIN = "local.counts", "local.twin"
S = 10**9
EDGE = T0 // (60 * S) * 60 * S
"""A round minute."""


def at(ns: int) -> str:
    return rfc3339(EDGE + ns)


def spans(project: str) -> list[AnyLine]:
    """Some 120 traces; another project has the same ids, with other values."""
    rng = random.Random(11)
    own = "theirs" if project == TWIN else "ours"
    made: list[AnyLine] = []

    def told(trace: str, id_: str, start: int, recorded: int, **more: Any) -> None:
        values = {
            "project": project, "writer": f"w{len(made) % 3}/spans@e", "seq": len(made) + 1,
            "trace_id": trace, "id": id_, "name": f"ask {own}", "start_time": at(start),
            "recorded_at": at(recorded), "service": own, "deployment": own,
        }  # fmt: skip
        made.append(SpanLine(**(values | more)))

    for n in range(120):
        trace, root, start = f"{n:032x}", f"{n:016x}", rng.randrange(600) * S
        # Each word on an unfinished span says something else; the last one counts.
        for word in range(rng.randrange(4)):
            told(trace, root, start, start + word, end_time=None, name=f"{own} step {rng.randrange(3)}",
                 status=rng.choice(("ok", "error", "unset")))  # fmt: skip
        if rng.random() < 0.6:
            told(trace, root, start + rng.choice((0, 0, 5)), start + 9, end_time=at(start + 9 * S),
                 status=rng.choice(("ok", "error")))  # fmt: skip
        for child in range(rng.randrange(3)):
            told(trace, f"c{n:07x}{child:08x}", start + child, start + 1, parent_span_id=root,
                 end_time=at(start + 10**6) if rng.random() < 0.7 else None,
                 attributes={"gen_ai.request.model": f"{own}-{rng.randrange(3)}",
                             "gen_ai.tool.name": f"t{rng.randrange(3)}",
                             "gen_ai.usage.input_tokens": rng.randrange(100),
                             "gen_ai.usage.cost": rng.choice((-0.5, 0.25))})  # fmt: skip
    rng.shuffle(made)
    return made


def reports(project: str) -> list[AnyLine]:
    own = "theirs" if project == TWIN else "ours"
    return [
        TraceLine(project=project, writer="w/traces@e", seq=n + 1, id=f"{n * 5:032x}" if n < 12 else f"{n:031x}f",
                  name=f"{own} report {n % 2}", status=("ok", "error", "unset")[n % 3], service=own,
                  start_time=at(n // 2 * 20 * S), recorded_at=at(n),
                  end_time=at(n // 2 * 20 * S + n) if n % 2 else None)
        for n in range(30)
    ]  # fmt: skip


def lines(project: str) -> list[AnyLine]:
    """At each edge of a piece, and beside it."""
    return [
        LogLine(project=project, writer="p/server/0@e", seq=n + 1, timestamp=at(n // 3 * 60 * S + n % 3 - 1),
                level=("info", "error")[n % 2], message=f"line {n}", deployment=project,
                pod=f"p{n % 13}", stream="stdout")
        for n in range(60)
    ]  # fmt: skip


def scores() -> list[AnyLine]:
    values = [
        ("huge", 1.7e308),
        ("huge", -1.7e308),
        ("huge", 0.0),
        ("vast", 1.6e308),
        ("vast", 1.7e308),
    ]
    values += [(f"own {n:03}", float(n)) for n in range(100)]
    return [
        ScoreLine(project=PROJECT, writer="w/scores@e", seq=n + 1, name=name, value=value, timestamp=at(n))
        for n, (name, value) in enumerate(values)
    ]  # fmt: skip


def metrics() -> list[AnyLine]:
    points: list[tuple[str, Any, float, str]] = [
        ("load", "gauge", float(n), f"u{n % 40 if n < 80 else 0}") for n in range(90)
    ]
    points += [("vast", "gauge", 1.7e308, ""), ("vast", "gauge", 1.6e308, "")]
    points += [("vast total", "counter", 1.7e308, ""), ("vast total", "counter", 1.6e308, "")]
    return [
        MetricLine(project=PROJECT, writer="w/metrics@e", seq=n + 1, name=name, kind=kind, value=value,
                   timestamp=at(n), attributes={"user": user})
        for n, (name, kind, value, user) in enumerate(points)
    ]  # fmt: skip


def batches() -> Iterator[tuple[Signal, list[AnyLine]]]:
    for project in (PROJECT, TWIN):
        told = spans(project)
        for some in (told[0::3], told[1::3], told[2::3]):
            yield "spans", some
        yield "traces", reports(project)
        yield "logs", lines(project)
    yield "scores", scores()
    yield "metrics", metrics()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder = tmp_path_factory.mktemp("counts")
    async with filled(folder, batches()) as both:
        yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
ALL = {"from": at(-60 * S), "to": at(3_600 * S)}


def values(answer: dict[str, Any], field: str) -> dict[str, int]:
    [facet] = [facet for facet in answer["facets"] if facet["field"] == field]
    assert not facet["more"]
    return {value["value"]: value["count"] for value in facet["values"]}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"status": "error"},
        {"q": "status:error"},
        {"q": "-status:ok"},
        {"q": "open:true"},
        {"q": "name:ours*"},
        {"q": "tool:t1 -tool:t2"},
        {"q": "cost:<0"},
        {"q": "tokens:>=100 OR spans:<2"},
        {"from": at(200 * S), "to": at(400 * S)},
        {"minDuration": "1s"},
    ],
    ids=str,
)
async def test_facets_of_traces_count_what_the_list_has(api: Api, more: dict[str, str]) -> None:
    path, asked = f"/projects/{PROJECT}/traces", {**ALL, **more}
    items = await api.all_pages(path, limit="7", **asked)
    assert len({item["id"] for item in items}) == len(items)
    answer = await api.get(f"{path}/facets", limit="1000", **asked)
    for field in ("status", "name", "service", "deployment"):
        expected = Counter(item[field] for item in items if item[field])
        assert values(answer, field) == expected, field
    models: Counter[str] = Counter()
    for item in items:
        detail = await api.get(f"/traces/{item['id']}", project=PROJECT)
        models.update({span["model"] for span in detail["spans"] if span["model"]})
    assert values(answer, "model") == models
    [series] = (await api.get(f"{path}/series", **asked))["series"]
    assert series["total"]["traces"] == len(items)
    assert series["total"]["cost"] == pytest.approx(sum(item["cost"] for item in items))
    back = await api.all_pages(path, limit="11", order="asc", **asked)
    assert {item["id"] for item in back} == {item["id"] for item in items}


@pytest.mark.parametrize("buckets", ["1", "2", "7", "500"])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 60 * S), (1, 60 * S + 1), (-1, 180 * S), (59 * S, 61 * S)]
)
async def test_a_line_at_the_edge_of_a_piece_counts_once_and_there(
    api: Api, buckets: str, low: int, high: int
) -> None:
    asked = {"from": at(low), "to": at(high)}
    items = await api.all_pages(f"/projects/{PROJECT}/logs", **asked)
    answer = await api.get(f"/projects/{PROJECT}/logs/histogram", buckets=buckets, **asked)
    times = [bucket["time"] for bucket in answer["buckets"]]
    for i, bucket in enumerate(answer["buckets"]):
        end = times[i + 1] if i + 1 < len(times) else "9"
        inside = Counter(one["level"] for one in items if times[i] <= one["timestamp"] < end)
        assert bucket["levels"] == inside
    assert sum(bucket["total"] for bucket in answer["buckets"]) == len(items)
    assert len(items) > 0


async def test_series_of_many_names_hold_the_largest_and_say_that_there_are_more(api: Api) -> None:
    answer = await api.get(f"/projects/{PROJECT}/scores/series", **ALL)
    assert (len(answer["series"]), answer["more"]) == (60, True)
    assert {"huge", "vast"} <= {series["name"] for series in answer["series"]}
    asked = {**ALL, "name": "load", "attribute": "user"}
    answer = await api.get(f"/projects/{PROJECT}/metrics/series", **asked)
    assert (len(answer["series"]), answer["more"]) == (20, True)
    assert answer["series"][0]["value"] == "u0"


async def test_scores_of_any_size_have_bars_that_are_numbers(api: Api) -> None:
    for name, count in (("huge", 3), ("vast", 2)):
        [series] = (await api.get(f"/projects/{PROJECT}/scores/series", name=name, **ALL))["series"]
        bars = series["histogram"]
        assert sum(bar["count"] for bar in bars) == count, bars
        assert all(isinstance(bar[edge], int | float) for bar in bars for edge in ("from", "to")), (
            bars
        )


async def test_metrics_too_large_to_add_up_are_no_error(api: Api) -> None:
    for name in ("vast", "vast total"):
        asked = {**ALL, "name": name, "buckets": "1"}
        [series] = (await api.get(f"/projects/{PROJECT}/metrics/series", **asked))["series"]
        assert len(series["points"]) == 1


async def test_a_query_of_any_letters_may_be_as_long_as_is_said(api: Api) -> None:
    for letter in ("a", "ж", "💥"):
        for path in ("logs", "traces", "logs/histogram"):
            await api.get(f"/projects/{PROJECT}/{path}", q=letter * 2_000)
        told = await api.get(f"/projects/{PROJECT}/logs", expect=400, q=letter * 2_001)
        assert "2,000 characters" in told["detail"]
