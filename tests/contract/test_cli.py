"""The commands against a real gateway over the real engine: what is stored is what is shown."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import pytest_asyncio

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import rfc3339
from spanyard_core.records import (
    AnyLine,
    LogLine,
    MetricLine,
    ScoreLine,
    Signal,
    SpanEvent,
    SpanLine,
)
from spanyard_core.resources.kinds import (
    Build,
    BuildStatus,
    Deployment,
    Failure,
    Revision,
)
from spanyard_core.resources.source_status import SourceStatus
from spanyard_core.storage import open_storage
from spanyard_ingester.warehouse import LedgerRow, QuarantineRow
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from spanyard_local import command_line as command
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import T0, Api, load, running_gateway
from tests.fakes.resource_api import MemoryResources, manifests

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PROJECT = "local.support"


def at(ns: int) -> str:
    return rfc3339(T0 + ns)


def records() -> dict[Signal, list[AnyLine]]:
    def span(seq: int, name: str, parent: str = "", **more: Any) -> SpanLine:
        values: dict[str, Any] = {
            "project": PROJECT, "writer": "u/spans@e", "seq": seq, "trace_id": TRACE,
            "id": f"{seq:016x}", "parent_span_id": parent, "name": name,
            "start_time": at(seq * 10**6), "end_time": at(seq * 10**6 + 53_000_000),
        } | more  # fmt: skip
        return SpanLine(**values)

    failed = SpanEvent("exception", at(1), {"exception.type": "Timeout", "exception.message": "slow\x1b[2J"})  # fmt: skip
    tokens = {"gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 34}  # fmt: skip
    return {
        "logs": [
            LogLine(project=PROJECT, writer="u/server/0@e", seq=i, deployment="support", timestamp=at(i),
                    level=("info", "warn", "error")[i % 3], message=f"line {i}",
                    trace_id=TRACE if i == 7 else "", attributes={"user": f"u{i % 2}"})
            for i in range(1, 151)
        ],
        "spans": [
            span(1, "answer", status="error", status_message="the tool failed"),
            span(2, "chat", f"{1:016x}", span_kind="client", attributes=tokens),
            span(3, "tool", f"{1:016x}", status="error", events=[failed]),
            span(4, "waits", f"{1:016x}", end_time=None),
            span(5, "other", trace_id="0af7" + "0" * 28, id="a" * 16),
        ],
        "metrics": [
            MetricLine(project=PROJECT, writer="u/metrics@e", seq=i, name="questions", kind="counter",
                       value=float(i), timestamp=at(i), unit="{question}", attributes={"route": "/ask"})
            for i in range(1, 4)
        ],
        "scores": [
            ScoreLine(project=PROJECT, writer="u/scores@e", seq=1, name="helpful", value=0.25, timestamp=at(1),
                      trace_id=TRACE, comment="wrong\norder"),
        ],
    }  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def db(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    folder = tmp_path_factory.mktemp("cli")
    async with database(engine_url()) as db:
        await migrate(db)
        warehouse = ClickHouseWarehouse(db)
        for attempt, (signal, lines) in enumerate(records().items(), start=1):
            await load(db, folder, attempt, signal, lines)
            when = _when()
            await warehouse.ledger_copy([
                LedgerRow(shard=0, n=attempt, attempt=attempt, key=f"k{attempt}", writer=lines[0].writer,
                          seq_from=1, seq_to=len(lines), records=len(lines), source="", source_from=0,
                          source_to=0, source_pending=(), signal=signal, project=PROJECT,
                          status="committed", time=when)
            ])  # fmt: skip
        await warehouse.quarantine_add([
            QuarantineRow(id="q1", project=PROJECT, signal="logs", key="observability/x", writer="u/server/0@e",
                          line=51, offset=900, reason="not JSON", bytes=b"\x1b[2J{", size=6,
                          created_at=_when(), updated_at=_when())
        ])  # fmt: skip
        yield db


def _when() -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(T0 // 10**9, UTC)


@pytest.fixture
def kept() -> MemoryResources:
    return MemoryResources()


@pytest_asyncio.fixture(loop_scope="module")
async def api(
    db: Database, kept: MemoryResources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    await kept.apply(manifests())
    storage = open_storage(f"file://{tmp_path}/bucket")
    async with running_gateway(db, storage, resources=kept) as api:
        monkeypatch.setenv("SPANYARD_SERVER", str(api.session._base_url).rstrip("/"))
        monkeypatch.chdir(tmp_path)
        yield api
    await storage.close()


class Shell:
    """Runs commands as a user types them."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        found = await asyncio.to_thread(self._run, words)
        self.out, self.err = self._capsys.readouterr()
        assert found == code, self.out + self.err
        assert "\x1b" not in self.out + self.err, "nothing of others steers the terminal"
        assert "Traceback" not in self.err
        return self.out

    def _run(self, words: tuple[str, ...]) -> Any:
        try:
            command.main(words)
        except SystemExit as end:
            return end.code

    async def lines(self, *words: str) -> list[str]:
        return [" ".join(line.split()) for line in (await self(*words)).splitlines()]

    async def json(self, *words: str) -> Any:
        return json.loads(await self(*words, "-o", "json"))

    async def jsonl(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in (await self(*words, "-o", "jsonl")).splitlines()]


