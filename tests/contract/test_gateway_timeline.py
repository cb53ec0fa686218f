"""The timeline of a deployment over the real engine: one order, whole, whatever the page's size."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from spanyard_core.records import AnyLine, LogLine, ScoreLine, Signal, SpanLine
from spanyard_core.resources.api import ResourceEvent
from spanyard_core.resources.kinds import (
    Build,
    BuildSource,
    Condition,
    Deployment,
    Failure,
    GitSource,
    Revision,
    StepStatus,
)
from spanyard_core.resources.source_status import SourceStatus
from tests.fakes.gateway_api import Api, Filled, filled, running_gateway
from tests.fakes.gateway_records import PROJECT, at
from tests.fakes.resource_api import MemoryResources, manifests

S = 10**9
PATH = "/deployments/local.support/timeline"
OWN: dict[str, Any] = {"project": PROJECT, "deployment": "support", "uid": "d1"}
BUILT: dict[str, Any] = {"project": PROJECT, "build": "local.support-1", "uid": "b1"}


def line(seq: int, time: int, level: Any, text: str, **more: Any) -> LogLine:
    own = {**OWN, "writer": "p/server/0@e", "pod": "support-2-abcde", **more}
    return LogLine(**own, seq=seq, timestamp=at(time), level=level, message=text)


def root(seq: int, time: int, took: int, status: Any = "ok", **more: Any) -> SpanLine:
    values: dict[str, Any] = {
        **OWN, "writer": "p/otlp@e", "seq": seq, "id": f"{seq:016x}", "trace_id": f"{seq:032x}",
        "name": "answer", "start_time": at(time), "end_time": at(time + took), "status": status,
        "status_message": "tool failed" if status == "error" else "",
    }  # fmt: skip
    return SpanLine(**{**values, **more})


def records() -> list[tuple[Signal, list[AnyLine]]]:
    """What was printed and traced. Times in seconds after T0; the second revision serves at 60."""
    return [
        ("logs", [line(1, 11 * S, "info", "collecting", writer="b/install/0@e", **BUILT),
                  line(2, 12 * S, "error", "could not fetch x", writer="b/install/0@e", **BUILT)]),
        ("logs", [line(1, 61 * S, "info", "listening"),
                  line(2, 62 * S, "warn", "slow model " + "x" * 5_000),
                  # Many of one moment: the cursor must tell them apart.
                  *(line(n, 63 * S, "error", f"refused {n}") for n in range(3, 40))]),
        ("logs", [line(1, 64 * S, "error", "of another", deployment="other", writer="q")]),
        ("logs", [line(1, 40 * S, "error", "of one before it", uid="d0", writer="r")]),
        # The same names elsewhere: of another project, and of a build that was made again.
        ("logs", [line(1, 41 * S, "error", "of another project", project="local.foreign", writer="f")]),
        ("spans", [root(1, 41 * S, S, "error", project="local.foreign", writer="f/otlp@e")]),
        ("scores", [ScoreLine(**{**OWN, "project": "local.foreign"}, writer="f/scores@e", seq=1,
                              name="foreign", value=0.5, timestamp=at(41 * S))]),
        ("logs", [line(1, 12 * S, "error", "of a build before it", **{**BUILT, "uid": "b0"},
                       writer="o/install/0@e")]),
        ("spans", [root(1, 65 * S, S), root(2, 66 * S, S, "error"), root(3, 67 * S, 12 * S),
                   root(4, 68 * S, S, "error", parent_span_id="0000000000000001"),
                   root(5, 69 * S, 0, "error", end_time=None)]),
        # The same span, told by two processes with the same number.
        ("spans", [root(1, 65 * S, S, writer="p2/otlp@e")]),
        ("scores", [ScoreLine(**OWN, writer="p/scores@e", seq=1, name="helpful", value=0.25,
                              timestamp=at(70 * S), trace_id=f"{2:032x}", comment="so so")]),
    ]  # fmt: skip


def kept() -> MemoryResources:
    made = MemoryResources()
    for manifest in manifests():
        one = made._made(manifest)
        made.found[one.kind, f"local.{one.metadata.name}"] = one
    build = made.found["Build", "local.support-1"]
    assert isinstance(build, Build)
    build.metadata.uid = "b1"
    build.spec.source = BuildSource(git=GitSource(url="https://git.example/a", revision="main"))
    status = build.status
    status.phase, status.attempt = "Failed", 1
    status.queued_at, status.started_at, status.finished_at = at(8 * S), at(9 * S), at(20 * S)
    status.source = SourceStatus(commit="0123456789abcdef", subject="Ask <b>twice</b>",
                                 author="Ann", committed_at=at(S))  # fmt: skip
    step = [("fetch", 9, 10, 0), ("install", 10, 20, 3)]
    status.steps = [
        StepStatus(name=name, started_at=at(a * S), finished_at=at(b * S), exit_code=code)
        for name, a, b, code in step
    ]
    status.failure = Failure(reason="StepFailed", message="install ended with 3", last_lines=["x"])
    deployment = made.found["Deployment", "local.support"]
    assert isinstance(deployment, Deployment)
    deployment.metadata.uid = "d1"
    deployment.status.revisions = [
        Revision(number=1, hash="a", state="Replaced", build="support", started_at=at(30 * S),
                 ready_at=at(31 * S), ended_at=at(60 * S)),
        Revision(number=2, hash="b", state="Serving", build="support-1", started_at=at(50 * S),
                 ready_at=at(60 * S)),
        Revision(number=3, hash="c", state="Failed", started_at=at(80 * S), ended_at=at(85 * S),
                 reason="NeverReady"),
    ]  # fmt: skip
    deployment.status.conditions = [
        Condition(type="Ready", status="True", reason="Serving", last_transition_time=at(60 * S))
    ]
    made.told = [
        ResourceEvent(time="2026-11-18T10:00:00Z", type="Warning", reason="Unhealthy", message="no"),
        ResourceEvent(time=at(60 * S), type="Normal", reason="RevisionReplaced",
                      message="revision 2 serves instead of revision 1"),
    ]  # fmt: skip
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder: Path = tmp_path_factory.mktemp("timeline")
    async with filled(folder, records()) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def api(loaded: Filled) -> AsyncIterator[Api]:
    async with running_gateway(*loaded, resources=kept()) as api:
        yield api


pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


def told(items: list[Any]) -> list[tuple[str, str]]:
    return [(item["kind"], item["title"][:20]) for item in items]


async def test_commit_build_revision_line_span_and_score_are_one_story(api: Api) -> None:
    items = await api.all_pages(PATH, order="asc", **{"from": at(0)})
    lines = [("server:log", f"refused {n}") for n in range(3, 40)]
    assert told(items) == [
        ("build", "queued"),
        ("commit", "0123456789abcdef"),
        ("build", "fetch"),
        ("build", "install"),
        ("build:log", "could not fetch x"),
        ("build", "failed: StepFailed"),
        ("revision", "revision 1 starts"),
        ("revision", "revision 1 serves"),
        ("revision", "revision 2 starts"),
        ("revision", "revision 1 ends"),
        ("revision", "revision 2 serves"),
        ("event", "ready"),
        ("server:log", "slow model xxxxxxxxx"),
        *lines,
        ("span", "answer"),
        ("span", "answer"),
        ("score", "helpful"),
        ("revision", "revision 3 starts"),
        ("revision", "revision 3 failed: N"),
    ]
    of = {item["id"]: item for item in items}
    assert len(of) == len(items)
    commit = of["local.support-1/1/commit"]
    assert (commit["subject"], commit["author"]) == ("Ask <b>twice</b>", "Ann")
    assert (commit["time"], commit["committedAt"]) == (at(9 * S), at(S))
    assert commit["detail"] == "main of https://git.example/a"
    assert [item for item in items if "author" in item] == [commit]
    failed = of["local.support-1/1/end"]
    assert (failed["status"], failed["durationNs"]) == ("error", 11 * S)
    assert failed["detail"] == "install ended with 3\nx"
    replaced = of["revision 1/3-end"]
    assert (replaced["detail"], replaced["durationNs"]) == ("revision 2 took its place", 29 * S)
    assert of["revision 2/2-ready"]["detail"] == "instead of revision 1"
    assert of["revision 2/2-ready"]["buildId"] == "local.support-1"
    score = items[-3]
    assert (score["value"], score["traceId"], score["detail"]) == (0.25, f"{2:032x}", "so so")
    slow = next(item for item in items if item["kind"] == "server:log")
    assert (len(slow["title"]), slow["recordId"]) == (1_000, "p/server/0@e#2")
    assert (slow["revision"], slow["pod"]) == ("2", "support-2-abcde")
    assert (await api.get(PATH, limit="1", order="asc"))["items"][0]["title"] == "Unhealthy"


@pytest.mark.parametrize("limit", ["1", "3", "10", "1000"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("notable", ["true", "false"])
async def test_pages_hold_every_entry_once_in_order_whatever_their_size(
    api: Api, limit: str, order: str, notable: str
) -> None:
    whole = await api.get(PATH, limit="1000", order="asc", notable=notable)
    assert whole["nextCursor"] is None
    pages = await api.all_pages(PATH, limit=limit, order=order, notable=notable)
    assert pages == (whole["items"] if order == "asc" else whole["items"][::-1])
    times = [item["time"] for item in whole["items"]]
    assert times == sorted(times)


async def test_what_is_not_notable_is_told_when_it_is_asked_for(api: Api) -> None:
    lines = await api.all_pages(PATH, notable="false", kinds="build:log,server:log", order="asc")
    assert told(lines)[:4] == [
        ("build:log", "collecting"), ("build:log", "could not fetch x"),
        ("server:log", "listening"), ("server:log", "slow model xxxxxxxxx"),
    ]  # fmt: skip
    spans = await api.all_pages(PATH, kinds="span", order="asc", notable="false")
    assert [item["traceId"][-1] for item in spans] == ["1", "1", "2", "3"]
    slow = await api.all_pages(PATH, kinds="span", order="asc", minDuration="20s")
    assert [(item["traceId"][-1], item["status"], item["detail"]) for item in slow] == [
        ("2", "error", "tool failed")
    ]
    assert slow == await api.all_pages(
        PATH, kinds="span", order="asc", minDuration="20s", notable="false"
    )
    some = await api.all_pages(PATH, kinds="server:log", level="info")
    assert told(some) == [("server:log", "listening")]
    between = await api.all_pages(PATH, order="asc", **{"from": at(60 * S), "to": at(61 * S)})
    assert told(between) == [
        ("revision", "revision 1 ends"), ("revision", "revision 2 serves"), ("event", "ready"),
    ]  # fmt: skip
    problem = await api.get(PATH, 400, kinds="span,nothing")
    assert "'nothing', which is not one of commit" in problem["detail"]
    assert (await api.get("/deployments/local.none/timeline", 404))["title"] == "No such deployment"


async def test_without_clickhouse_the_rest_is_told_and_what_is_missing(
    loaded: Filled,
) -> None:
    async with running_gateway(None, loaded[1], resources=kept()) as away:
        page = await away.get(PATH, limit="1000", order="asc")
        assert {item["kind"] for item in page["items"]} == {"commit", "build", "revision", "event"}
        assert page["partial"].startswith("Lines, spans and scores are missing here: ")
        page = await away.get(PATH, kinds="revision")
        assert (len(page["items"]), page["partial"]) == (7, "")


async def test_without_resources_the_records_tell_alone(loaded: Filled) -> None:
    async with running_gateway(*loaded) as alone:
        items = await alone.all_pages(PATH, order="asc", limit="2")
        assert {item["kind"] for item in items} == {"server:log", "span", "score"}
        assert (await alone.get("/deployments/local.none/timeline", 404))["status"] == 404
