"""Searches through the REST API on the real engine: what is found, counted, and said of mistakes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from spanyard_core.records import AnyLine, LogLine, SpanLine, TraceLine
from spanyard_gateway.queries.search import add_search
from spanyard_gateway.search.fields import Signal
from spanyard_gateway.where import Where
from tests.fakes.gateway_api import Api, Filled, filled, running_gateway
from tests.fakes.gateway_records import at

PROJECT = "local.search"
LOGS, SPANS, TRACES = (f"/projects/{PROJECT}/{kind}" for kind in ("logs", "spans", "traces"))
SECOND = 1_000_000_000
A, B, C, D = (letter * 32 for letter in "abcd")


def line(seq: int, message: str, **more: Any) -> LogLine:
    values: dict[str, Any] = {
        "project": PROJECT, "writer": "uid/server/0@e", "seq": seq, "deployment": "agent",
        "pod": "agent-3-x1y2z", "container": "server", "stream": "stdout", "service": "agent",
        "timestamp": at(seq * SECOND), "level": "info", "message": message,
    } | more  # fmt: skip
    return LogLine(**values)


def lines() -> list[AnyLine]:
    return [
        line(1, "GET /health 200"),
        line(2, "Request timed out: upstream time-out after 3 s", level="error"),
        line(3, "timeouts are configured", level="warn", stream="stderr"),
        line(4, "user signed in", attributes={"user.id": "u-17", "http.status": 200}),
        line(5, "user failed", level="error", attributes={"user.id": "u-18", "http.status": 503}),
        line(6, "Überlast 50% “quoted”", level="fatal", container="proxy", attributes={"long": "x" * 300}),
        line(7, "out of time", trace_id=A, span_id="00000000000000a1"),
    ]  # fmt: skip


def span(seq: int, trace: str, name: str, parent: str = "", **more: Any) -> SpanLine:
    values: dict[str, Any] = {
        "project": PROJECT, "writer": "uid/spans@e", "seq": seq, "deployment": "agent",
        "pod": "agent-server-5d8f7c-x1y2z", "service": "agent", "recorded_at": at(seq), "trace_id": trace, "name": name,
        "id": f"{seq:016x}", "parent_span_id": parent, "start_time": at(seq * SECOND),
        "end_time": at(seq * SECOND + 500_000_000),
    } | more  # fmt: skip
    return SpanLine(**values)


def llm(tokens: int, cost: float, **more: Any) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m-large",
        "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cost": cost, **more,
    }  # fmt: skip


def spans() -> list[AnyLine]:
    return [
        span(1, A, "answer", end_time=at(4 * SECOND)),
        span(2, A, "chat m-large", "1", attributes=llm(900, 0.02, **{"gen_ai.prompt": "Where is my parcel?"})),
        span(3, A, "execute_tool", "1", status="error", status_message="upstream time-out",
             attributes={"gen_ai.tool.name": "web_search", "gen_ai.tool.call.arguments": '{"q": "parcel 17"}'}),
        span(4, B, "answer", status="error"),
        span(5, B, "chat m-large", "4", attributes=llm(50, 0.001, **{"gen_ai.completion": "No parcel here", "session.id": "s-1"})),
        span(6, C, "health"),
        span(7, C, "still", "6", end_time=None),
    ]  # fmt: skip


def reports() -> list[AnyLine]:
    return [TraceLine(project=PROJECT, writer="uid/traces@e", seq=1, id=D, name="told", status="ok",
                      start_time=at(20 * SECOND), end_time=at(29 * SECOND), deployment="agent",
                      input={"q": "Whose parcel?"}, output="yes", metadata={"tier": "gold"})]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder: Path = tmp_path_factory.mktemp("search")
    async with filled(
        folder, [("logs", lines()), ("spans", spans()), ("traces", reports())]
    ) as both:
        yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("timed", [2]),
        ("TIMED Upstream", [2]),
        ('"time out"', [2]),
        ("time out", [2, 7]),
        ("time-out", [2]),
        ("timeout*", [3]),
        ('"upstream time-ou"*', [2]),
        ("text:timeo", [3]),
        ("text:überl", [6]),
        ("health", [1]),
        ("-health level:info", [4, 7]),
        ("level:error,warn", [2, 3, 5]),
        ("level:>=error", [2, 5, 6]),
        ("level:<debug", []),
        ("revision:3 level:warn", [3]),
        ("level:WARNING", [3]),
        ("stream:stderr OR container:prox*", [3, 6]),
        ("user (failed OR signed) -level:error", [4]),
        ("NOT (user OR level:>=warn)", [1, 7]),
        ("@user.id:u-17", [4]),
        ('attr.user.id:"u-17",u-18', [4, 5]),
        ("@user.id:u-*", [4, 5]),
        ("@user.id:*", [4, 5]),
        ("-@user.id:*", [1, 2, 3, 6, 7]),
        ("@http.status:>=500", [5]),
        ("@http.status:<503", [4]),
        (f"@long:{'x' * 300}", [6]),
        ("@long:xxx*", [6]),
        (f"trace:{A.upper()}", [7]),
        ("trace:*", [7]),
        ('"50%"', [6]),
        ("“quoted”", [6]),
        ('"%"', [6]),
        ("message:time message:timed", [2]),
        ("message:user,health", [1, 4, 5]),
        (" ", [1, 2, 3, 4, 5, 6, 7]),
    ],
)
async def test_lines_are_found(api: Api, query: str, found: list[int]) -> None:
    items = (await api.get(LOGS, q=query, order="asc"))["items"]
    assert [item["seq"] for item in items] == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("parcel", [2, 3, 5]),
        ("input:parcel", [2, 3]),
        ("output:parcel", [5]),
        ("tool:web_search", [3]),
        ("tool:web_search error:true duration:>100ms", [3]),
        ('"time out"', [3]),
        ("duration:>2s", [1]),
        ("-duration:>2s", [2, 3, 4, 5, 6, 7]),
        ("duration:<=500ms", [2, 3, 4, 5, 6]),
        ("tokens:>=900", [2]),
        ("tokens:60", [5]),
        ("tokens:*", [2, 5]),
        ("cost:>0.01", [2]),
        ("name:chat*", [2, 5]),
        ("model:m-large session:s-1", [5]),
        ("root:true", [1, 4, 6]),
        ("open:yes", [7]),
        ("status:error,ok", [3, 4]),
        ("kind:internal span:0000000000000002", [2]),
        ("parent:4", [5]),
        ("@gen_ai.usage.input_tokens:>100", [2]),
    ],
)
async def test_spans_are_found(api: Api, query: str, found: list[int]) -> None:
    items = (await api.get(SPANS, q=query, order="asc"))["items"]
    assert [item["seq"] for item in items] == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("parcel", "abd"),
        ("-parcel", "c"),
        ("input:parcel", "ad"),
        ("tool:web_search tokens:>500", "a"),
        ("tool:web_search name:answer", "a"),
        ("tool:* model:*", "a"),
        ("error:true", "ab"),
        ("status:error", "b"),
        ("status:ok", "d"),
        ("span.status:error -status:error", "a"),
        ("name:chat*", ""),
        ("span.name:chat*", "ab"),
        ("revision:5d8f7c -span.name:chat*", "c"),
        ("duration:>2s", "ad"),
        ("span.duration:>2s", "a"),
        ("tokens:<100", "bcd"),
        ("tokens:0", "cd"),
        ("tokens:>=0", "abcd"),
        ("cost:>0.01", "a"),
        ("spans:>2", "a"),
        ("spans:0", "d"),
        ("@tier:gold OR session:s-1", "bd"),
        ("open:true", ""),
        ("deployment:agent", "abcd"),
        (f"trace:{B},{D}", "bd"),
    ],
)
async def test_traces_are_found_by_what_holds_for_any_of_their_spans(
    api: Api, query: str, found: str
) -> None:
    items = (await api.get(TRACES, q=query, order="asc"))["items"]
    assert "".join(item["id"][0] for item in items) == found


@pytest.mark.parametrize("query", ["parcel -status:error", "-tool:web_search"])
async def test_pages_facets_and_series_count_what_the_list_has(api: Api, query: str) -> None:
    filters = {"q": query, "from": at(0), "to": at(60 * SECOND)}
    wanted = (await api.get(TRACES, q=query))["items"]
    assert await api.all_pages(TRACES, limit="1", **filters) == wanted
    facets = (await api.get(f"{TRACES}/facets", **filters))["facets"]
    names = next(facet for facet in facets if facet["field"] == "name")
    assert sum(value["count"] for value in names["values"]) == len(wanted)
    [series] = (await api.get(f"{TRACES}/series", **filters))["series"]
    assert series["total"]["traces"] == len(wanted) > 1
    assert series["total"]["inputTokens"] == sum(item["inputTokens"] for item in wanted)


async def test_lines_are_counted_over_time_with_empty_buckets_between(api: Api) -> None:
    found = await api.get(
        f"{LOGS}/histogram", **{"from": at(SECOND), "to": at(9 * SECOND), "buckets": "5"}
    )
    assert (found["from"], found["to"], found["stepSeconds"]) == (at(SECOND), at(9 * SECOND), 2)
    # The first bucket begins at a round time before `from`.
    assert [bucket["time"] for bucket in found["buckets"]] == [
        at(n * SECOND) for n in (0, 2, 4, 6, 8)
    ]
    assert [bucket["total"] for bucket in found["buckets"]] == [1, 2, 2, 2, 0]
    assert found["buckets"][2]["levels"] == {"info": 1, "error": 1}
    some = await api.get(
        f"{LOGS}/histogram", q="user", level="error", **{"from": at(0), "to": at(10 * SECOND)}
    )
    assert sum(bucket["total"] for bucket in some["buckets"]) == 1
    assert len(some["buckets"]) <= 60
    of_trace = await api.get(
        f"{LOGS}/histogram", traceId=A, **{"from": at(0), "to": at(10 * SECOND)}
    )
    assert sum(bucket["total"] for bucket in of_trace["buckets"]) == 1
    assert (await api.get(f"{LOGS}/histogram"))["stepSeconds"] == 120  # the last hour
    await api.get(f"{LOGS}/histogram", 400, buckets="501")


async def test_lines_are_counted_by_their_values(api: Api) -> None:
    def values(found: Any, field: str) -> dict[str, int]:
        [facet] = (facet for facet in found["facets"] if facet["field"] == field)
        return {value["value"]: value["count"] for value in facet["values"]}

    then = {"from": at(0), "to": at(60 * SECOND)}
    for path in (f"{LOGS}/facets", f"{TRACES}/facets"):  # nothing was written in the last hour
        lately = await api.get(path)
        assert [facet["values"] for facet in lately["facets"]] == [[]] * len(lately["facets"])
        assert lately["from"] < lately["to"]
        told = await api.get(path, **{"from": at(0)})
        assert told["from"] == at(0) < told["to"]
        of_trace = await api.get(path, traceId=A)
        assert (of_trace["from"], of_trace["to"]) == (None, None)
        assert of_trace["facets"][0]["values"]
        for wrong in ({"from": "2200-01-01T00:00:00Z"}, {"from": at(1), "to": at(1)}):
            assert "from" in (await api.get(path, 400, **wrong))["detail"]
    for path in (f"{LOGS}/histogram", f"{TRACES}/series"):
        told = await api.get(path, 400, **{"from": "2200-01-01T00:00:00Z"})
        assert told["detail"] == "from: not before now, and there is no `to`, so nothing can match"
    found = await api.get(f"{LOGS}/facets", **then)
    assert {name: found[name] for name in then} == then
    assert [facet["field"] for facet in found["facets"]] == [
        "level", "stream", "container", "deployment", "pod", "service",
    ]  # fmt: skip
    assert values(found, "level") == {"info": 3, "error": 2, "warn": 1, "fatal": 1}
    assert values(found, "container") == {"server": 6, "proxy": 1}
    one = await api.get(f"{LOGS}/facets", limit="1", q="-level:fatal", **then)
    assert [(len(facet["values"]), facet["more"]) for facet in one["facets"]] == [
        (1, True), (1, True), (1, False), (1, False), (1, False), (1, False),
    ]  # fmt: skip
    traces = await api.get(f"{TRACES}/facets", **then)
    assert values(traces, "status") == {"unset": 2, "error": 1, "ok": 1}
    assert values(traces, "name") == {"answer": 2, "health": 1, "told": 1}
    assert values(traces, "model") == {"m-large": 2}
    searched = await api.get(f"{TRACES}/facets", q="tool:web_search", **then)
    assert values(searched, "model") == {"m-large": 1}


@pytest.mark.parametrize("path", [LOGS, f"{LOGS}/follow", f"{LOGS}/histogram", f"{LOGS}/facets"])
async def test_a_mistake_is_told_with_its_place_in_utf_16_units(api: Api, path: str) -> None:
    wrong = await api.get(path, 400, q="😀 level:eror")
    assert wrong["title"] == "Bad query"
    assert wrong["at"] == {"start": 9, "end": 13}
    assert "did you mean error?" in wrong["detail"]


@pytest.mark.parametrize("path", [SPANS, TRACES, f"{TRACES}/facets"])
async def test_a_field_of_lines_is_no_field_of_spans(api: Api, path: str) -> None:
    wrong = await api.get(path, 400, q="level:error")
    assert wrong["at"] == {"start": 0, "end": 5}
    assert "'level' is a field of logs" in wrong["detail"]


async def test_a_search_goes_with_pages_and_other_filters_and_follows(api: Api) -> None:
    pages = await api.all_pages(LOGS, q="-time", limit="2", order="asc")
    assert [item["seq"] for item in pages] == [1, 3, 4, 5, 6]
    pages = await api.all_pages(SPANS, q="-parcel", limit="2")
    assert [item["seq"] for item in pages] == [7, 6, 4, 1]
    assert [i["seq"] for i in await api.all_pages(LOGS, q="user", level="error")] == [5]
    assert [i["seq"] for i in await api.all_pages(LOGS, q="time", traceId=A)] == [7]
    first = await api.get(f"{LOGS}/follow", q="user -failed")
    again = await api.get(f"{LOGS}/follow", q="user -failed", cursor=first["nextCursor"])
    assert again["items"] == []
    await api.get(f"{LOGS}/follow", 400, q="user", cursor=first["nextCursor"])


@pytest.mark.parametrize(
    ("table", "query", "index"),
    [
        ("logs", "timed", "message_index"),
        ("logs", '"time out" level:error', "message_index"),
        ("logs", "timed OR (user -failed)", "message_index"),
        ("spans", "input:parcel", "input_index"),
        ("spans", "output:parcel name:chat*", "output_index"),
        ("logs", "@user.id:u-17", "attribute_index"),
    ],
)
async def test_words_are_looked_up_in_the_text_index(
    loaded: Filled, table: Signal, query: str, index: str
) -> None:
    db, _ = loaded
    for name in (
        ("message_index", "attribute_index") if table == "logs" else ("input_index", "output_index")
    ):
        await db.command(
            f"ALTER TABLE {table} MATERIALIZE INDEX {name} SETTINGS mutations_sync = 2"
        )
    where = Where()
    add_search(where, query, table)
    plan = await db.rows(
        f"EXPLAIN indexes = 1 SELECT count() FROM {table} WHERE {where.sql()}", where.params
    )
    assert index in "\n".join(str(row) for row in plan)
