"""Metrics over time: rates of counters that begin anew, percentiles of histograms, levels."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from spanyard_core.clock import rfc3339
from spanyard_core.records import AnyLine, MetricLine
from spanyard_gateway.queries.metric_series import percentile
from tests.fakes.gateway_api import T0, Api, Filled, filled, running_gateway

PROJECT = "local.metrics"
START = T0 // 60_000_000_000 * 60_000_000_000 + 60_000_000_000
"""A whole minute, so that each piece is one."""
MINUTE = 60 * 10**9


def at(minute: float) -> str:
    return rfc3339(START + round(minute * MINUTE))


def lines() -> list[AnyLine]:
    made: list[AnyLine] = []

    def add(
        name: str, minute: float, value: float | str, pod: str = "agent-1-bcdfg", **more: Any
    ) -> None:
        values = {"project": PROJECT, "writer": "w/metrics@e", "seq": len(made) + 1, "name": name,
                  "timestamp": at(minute), "value": value, "deployment": "agent", "pod": pod}  # fmt: skip
        made.append(MetricLine(**(values | more)))

    for minute in (0.1, 0.9, 2.5):
        add(
            "deltas",
            minute,
            6.0,
            kind="counter",
            temporality="delta",
            unit="{question}",
            attributes={"route": "/a"},
        )
    add(
        "deltas",
        0.5,
        3.0,
        kind="counter",
        temporality="delta",
        pod="agent-2-hjklm",
        attributes={"route": "/b"},
    )
    # Counts on from before, begins anew in the third minute.
    for minute, value in ((0.2, 1000.0), (0.8, 1012.0), (1.5, 1042.0), (2.5, 6.0)):
        add("running", minute, value, kind="counter", temporality="cumulative")
    # Another pod that began in this time: its first point counts.
    add(
        "running",
        1.2,
        60.0,
        kind="counter",
        temporality="cumulative",
        pod="agent-2-hjklm",
        start_time=at(1.1),
    )
    for minute, buckets in ((0.5, [8, 2, 0]), (1.5, [8, 12, 0])):
        add(
            "durations",
            minute,
            4.0 * minute,
            kind="histogram",
            temporality="cumulative",
            unit="s",
            count=sum(buckets),
            bounds=[1.0, 2.0],
            bucket_counts=buckets,
        )
    add("jobs", 0.5, 2.0, kind="updowncounter", temporality="delta")
    add("jobs", 2.5, -1.0, kind="updowncounter", temporality="delta")
    for minute, value in ((0.1, 2.0), (0.7, 4.0), (0.9, "NaN"), (2.2, "Infinity")):
        add("queue", minute, value, kind="gauge")
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder = tmp_path_factory.mktemp("metrics")
    async with filled(folder, [("metrics", lines())]) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
TIME = {"from": at(0), "to": at(3), "buckets": "3"}
PATH = f"/projects/{PROJECT}/metrics"


async def series(api: Api, name: str, field: str, **more: str) -> list[list[float | None]]:
    answer = await api.get(f"{PATH}/series", name=name, **TIME, **more)
    assert answer["stepSeconds"] == 60
    return [[point[field] for point in one["points"]] for one in answer["series"]]


async def test_what_was_measured_is_told_by_name(api: Api) -> None:
    answer = await api.get(f"{PATH}/names", **{"from": at(0), "to": at(3)})
    told = {
        n["name"]: (n["kind"], n["unit"], n["points"], n["attributes"]) for n in answer["names"]
    }
    assert told["deltas"] == ("counter", "{question}", 4, ["route"])
    assert list(told) == ["deltas", "durations", "jobs", "queue", "running"]
    only = await api.get(f"{PATH}/names", revision="2", **{"from": at(0), "to": at(3)})
    assert [n["name"] for n in only["names"]] == ["deltas", "running"]


async def test_counters_are_rates_also_when_they_begin_anew(api: Api) -> None:
    assert await series(api, "deltas", "rate") == [[15 / 60, None, 6 / 60]]
    assert await series(api, "running", "rate") == [[12 / 60, 90 / 60, 6 / 60]]


async def test_series_are_told_apart_by_attribute_and_revision(api: Api) -> None:
    assert await series(api, "deltas", "rate", attribute="route") == [
        [12 / 60, None, 6 / 60], [3 / 60, None, None],
    ]  # fmt: skip
    answer = await api.get(f"{PATH}/series", name="deltas", by="revision", **TIME)
    assert [(s["deployment"], s["revision"], s["value"]) for s in answer["series"]] == [
        ("agent", "1", None), ("agent", "2", None),
    ]  # fmt: skip
    assert await series(api, "deltas", "rate", **{"attr.route": "/b"}) == [[3 / 60, None, None]]


async def test_histograms_are_percentiles_of_what_was_added(api: Api) -> None:
    assert await series(api, "durations", "rate") == [[None, 10 / 60, None]]
    assert await series(api, "durations", "p50") == [[None, 1.5, None]]
    assert await series(api, "durations", "mean") == [[None, 0.4, None]]


async def test_levels_are_as_they_are_and_changes_add_up(api: Api) -> None:
    assert await series(api, "queue", "mean") == [[3, None, None]]
    assert await series(api, "queue", "max") == [[4, None, None]]
    assert await series(api, "jobs", "mean") == [[2, 2, 1]]


async def test_a_name_has_to_be_said_and_one_that_is_not_there_is_empty(api: Api) -> None:
    assert "name: missing" in (await api.get(f"{PATH}/series", expect=400))["detail"]
    answer = await api.get(f"{PATH}/series", name="nothing", **TIME)
    assert (answer["kind"], answer["series"], answer["more"]) == ("", [], False)


@pytest.mark.parametrize(
    ("level", "bounds", "counts", "value"),
    [
        (0.5, [1.0, 2.0], [0, 10, 0], 1.5),
        (0.5, [1.0, 2.0], [10, 0, 0], 0.5),
        (0.99, [1.0, 2.0], [1, 1, 98], 2.0),
        (0.5, [-2.0, 0.0], [4, 0, 0], -2.0),
        (0.5, [], [3], None),
        (0.5, [1.0], [0, 0], None),
        (0.5, [1.0], [1], None),
    ],
)
async def test_a_percentile_lies_where_its_bucket_is(
    level: float, bounds: list[float], counts: list[int], value: float | None
) -> None:
    assert percentile(level, bounds, counts) == value
