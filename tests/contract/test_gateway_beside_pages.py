"""What the gateway gives beside pages: lines as they are stored, the rest of a log, files, pruning."""

import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
import pytest_asyncio

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.records import LINE_TYPES, AnyLine, LogLine, MetricLine, Signal
from spanyard_core.storage import open_storage
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import Api, load, running_gateway
from tests.fakes.gateway_records import PROJECT, at, load_all, written

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def db(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    async with database(engine_url()) as db:
        await migrate(db)
        await load_all(db, tmp_path_factory.mktemp("gateway"))
        yield db


@pytest_asyncio.fixture(loop_scope="module")
async def api(db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    storage = open_storage(f"file://{tmp_path}/bucket")
    async with running_gateway(db, storage) as api:
        yield api
    await storage.close()


async def test_a_follower_gets_each_line_once_also_those_that_come_late(
    db: Database, api: Api, tmp_path: Path
) -> None:
    project = "local.followed"

    def lines(writer: str, first: int, last: int, ns: int) -> list[AnyLine]:
        return [
            LogLine(project=project, writer=writer, seq=i, timestamp=at(ns + i), level="info",
                    message=f"{writer} {i}") for i in range(first, last + 1)
        ]  # fmt: skip

    attempt = 1_795_000_000_000 << 20
    where = f"/projects/{project}/logs/follow"
    await load(db, tmp_path, attempt, "logs", lines("a", 1, 5, 1000))
    page = await api.get(where, limit="3")
    assert (page["items"], page["caughtUp"]) == ([], True)

    async def rest(page: Any, **more: str) -> tuple[Any, list[str]]:
        found: list[str] = []
        for _ in range(20):
            page = await api.get(where, limit="3", cursor=page["nextCursor"], **more)
            found += [item["message"] for item in page["items"]]
            if page["caughtUp"]:
                break
        return page, found

    page, found = await rest(page)
    assert found == [], "what was stored before is not new"
    await load(db, tmp_path, attempt + (2 << 20), "logs", lines("a", 6, 12, 1000))
    page, found = await rest(page)
    assert found == [f"a {i}" for i in range(6, 13)]
    # Planned before the follower came, visible only now.
    await load(db, tmp_path, attempt - (1 << 20), "logs", lines("c", 1, 1, 0))
    page, found = await rest(page)
    assert found == ["c 1"]
    # Planned earlier, visible later, and older than all that was shown.
    await load(db, tmp_path, attempt + (1 << 20), "logs", lines("b", 1, 4, 0))
    await load(db, tmp_path, attempt + (3 << 20), "logs", lines("a", 13, 13, 1000))
    page, found = await rest(page)
    assert found == ["b 1", "b 2", "b 3", "b 4", "a 13"]
    assert (await rest(page))[1] == []
    for wrong in ("x", page["nextCursor"][:-2], page["nextCursor"] + "AAAA"):
        await api.get(where, 400, cursor=wrong)
    problem = await api.get(where, 400, cursor=page["nextCursor"], level="warn")
    assert "other filters" in problem["detail"]


async def test_a_build_log_is_sent_from_where_the_reader_is(api: Api) -> None:
    text = "first ü\nsecond\n"
    await api.storage.write("builds/local.grows/build.log", text.encode())
    head = "first ü\n".encode()
    digest = hashlib.sha256(head).hexdigest()
    path = "/builds/local.grows/logs"
    log = await api.get(path, offset=str(len(head)), prefix=digest)
    assert (log["text"], log["offset"]) == ("second\n", len(head))
    log = await api.get(path, offset=str(len(head) + 1), prefix=digest)
    assert (log["text"], log["offset"]) == (text, 0)
    await api.get(path, 400, offset="-1")


async def _exported(api: Api, **params: str) -> tuple[Any, bytes]:
    async with api.session.get(f"/projects/{PROJECT}/export", params=params) as response:
        assert response.status == 200, await response.text()
        return response.headers, await response.read()


@pytest.mark.parametrize("signal", ["logs", "spans", "traces", "metrics", "scores"])
async def test_exported_lines_are_those_that_were_written(api: Api, signal: Signal) -> None:
    before_export = written(signal)
    headers, data = await _exported(api, signal=signal)
    lines = msgspec.json.Decoder(LINE_TYPES[signal]).decode_lines(data)
    wanted = {line.seq: line for line in before_export if getattr(line, "end_time", "") is not None}
    assert int(headers["X-Spanyard-Rows"]) == len(lines) == len(wanted)
    for line in lines:
        before = wanted[line.seq]
        if line.recorded_at and not before.recorded_at:
            before.recorded_at = line.recorded_at
        if isinstance(before, MetricLine) and isinstance(line, MetricLine):
            before.start_time = line.start_time  # the table has no empty time
        if isinstance(before, LogLine) and isinstance(line, LogLine):
            assert (line.message, line.attributes) == (before.message, before.attributes)
        assert msgspec.to_builtins(line) == msgspec.to_builtins(before)


async def test_an_export_takes_the_filters_of_its_signal(api: Api) -> None:
    _, data = await _exported(api, signal="logs", level="error", **{"attr.user": "u1"})
    found = [json.loads(line) for line in data.splitlines()]
    assert found
    assert {(f["level"], f["attributes"]["user"]) for f in found} == {("error", "u1")}
    headers, data = await _exported(api, signal="logs", text="nobody wrote this")
    assert (headers["X-Spanyard-Rows"], data) == ("0", b"")
    where = f"/projects/{PROJECT}/export"
    assert "signal" in (await api.get(where, 400))["detail"]
    assert "no such filter" in (await api.get(where, 400, signal="scores", level="warn"))["detail"]


async def test_an_export_as_parquet_has_the_same_names(api: Api, tmp_path: Path) -> None:
    for signal, rows in (("logs", 50), ("spans", 4), ("metrics", 3), ("scores", 1), ("traces", 1)):
        headers, data = await _exported(api, signal=signal, format="parquet")
        assert int(headers["X-Spanyard-Rows"]) == rows
        table = pyarrow.parquet.read_table(io.BytesIO(data))
        assert table.num_rows == rows
        assert {"writer", "seq", "recordedAt"} <= set(table.column_names)
    headers, data = await _exported(api, signal="logs", format="parquet", text="nobody wrote this")
    assert pyarrow.parquet.read_table(io.BytesIO(data)).num_rows == 0


async def test_pruning_is_the_ingesters(api: Api) -> None:
    async def prune(expect: int, body: Any) -> Any:
        async with api.session.post(f"/projects/{PROJECT}/prune", json=body) as response:
            assert response.status == expect, await response.text()
            return await response.json()

    when = "2026-11-01T00:00:00Z"
    answer = await prune(200, {"olderThan": when, "dryRun": True, "signals": ["logs"]})
    assert answer["rows"] == {"logs": 150}
    assert api.ingester.actions[-1] == (
        "prune", PROJECT,
        {"project": PROJECT, "before": "1793491200000000000", "signals": ["logs"], "dryRun": True},
    )  # fmt: skip
    for wrong in (
        {},
        {"olderThan": "soon"},
        {"olderThan": "2200-01-01T00:00:00Z"},
        {"olderThan": 3},
    ):
        await prune(400, wrong)
    api.ingester.away = True
    await prune(503, {"olderThan": "30d"})
