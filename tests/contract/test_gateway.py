"""The REST API over the real engine: what was loaded is answered, page by page, whatever the limit."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openapi_spec_validator import validate

from spanyard_core.chunks import ChunkWriter, Source
from spanyard_core.records import (
    AnyLine,
    LogLine,
)
from tests.fakes.gateway_api import T0, Api, Filled, chunk, filled, running_gateway
from tests.fakes.gateway_records import PROJECT, TRACE, at, load_all, written


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with filled(folder) as (db, storage):
        await load_all(db, folder)
        yield db, storage


@pytest_asyncio.fixture(loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
LOGS = f"/projects/{PROJECT}/logs"


@pytest.mark.parametrize("limit", ["1", "2", "7", "49", "50", "1000"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_hold_every_row_once_in_order_whatever_their_size(
    api: Api, limit: str, order: str
) -> None:
    items = await api.all_pages(LOGS, limit=limit, order=order)
    seqs = [item["seq"] for item in items]
    assert seqs == sorted(range(1, 51), reverse=order == "desc")


async def test_a_log_line_comes_back_as_it_was_written(api: Api) -> None:
    item = (await api.get(LOGS, traceId=TRACE, text="LINE 5 STRAßE", level="warn"))["items"][0]
    assert item["message"] == "line 5 Straße\t\x07"
    assert item["attributes"] == {"user": "u1", "n": 5, "deep": {"a": 1}}
    assert item["timestamp"] == item["recordedAt"] == at(1)
    assert (item["id"], item["recordId"], item["projectId"]) == ("uid/server/0@e#5",) * 2 + (
        PROJECT,
    )


async def test_logs_are_filtered_by_level_attribute_time_and_text(api: Api) -> None:
    errors = await api.all_pages(LOGS, level="error")
    assert {i["seq"] % 3 for i in errors} == {1}
    by_user = await api.all_pages(LOGS, **{"attr.user": "u0", "level": "error,warn"})
    assert by_user
    assert all(i["seq"] % 2 == 0 and i["level"] != "info" for i in by_user)
    some = await api.all_pages(LOGS, **{"from": at(2), "to": at(4)})
    assert sorted(i["seq"] for i in some) == [6, 7, 8, 9, 10, 11]
    assert [i["seq"] for i in await api.all_pages(LOGS, text="LINE 17 ")] == [17]
    assert await api.all_pages(LOGS, text="line%17") == []


async def test_events_of_a_span_are_logs_of_it(api: Api) -> None:
    items = await api.all_pages(LOGS, spanId="00000000000000a2", limit="1", order="asc")
    assert [(i["message"], i["level"], i["spanEvent"]) for i in items] == [
        ("Timeout: slow", "error", True),
        ("retry", "info", True),
    ]
    assert len({i["recordId"] for i in items}) == 2
    assert [i["seq"] for i in await api.all_pages(LOGS, traceId=TRACE) if not i["spanEvent"]] == [5]


async def test_an_ended_span_replaces_its_start_and_an_unfinished_one_is_marked(api: Api) -> None:
    path = f"/projects/{PROJECT}/spans"
    items = await api.all_pages(path, limit="2", traceId=TRACE)
    assert sorted((i["id"][-2:], i["endTime"] is None) for i in items) == [
        ("a1", False), ("a2", False), ("a3", False), ("a4", True),
    ]  # fmt: skip
    assert [i["name"] for i in await api.all_pages(path, open="true")] == ["hung"]
    assert "hung" not in {i["name"] for i in await api.all_pages(path, open="false")}
    assert "attributes" not in items[0]
    slow = await api.all_pages(path, minDuration="250ms", status="error")
    assert [(i["name"], i["durationNs"]) for i in slow] == [("answer", 250_000_000)]


async def test_a_trace_has_its_spans_scores_and_sums(api: Api) -> None:
    trace = await api.get(f"/traces/{TRACE}")
    assert [s["id"][-2:] for s in trace["spans"]] == ["a1", "a2", "a3", "a4"]
    assert trace["scores"][0]["comment"] == "so so"
    assert trace["spans"][1]["attributes"]["gen_ai.request.model"] == "m-1"
    assert trace["truncated"] is False
    items = await api.all_pages(f"/projects/{PROJECT}/traces", limit="1")
    assert sorted((i["name"], i["spans"], i["errors"]) for i in items) == [
        ("answer", 4, 1), ("other", 1, 0), ("told", 0, 0),
    ]  # fmt: skip
    root = next(i for i in items if i["name"] == "answer")
    assert (root["inputTokens"], root["outputTokens"], root["status"]) == (120, 30, "error")
    assert (await api.get(f"/traces/{'e' * 32}", project=PROJECT))["output"] == "yes"


async def test_one_span_is_found_by_its_id_alone(api: Api) -> None:
    span = await api.get("/spans/00000000000000a3")
    assert (span["name"], span["endTime"]) == ("tool", at(4000 + 250_000_000))
    assert (await api.get("/spans/0000000000000000", expect=404))["title"] == "No such span"


async def test_metrics_and_scores_come_back_with_their_values(api: Api) -> None:
    items = await api.all_pages(f"/projects/{PROJECT}/metrics", limit="1", order="asc")
    assert [(i["name"], i["value"]) for i in sorted(items, key=lambda i: i["seq"])] == [
        ("requests", 3.0), ("latency", 1.5), ("odd", "NaN"),
    ]  # fmt: skip
    assert next(i for i in items if i["name"] == "latency")["bucketCounts"] == [1, 1, 1]
    path = f"/projects/{PROJECT}/scores"
    assert len(await api.all_pages(path, minValue="0.5", maxValue="0.5")) == 1
    assert await api.all_pages(path, minValue="0.6") == []


async def test_projects_and_deployments_are_listed(api: Api) -> None:
    projects = await api.all_pages("/projects", limit="1")
    assert [(p["id"], p["records"]) for p in projects] == [(PROJECT, 50 + 6 + 3 + 1 + 1 + 3)]
    assert [(d["name"], d["logs"]) for d in await api.all_pages("/deployments", limit="1")] == [
        ("agent", 50)
    ]


async def test_the_proof_tells_what_is_missing_and_what_was_told(api: Api) -> None:
    proof = await api.get(f"/projects/{PROJECT}/proof")
    writer = next(w for w in proof["writers"] if w["writer"] == "uid/server/0@e")
    assert (writer["state"], writer["expected"], writer["stored"]) == ("ended", 52, 50)
    assert (writer["quarantined"], writer["missing"], writer["doubled"], writer["gaps"]) == (
        1,
        1,
        0,
        1,
    )
    assert proof["gaps"][0]["cause"] == "rotated-away"
    assert proof["complete"] is False


async def test_another_project_sees_nothing_of_it(api: Api) -> None:
    for kind in ("logs", "spans", "traces", "metrics", "scores"):
        assert (await api.get(f"/projects/local.other/{kind}"))["items"] == []
    assert (await api.get(f"/traces/{TRACE}", expect=404, project="local.other"))["status"] == 404


async def test_the_quarantine_is_shown_and_its_actions_are_passed_on(api: Api) -> None:
    items = await api.all_pages("/quarantine", limit="1", project=PROJECT, state="open")
    assert [(i["id"], i["line"], i["text"]) for i in items] == [("q1", 51, "\ufffd{")]
    async with api.session.post("/quarantine/q1/replay", json={"text": "{}"}) as response:
        assert response.status == 200
    async with api.session.post("/quarantine/q1/delete") as response:
        assert response.status == 200
    assert api.ingester.actions == [("replay", "q1", {"text": "{}"}), ("delete", "q1", {})]
    async with api.session.post("/quarantine/gone/replay") as response:
        assert (response.status, (await response.json())["detail"]) == (404, "no such id")
    api.ingester.away = True
    async with api.session.post("/quarantine/q1/replay") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")


async def test_hints_go_to_the_ingester_and_foreign_keys_are_refused(api: Api) -> None:
    key = chunk("logs", written("logs"))[0]
    async with api.session.post("/internal/hints", json={"keys": [key]}) as response:
        assert await response.json() == {"forwarded": 1}
    assert api.ingester.hints == [key]
    for bad in ("../secret", "ledger/0/1.json", key.replace("observability/", "processed/")):
        async with api.session.post("/internal/hints", json={"keys": [bad]}) as response:
            assert response.status == 400
    api.ingester.away = True
    async with api.session.post("/internal/hints", json={"keys": [key]}) as response:
        assert await response.json() == {"forwarded": 0}


async def test_a_lost_spools_successor_learns_how_far_its_file_is_stored(api: Api) -> None:
    ask = {"project": PROJECT, "fingerprint": "40:abc"}
    loaded = (await api.get("/internal/sources", **ask))["stored"]
    assert (loaded["toOffset"], loaded["pending"]) == (600, [[7, 9]])
    writer = ChunkWriter()
    writer.add(b"{}\n", 1)
    facts, parts = writer.finish(
        signal="logs", project=PROJECT, writer="w", first=60, last=60, time_ns=T0,
        source=Source("40:abc", 600, 700, [(690, 10)]),
    )  # fmt: skip
    await api.storage.write(facts.name.key(), b"".join(parts))
    waiting = (await api.get("/internal/sources", **ask))["stored"]
    assert waiting == {"writer": "w", "lastSeq": 60, "toOffset": 700, "pending": [[690, 10]]}
    await api.storage.delete(facts.name.key())
    assert (await api.get("/internal/sources", project=PROJECT, fingerprint="no"))["stored"] is None


async def test_a_builds_log_is_read_from_its_parts_and_then_from_its_final_object(api: Api) -> None:
    lines: list[AnyLine] = [
        LogLine(project="local.b", writer="u/builder/0@e", seq=i, build="local.b", container="builder",
                timestamp=at(i), level="info", message=f"step {i}")
        for i in (1, 2)
    ]  # fmt: skip
    await api.storage.write(
        f"builds/local.b/log/builder-{'0' * 20}-1-2.jsonl.zst", chunk("logs", lines)[1]
    )
    log = await api.get("/builds/local.b/logs")
    assert (log["complete"], log["text"]) == (False, "step 1\nstep 2\n")
    await api.storage.write("builds/local.b/build.log", b"all of it\n")
    log = await api.get("/builds/local.b/logs")
    assert (log["complete"], log["text"]) == (True, "all of it\n")
    await api.storage.write("builds/local.b-c/build.log", b"")
    builds = await api.all_pages("/builds", limit="1")
    assert sorted((b["id"], b["complete"]) for b in builds) == [
        ("local.b", True),
        ("local.b-c", True),
    ]
    assert (await api.get("/builds/local.none/logs", expect=404))["title"] == "No such build"


async def test_wrong_requests_say_what_is_wrong(api: Api) -> None:
    assert "levle: no such parameter" in (await api.get(LOGS, expect=400, levle="x"))["detail"]
    assert "cursor:" in (await api.get(LOGS, expect=400, cursor="AAAA"))["detail"]
    page = await api.get(LOGS, limit="1")
    refused = await api.get(LOGS, expect=400, cursor=page["nextCursor"], level="info")
    assert "other filters" in refused["detail"]
    assert "namespace.name" in (await api.get("/projects/NO/logs", expect=400))["detail"]
    evil = base64.b64encode(b"' OR 1=1 --").decode()
    assert (await api.get(LOGS, service=f"' OR 1=1 -- {evil}"))["items"] == []


async def test_other_hosts_and_other_origins_are_turned_away(api: Api) -> None:
    async with api.session.get("/projects", headers={"Host": "evil.example"}) as response:
        assert response.status == 421
    async with api.session.get("/projects", headers={"Origin": "http://evil.example"}) as response:
        assert response.status == 403


async def test_the_openapi_document_is_valid_and_every_documented_list_answers(api: Api) -> None:
    document = await api.get("/openapi.json")
    validate(document)
    lists = [path for path, ops in document["paths"].items() if "get" in ops and any(p["name"] == "cursor" for p in ops["get"].get("parameters", []))]  # fmt: skip
    assert len(lists) >= 9
    for path in lists:
        deployment = path.startswith("/deployments/")
        page = await api.get(path.replace("{id}", "local.agent" if deployment else PROJECT))
        more = {"caughtUp"} if path.endswith("/follow") else set()
        if deployment:
            more = {"partial"}
        assert set(page) == {"items", "nextCursor", *more}
    text = str(document)
    assert "/internal/" not in text


async def test_sql_that_only_reads_is_answered(api: Api) -> None:
    async def ask(expect: int, body: Any) -> Any:
        async with api.session.post("/sql", json=body) as response:
            assert response.status == expect, await response.text()
            if response.content_type == "text/csv":
                return await response.text()
            return await response.json()

    answer = await ask(200, {"query": "SELECT count() AS n FROM logs"})
    assert answer["data"] == [{"n": 50}]
    question = "SELECT count() AS n FROM logs WHERE level = {level:String}"
    answer = await ask(200, {"query": question, "params": {"level": "error"}})
    assert answer["data"] == [{"n": 17}]
    table = await ask(200, {"query": "SELECT 1 AS one, 'a,b' AS two", "format": "CSVWithNames"})
    assert table == '"one","two"\n1,"a,b"\n'
    for refused in ("DROP TABLE logs", "SELECT * FROM file('/etc/passwd')", "SELECT 1; SELECT 2"):
        assert (await ask(400, {"query": refused}))["status"] == 400
    assert (await ask(400, {"query": "SELECT nosuch FROM logs"}))["title"] == "ClickHouse refuses"
    for wrong in ({}, {"query": 1}, [], {"query": "SELECT 1", "database": "x"}):
        assert "the body is not" in (await ask(400, wrong))["detail"]
