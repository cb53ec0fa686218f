"""The REST API and odd data: keys, values, ids and times that nobody expects, and odd requests."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from yarl import URL

from tests.fakes.gateway_api import Api, Filled, filled, running_gateway
from tests.fakes.odd_records import (
    BAD_EVENTS,
    MULTI,
    ODD,
    OPEN,
    PROJECT,
    TEXTS,
    TOLD,
    at,
    odd_lines,
)

LOGS = f"/projects/{PROJECT}/logs"
SPANS = f"/projects/{PROJECT}/spans"
TRACES = f"/projects/{PROJECT}/traces"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with filled(folder, odd_lines().items()) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


async def seqs(api: Api, path: str, **params: str) -> list[int]:
    return sorted(item["seq"] for item in await api.all_pages(path, **params))


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    ("key", "value"),
    [(k, v) for k, v in ODD.items() if isinstance(v, str)]
    + [("n", "3"), ("float", "0.5"), ("yes", "true"), ("no", "false"), ("list", "[1,2]")],
)
async def test_an_attribute_is_found_by_its_text_whatever_is_in_it(
    api: Api, loaded: Filled, key: str, value: str, merged: bool
) -> None:
    if merged:
        await loaded[0].command("OPTIMIZE TABLE logs FINAL")
        await loaded[0].command("OPTIMIZE TABLE metrics FINAL")
    assert await seqs(api, LOGS, **{f"attr.{key}": value}) == [1]
    assert await seqs(api, f"/projects/{PROJECT}/metrics", **{f"attr.{key}": value}) == [1]
    assert await seqs(api, LOGS, **{f"attr.{key}": value, "attr.plain": "v"}) == [1]
    assert await seqs(api, LOGS, **{f"attr.{key}": value + "x"}) == []


async def test_an_attribute_that_is_not_there_is_not_empty(api: Api) -> None:
    assert await seqs(api, LOGS, **{"attr.nowhere": ""}) == []
    assert await seqs(api, TRACES.replace("traces", "spans"), **{"attr.nowhere": ""}) == []
    assert await api.all_pages(TRACES, **{"attr.nowhere": ""}) == []


@pytest.mark.parametrize("seq", [10 + i for i, text in enumerate(TEXTS) if text])
async def test_a_text_is_no_pattern(api: Api, seq: int) -> None:
    text = TEXTS[seq - 10]
    assert await seqs(api, LOGS, text=text) == [seq]
    assert await seqs(api, LOGS, text=text[1:-1].upper()) == [seq]


@pytest.mark.parametrize("text", ["%", "_", "\\", "'", ".*", "done%", "10_%", "😀"])
async def test_a_special_character_in_a_text_means_itself(api: Api, text: str) -> None:
    expected = sorted([10 + i for i, t in enumerate(TEXTS) if text in t])
    assert await seqs(api, LOGS, text=text) == expected


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", ["1", "2", "3", "100"])
async def test_a_trace_of_several_roots_is_on_one_page_only(
    api: Api, order: str, limit: str
) -> None:
    items = await api.all_pages(TRACES, order=order, limit=limit)
    ids = [item["id"] for item in items]
    assert len(ids) == len(set(ids)) == 10
    starts = [item["startTime"] for item in items]
    assert starts == sorted(starts, reverse=order == "desc")
    names = {item["id"]: item["name"] for item in items}
    assert (names[MULTI], names[TOLD]) == ("first", "told")


async def test_a_trace_is_found_by_any_of_its_roots_and_by_what_was_told_of_it(api: Api) -> None:
    [found] = await api.all_pages(TRACES, status="error")
    assert (found["id"], found["name"], found["spans"]) == (MULTI, "third", 4)
    for key, value in (("attr.n", "7"), ("attr.who", "me"), ("name", "told")):
        assert [i["id"] for i in await api.all_pages(TRACES, **{key: value})] == [TOLD], key


async def test_a_start_counts_only_until_the_end_is_there(api: Api) -> None:
    unset = await api.all_pages(TRACES, status="unset", limit="1")
    assert "3" * 32 not in {item["id"] for item in unset}
    assert [i["endTime"] for i in await api.all_pages(TRACES, name="done")] == [at(710)]
    assert await seqs(api, SPANS, name="done") == [8]
    assert await seqs(api, SPANS, name="done", status="unset") == []


@pytest.mark.parametrize("limit", ["1", "2", "100"])
async def test_of_a_span_that_still_runs_the_last_word_counts(api: Api, limit: str) -> None:
    assert await seqs(api, SPANS, open="true", limit=limit) == [11]
    assert await seqs(api, SPANS, traceId=OPEN, limit=limit) == [11]
    assert await seqs(api, SPANS, limit=limit, **{"attr.step": "0"}) == []
    [trace] = await api.all_pages(TRACES, traceId=OPEN)
    assert (trace["name"], trace["endTime"], trace["durationNs"]) == ("open 2", None, None)
    all_of_them = await seqs(api, SPANS, limit=limit)
    assert all_of_them == [1, 2, 3, 4, 5, 6, 8, 11, 20, 21, 22, 30, 31]


async def test_a_span_that_ends_before_it_begins_is_found_by_its_trace(api: Api) -> None:
    for what in ("", "/outline"):
        [span] = (await api.get(f"/traces/{'4' * 32}{what}"))["spans"]
        assert (span["startTime"], span["endTime"], span["durationNs"]) == (at(950), at(940), 0)


async def test_spans_are_filtered_by_their_own_id_and_their_parents(api: Api) -> None:
    assert await seqs(api, SPANS, spanId=f"{2:016X}") == [2]
    assert await seqs(api, SPANS, spanId="Step 1") == [21]
    assert await seqs(api, SPANS, parentSpanId=f"{1:016x}") == [30]


async def test_events_without_a_good_time_are_shown_at_their_spans(api: Api) -> None:
    items = await api.all_pages(LOGS, traceId=BAD_EVENTS, limit="1", order="asc")
    told = {item["message"]: item for item in items}
    assert set(told) == {"no time", "bad time", "n", "null"}
    assert told["no time"]["timestamp"] == told["bad time"]["timestamp"] == at(900)
    assert told["n"]["attributes"] == {"n": 2, "o": {"a": 1}}
    assert told["null"]["attributes"] == {}
    assert await seqs(api, LOGS, traceId=BAD_EVENTS, **{"attr.n": "2"}) == [20]
    assert await seqs(api, LOGS, traceId=BAD_EVENTS, **{"attr.none": ""}) == []


TOLD_BY_KIND = {"gen_ai.operation.name", "db.system", "http.method"}
LEFT_OUT = {"parentSpanId": "", "service": "", "model": "", "hung": False, "lost": False,
            "inputTokens": 0, "outputTokens": 0, "cost": 0.0}  # fmt: skip


async def test_an_outline_says_of_every_trace_what_the_whole_does_and_its_spans_can_be_asked_for(
    api: Api,
) -> None:
    told_by_kind, traces = [], await api.all_pages(TRACES)
    for trace in [quote(item["id"], safe="") for item in traces]:
        async with api.session.get(URL(f"/traces/{trace}", encoded=True)) as response:
            whole = await response.json()
        async with api.session.get(URL(f"/traces/{trace}/outline", encoded=True)) as response:
            outline = await response.json()
        assert {k: v for k, v in outline.items() if k != "spans"} == {
            k: v for k, v in whole.items() if k in outline and k != "spans"
        }
        for span, drawn in zip(whole["spans"], outline["spans"], strict=True):
            kinds = drawn.pop("attributes", {})
            assert LEFT_OUT | drawn == {k: span[k] for k in LEFT_OUT | drawn}
            assert [k for k in drawn.keys() & LEFT_OUT if LEFT_OUT[k] == drawn[k]] == []
            assert kinds == {k: v for k, v in span["attributes"].items() if k in TOLD_BY_KIND}
            told_by_kind += kinds
        ids = [s["id"] for s in whole["spans"]]
        if not ids:
            continue
        url = URL(f"/traces/{trace}/spans", encoded=True).update_query(ids=",".join(ids))
        async with api.session.get(url) as response:
            assert await response.json() == {"items": whole["spans"], "nextCursor": None}
        async with api.session.get(url.update_query(ids=f"nowhere,{ids[-1]}")) as response:
            assert (await response.json())["items"] == [whole["spans"][-1]]
    assert set(told_by_kind) == TOLD_BY_KIND


async def test_spans_are_asked_for_by_some_ids_of_a_trace_that_is_there(api: Api) -> None:
    for wrong in ({}, {"ids": ""}, {"ids": ",,"}, {"ids": ",".join(map(str, range(101)))}):
        assert "ids" in (await api.get(f"/traces/{MULTI}/spans", expect=400, **wrong))["detail"]
    none = await api.get(f"/traces/{MULTI}/spans", ids="nowhere")
    assert none == {"items": [], "nextCursor": None}
    for more in ({}, {"project": PROJECT}):
        told = await api.get(f"/traces/{'f' * 32}/spans", expect=404, ids="1", **more)
        assert told["title"] == "No such trace"
        await api.get(f"/traces/{'f' * 32}/outline", expect=404, **more)


@pytest.mark.parametrize("trace", ["Order/17 ü%", "order/17 ü%"])
async def test_ids_of_an_application_are_taken_as_they_are(api: Api, trace: str) -> None:
    url = URL(f"/traces/{quote(trace, safe='')}", encoded=True)
    async with api.session.get(url) as response:
        assert response.status == 200, await response.text()
        found = await response.json()
    assert found["id"] == trace
    span = "Step 1" if trace[0] == "O" else "step 1"
    assert [s["id"] for s in found["spans"]] == [span]
    async with api.session.get(URL(f"/spans/{quote(span)}", encoded=True)) as response:
        assert (await response.json())["traceId"] == trace


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/traces/%00", 404), ("/traces/%ff", 404), ("/spans/%F0%9F%98%80", 404),
        ("/spans/%ed%a0%80", 404), ("/traces/" + "x" * 4000, 404), ("/projects/%ff/logs", 400),
        (f"{LOGS}?service=%00", 200), (f"{LOGS}?service=%ff", 200), (f"{LOGS}?text=%ed%a0%80", 200),
        (f"{LOGS}?attr.%00=%00", 200), (f"{LOGS}?attr.=x", 400), (f"{LOGS}?limit=", 400),
        (f"{LOGS}?limit=99999999999999999999", 400), (f"{LOGS}?limit={'9' * 5000}", 400),
        (f"{LOGS}?from=999999999999d", 400), (f"{LOGS}?to=-999999999999d", 400),
        (f"{LOGS}?from=9999-12-31T23:59:59-23:59", 400), (f"{LOGS}?to=0001-01-01T00:00:00%2B23:59", 400),
        (f"{LOGS}?from=2026-11-21T14:45:00%2B01:00", 200), (f"{LOGS}?from=2026-11-21T14:45:00%2B99:00", 400),
        (f"{SPANS}?minDuration=999999999999d", 400), (f"{SPANS}?maxDuration=0.0000001ns", 200),
        (f"/projects/{PROJECT}/scores?minValue=1e999", 400),
        (f"/projects/{PROJECT}/scores?minValue=-1e308", 200),
        (f"{TRACES}?attr.=&limit=5", 400), ("/quarantine/%00", 404), ("/quarantine?project=%27", 200),
        ("/builds/..%2f..%2fx/logs", 400), ("/builds/local.b/logs?x=1", 400),
        ("/proof?project=x", 400), ("/deployments?project=%00", 200), ("/nowhere", 404),
    ],
)  # fmt: skip
async def test_an_odd_request_gets_a_clear_answer(api: Api, path: str, status: int) -> None:
    async with api.session.get(URL(path, encoded=True)) as response:
        text = await response.text()
        assert response.status == status, text
        kind = "application/json" if status == 200 else "application/problem+json"
        assert response.content_type == kind
        if status != 200:
            assert len((await response.json())["detail"]) > 10


async def test_a_cursor_made_up_by_somebody_is_refused(api: Api) -> None:
    import base64

    import msgspec

    from spanyard_gateway.cursors import decode_cursor

    for path, endless in ((LOGS, [-1, "w", 2**64]), (SPANS, [2**70, "w", 1]), (TRACES, [2**63, "w"])):  # fmt: skip
        page = await api.get(path, limit="1")
        cursor = page["nextCursor"]
        raw = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        for position in (endless, [], [None] * len(endless), [1] * len(endless)):
            text = base64.urlsafe_b64encode(msgspec.json.encode([raw[0], raw[1], position]))
            problem = await api.get(path, expect=400, limit="1", cursor=text.decode().rstrip("="))
            assert "cursor" in problem["detail"]
    assert decode_cursor(cursor, raw[1], [int, str]) == raw[2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_a_method_that_a_resource_does_not_have_is_refused(api: Api, method: str) -> None:
    async with api.session.request(method, LOGS) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD"
        assert response.content_type == "application/problem+json"


async def test_head_is_get_without_the_body(api: Api) -> None:
    async with api.session.head(LOGS) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 100


async def test_a_project_that_nobody_knows_has_empty_lists_and_no_proof(api: Api) -> None:
    assert (await api.get("/projects/local.nobody/traces"))["items"] == []
    problem = await api.get("/projects/local.nobody/proof", expect=404)
    assert "local.nobody" in problem["detail"]
    assert (await api.get(f"/projects/{PROJECT}/proof"))["totals"]["stored"] > 0


@pytest.mark.parametrize("origin", ["http://[", "null", "http://evil.example", "file://"])
async def test_an_origin_that_is_none_of_ours_is_turned_away(api: Api, origin: str) -> None:
    async with api.session.get("/projects", headers={"Origin": origin}) as response:
        assert response.status == 403