@pytest.fixture
def spanyard(api: Api, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


async def test_projects(spanyard: Shell) -> None:
    shown = await spanyard.lines("projects")
    assert shown[0].startswith("PROJECT RECORDS FIRST DAY LAST DAY")
    assert shown[1].startswith("local.support 159 2026-11-18 2026-11-18")
    assert [p["id"] for p in await spanyard.json("projects")] == [PROJECT]


async def test_logs_are_the_newest_in_their_order(spanyard: Shell) -> None:
    shown = await spanyard.lines("logs", "support", "--utc")
    assert len(shown) == 100
    assert shown[0] == "2026-11-18 11:06:40.000Z INFO support line 51"
    assert [line["seq"] for line in await spanyard.jsonl("logs", "support", "-n", "3")] == [148, 149, 150]  # fmt: skip
    assert len(await spanyard.jsonl("logs", "support", "-n", "all")) == 150
    everything = await spanyard.json("logs", "local.support", "--since", "20000d")
    assert [line["seq"] for line in everything] == list(range(1, 151))
    assert (await spanyard("logs", "support", "--plain", "-n", "1")) == "line 150\n"


async def test_logs_are_filtered(spanyard: Shell) -> None:
    found = await spanyard.jsonl("logs", "support", "--level", "warn", "-n", "all")
    assert {line["level"] for line in found} == {"warn", "error"}
    found = await spanyard.jsonl("logs", "support", "--attr", "user=u1", "--grep", "LINE 15")
    assert [line["message"] for line in found] == ["line 15"]
    found = await spanyard.jsonl("logs", "support", "--trace", "0af7651")
    assert {line["message"] for line in found} == {"line 7", "Timeout: slow\x1b[2J"}
    await spanyard("logs", "support", "--deployment", "none")
    assert "no line matches" in spanyard.err
    await spanyard("logs", "suport", code=1)
    assert "did you mean 'support'?" in spanyard.err
    await spanyard("logs", "support", "--since", "yesterday", code=2)
    assert "argument --since: 'yesterday' is not a time" in spanyard.err
    await spanyard("logs", "support", "--since", "1m", "--until", "5m", code=2)
    assert "--since 1m: not before --until 5m, so nothing can match" in spanyard.err


async def test_a_search_finds_and_its_mistakes_are_shown_at_their_place(spanyard: Shell) -> None:
    found = await spanyard.jsonl("logs", "support", '"line 15" OR message:150 -level:info')
    assert [line["seq"] for line in found] == [15]
    found = await spanyard.jsonl("logs", "support", "-n", "all", "-q=-level:info -level:warn")
    assert {line["level"] for line in found} == {"error"}
    [trace] = await spanyard.jsonl("traces", "support", "status:error tokens:>1000")
    assert trace["id"] == TRACE
    await spanyard("logs", "support", "😀 level:eror", code=2)
    assert spanyard.err.splitlines()[-2:] == ["  😀 level:eror", "          ^^^^"]
    await spanyard("traces", "support", "-q", "é" * 100 + " (tool:x", code=2)
    shown, carets = spanyard.err.splitlines()[-2:]
    assert shown[carets.index("^")] == "("
    assert len(shown) <= 102
    await spanyard("logs", "support", "one", "-q", "two", code=2)
    assert "two searches" in spanyard.err


async def test_traces_are_listed_with_their_sums(spanyard: Shell) -> None:
    shown = await spanyard.lines("traces", "support")
    assert shown[0] == "TRACE NAME STATUS DURATION SPANS ERRORS TOKENS AGE"
    assert shown[2].startswith("0af7651916cd answer error 53ms 4 2 1,234 ")
    found = await spanyard.json("traces", "support", "--status", "error")
    assert [t["id"] for t in found] == [TRACE]
    await spanyard("traces", "support", "--min-duration", "2s")
    assert "no trace matches" in spanyard.err


async def test_a_trace_is_a_tree_that_tells_what_went_wrong(spanyard: Shell) -> None:
    shown = await spanyard.lines("trace", "0af7651", "--utc")
    assert shown[0] == (
        f"{TRACE} local.support 2026-11-18 11:06:40.001Z 4 spans 2 with errors 1 unfinished "
        "1,200 + 34 tokens"
    )
    assert shown[2:] == [
        "answer +0 53ms error",
        "├─ chat +1.0ms 53ms - m-1 1,234",
        "├─ tool +2.0ms 53ms error",
        "└─ waits +3.0ms unfinished",
        "error answer: the tool failed",
        "error tool: Timeout: slow␛[2J",
        "score helpful = 0.25 wrong ⏎ order",
    ]
    assert "gen_ai.request.model = m-1" in await spanyard("trace", TRACE, "--full")
    assert (await spanyard.json("trace", TRACE))["id"] == TRACE
    await spanyard("trace", "0af7", code=1)
    assert "several traces begin with '0af7'" in spanyard.err
    await spanyard("trace", "ffff", code=1)
    assert "no trace's id begins with 'ffff'" in spanyard.err
    await spanyard("trace", "f" * 32, code=1)


async def test_metrics_and_scores(spanyard: Shell) -> None:
    shown = await spanyard.lines("metrics", "support")
    assert shown[1].startswith("questions counter {question} 1 3 3 ")
    points = await spanyard.lines("metrics", "support", "questions", "-n", "1")
    assert points[1].endswith(" counter 3 {question} route=/ask")
    assert [s["value"] for s in await spanyard.json("scores", "support", "--max", "0.5")] == [0.25]
    assert "wrong ⏎ order" in await spanyard("scores", "support")
    await spanyard("scores", "support", "--min", "0.5")
    assert "no score matches" in spanyard.err


async def test_the_quarantine_is_listed_shown_replayed_and_given_up(
    spanyard: Shell, api: Api
) -> None:
    shown = await spanyard.lines("quarantine", "list")
    assert shown[1].startswith("q1 local.support logs 51 6 B open ")
    assert "  | ␛[2J{" in await spanyard("quarantine", "show", "q1")
    assert await spanyard("quarantine", "replay", "--all") == "q1: replayed\n"
    Path("line.json").write_text('{"type":"log"}\n')
    await spanyard("quarantine", "replay", "q1", "--file", "line.json")
    assert api.ingester.actions[-1] == ("replay", "q1", {"text": '{"type":"log"}'})
    await spanyard("quarantine", "delete", "q1", code=1)
    assert "--yes" in spanyard.err
    await spanyard("quarantine", "delete", "q1", "gone", "--yes", code=1)
    assert spanyard.out == "q1: replayed\n"
    assert "gone: no such id" in spanyard.err


async def test_sql_in_every_form(spanyard: Shell) -> None:
    query = "SELECT level, count() AS n FROM logs WHERE level != {l:String} GROUP BY level ORDER BY n, level"
    shown = await spanyard.lines("sql", query, "--param", "l=info")
    assert shown == ["level n", "error 50", "warn 50"]
    assert await spanyard.json("sql", "SELECT 1 AS a, NULL AS b") == [{"a": 1, "b": None}]
    assert await spanyard.jsonl("sql", "SELECT 1 AS a") == [{"a": 1}]
    assert await spanyard("sql", "SELECT 1 AS a", "-o", "csv") == '"a"\n1\n'
    assert await spanyard("sql", "SELECT 'x' AS a FORMAT TSV") == "x\n"
    for refused in ("DROP TABLE logs", "SELECT nosuch FROM logs", "SELEC 1", " "):
        await spanyard("sql", refused, code=2)
        assert "spanyard: " in spanyard.err


async def test_exports_are_whole_or_not_there(spanyard: Shell, monkeypatch: Any) -> None:
    await spanyard("export", "support", "spans", "--to", "spans.parquet")
    assert spanyard.err.startswith("4 spans in spans.parquet, ")
    table = pyarrow.parquet.read_table(io.BytesIO(Path("spans.parquet").read_bytes()))
    assert table.num_rows == 4
    await spanyard("export", "support", "logs", "--level", "error", "--to", "e.jsonl")
    lines = [json.loads(line) for line in Path("e.jsonl").read_text().splitlines()]
    assert {line["level"] for line in lines} == {"error"}
    await spanyard("export", "support", "metrics", "--level", "warn", "--to", "m.jsonl", code=2)
    assert "metrics have no such filter" in spanyard.err
    assert not [p.name for p in Path().iterdir() if p.name.startswith("m.jsonl")]


async def test_builds_and_deployments(spanyard: Shell, kept: MemoryResources, api: Api) -> None:
    build = kept.found["Build", "local.support-1"]
    assert isinstance(build, Build)
    build.metadata.creation_timestamp = at(0)
    build.status = BuildStatus(
        phase="Failed", started_at=at(0), finished_at=at(2 * 10**9),
        failure=Failure(reason="StepFailed", message="install ended\nwith 1", step="install",
                        last_lines=["boom \x1b[2J"], remedy="read it"),
        source=SourceStatus(commit="c" * 40 + "-dirty", subject="Ask \x1b[2J twice", author="Ann"),
    )  # fmt: skip
    deployment = kept.found["Deployment", "local.support"]
    assert isinstance(deployment, Deployment)
    deployment.status.endpoint, deployment.status.ready_replicas = "http://127.0.0.1:1", 1
    deployment.status.revisions = [Revision(number=1, hash="h", state="Serving")]
    await api.storage.write("builds/local.support/build.log", b"all \x1b[31mof\x1b[0m it\n")
    shown = await spanyard.lines("builds", "support")
    assert shown[1].startswith("local.support-1 local.support Failed install 2.00s ")
    assert shown[1].endswith(" cccccccccccc-dirty Ask ␛[2J twice install ended ⏎ with 1")
    assert shown[2] == "local.support local.support Queued"
    assert len(await spanyard.json("builds", "--phase", "failed")) == 1
    shown = await spanyard.lines("deployments")
    assert shown[1].startswith("local.support local.support 1/1 http://127.0.0.1:1")
    text = await spanyard("show", "build", "support-1")
    assert "StepFailed in step install: install ended ⏎ with 1" in text
    assert '"author": "Ann"' in text
    assert "\x1b" not in text
    assert "  | boom ␛[2J\n  read it\n" in text
    await spanyard("show", "build", "nope", code=1)
    await spanyard("cancel", "support-1", code=1)
    assert "is failed already" in spanyard.err
    assert await spanyard("cancel", "support") == "build local.support is being cancelled\n"
    await spanyard("delete", "build", "support-1", code=1)
    await spanyard("delete", "build", "support-1", "--yes")
    assert ("Build", "local.support-1") not in kept.found


async def test_a_build_log_goes_out_as_it_is_where_nobody_looks(
    spanyard: Shell, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    await api.storage.write("builds/local.support/build.log", b"first\nsecond\n")
    assert await spanyard("build-log", "support") == "first\nsecond\n"
    assert spanyard.err == ""
    assert (await spanyard.json("build-log", "support"))["complete"] is True
    await spanyard("build-log", "support-1")
    assert "not whole yet" in spanyard.err
    await spanyard("build-log", "nope", code=1)


async def test_deploy_uploads_the_folder_and_applies_what_it_says(
    spanyard: Shell, api: Api, kept: MemoryResources
) -> None:
    folder = Path("dice")
    (folder / "node_modules").mkdir(parents=True)
    (folder / "node_modules" / "big.js").write_text("x")
    (folder / "package.json").write_text('{"scripts": {"start": "node server.js"}}')
    (folder / "server.js").write_text("")
    await spanyard("deploy", "dice", "--dry-run")
    assert ("Build", "local.dice") not in kept.found
    assert not [o async for o in api.storage.list("sources/")]
    shown = await spanyard.lines("deploy", "dice", "--no-wait")
    assert shown == [
        "project local.dice created", "build local.dice created", "deployment local.dice created",
    ]  # fmt: skip
    assert "guessed from package.json" in spanyard.err
    assert "node_modules" in spanyard.err
    build = kept.found["Build", "local.dice"]
    assert isinstance(build, Build)
    assert build.spec.source.archive
    digest = build.spec.source.archive.digest.removeprefix("sha256:")
    assert [o.key async for o in api.storage.list("sources/")] == [f"sources/{digest}.tar.zst"]
    await spanyard("deploy", "dice", "--no-wait")
    assert "is of just this; nothing to build" in spanyard.err
    (folder / "server.js").write_text("// changed")
    answer = await spanyard.json("deploy", "dice", "--no-wait")
    assert [a["id"] for a in answer if a["kind"] == "Build"] == ["local.dice-2"]
    (folder / "spanyard.yaml").write_text(
        "apiVersion: spanyard.dev/v1alpha1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: many}\n"
    )
    await spanyard("deploy", "dice", code=2)
    assert "not valid:\n  Deployment: " in spanyard.err


async def test_prune_counts_asks_and_deletes(
    spanyard: Shell, api: Api, kept: MemoryResources
) -> None:
    for name in ("local.support", "local.support-1"):
        build = kept.found["Build", name]
        assert isinstance(build, Build)
        build.status = BuildStatus(phase="Succeeded", finished_at="2020-01-01T00:00:00Z")
    deployment = kept.found["Deployment", "local.support"]
    assert isinstance(deployment, Deployment)
    deployment.status.build = "support-1"  # it runs, so it stays
    shown = await spanyard.lines("prune", "--older-than", "30d", "--dry-run")
    assert shown == [
        "PROJECT LOGS OBJECTS SIZE SOURCES STAY", "local.support 150 3 1.2 kB 2 1", "build local.support",
    ]  # fmt: skip
    assert "nothing was deleted" in spanyard.err
    await spanyard("prune", "support", "--older-than", "30d", code=1)
    assert "--yes" in spanyard.err
    assert all(body["dryRun"] for _, _, body in api.ingester.actions)
    await spanyard("prune", "support", "--older-than", "1h30m", "--signal", "logs", "--yes")
    assert api.ingester.actions[-1][2]["signals"] == ["logs"]
    assert not api.ingester.actions[-1][2]["dryRun"]
    assert ("Build", "local.support") in kept.found, "a signal is no build"
    answer = await spanyard.json("prune", "--older-than", "30d", "--yes")
    assert answer["builds"] == ["local.support"]
    assert ("Build", "local.support") not in kept.found
    assert ("Build", "local.support-1") in kept.found
    await spanyard("prune", "--older-than", "soon", code=2)


async def test_a_gateway_that_keeps_no_resources_says_so(
    db: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    storage = open_storage(f"file://{tmp_path}/bucket")
    (tmp_path / "main.py").write_text("")
    async with running_gateway(db, storage) as api:
        monkeypatch.setenv("SPANYARD_SERVER", str(api.session._base_url).rstrip("/"))
        spanyard = Shell(capsys)
        await spanyard("deploy", str(tmp_path), code=1)
        assert "`spanyard up` runs one that does" in spanyard.err
        assert (await spanyard.lines("deployments"))[1].startswith(
            "local.support local.support 150 "
        )
        assert await spanyard("show", "deployment", "support")
    await storage.close()
