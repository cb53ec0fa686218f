"""Parts of `spanyard up`: what it builds again, when it is there, what it counted."""

import asyncio
import contextlib
import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.files import SystemFiles
from spanyard_core.resources import builds as life
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.kinds import (
    API_VERSION,
    ArtifactStatus,
    Build,
    BuildSource,
    BuildSpec,
    DeploymentStatus,
    Metadata,
    Revision,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.storage import open_storage
from spanyard_local.layout import Layout
from spanyard_local.podapi import PodIdentity
from spanyard_local.store import ResourceStore
from spanyard_local.tally import WAYS, compare, emitted_counts, stored_counts
from spanyard_local.terminal import Terminal
from spanyard_local.up import Up, UpOptions, storage_of
from spanyard_local.up_goal import Goal
from spanyard_local.up_output import Output
from spanyard_local.up_templates import MADE_OF, TEMPLATE, Template
from spanyard_local.up_wanted import Expected, Wanted
from spanyard_sidecar.build_parts import BuildParts

NOW = "2026-11-21T12:00:00Z"


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


class TestTemplates:
    def build(self, name: str, made_of: str = "", phase: Any = "Succeeded", of: str = "") -> Build:
        metadata = Metadata(
            name=name,
            namespace="local",
            annotations={MADE_OF: made_of} if made_of else {},
            labels={TEMPLATE: of} if of else {},
        )
        build = Build(metadata=metadata, spec=BuildSpec(project="p", source=BuildSource()))
        build.status.phase = phase
        return build

    def name(
        self, builds: list[Build], made_of: str, *, again: bool = False, of: str = "web"
    ) -> Any:
        made = Template(manifest("Build", of)).next(builds, made_of, again=again)
        return made and made["metadata"]["name"]

    def test_the_first_has_the_name_and_each_change_has_the_next_number(self) -> None:
        assert self.name([], "a") == "web"
        builds = [self.build("web", "a")]
        assert self.name(builds, "a") is None
        assert self.name(builds, "b") == "web-2"
        builds.append(self.build("web-10", "b", of="web"))
        assert self.name(builds, "b") is None
        assert self.name(builds, "a") == "web-11"  # also back to what was built before

    def test_one_that_failed_is_built_again_by_a_new_up_alone(self) -> None:
        builds = [self.build("web", "a", "Failed")]
        assert self.name(builds, "a") is None
        assert self.name(builds, "a", again=True) == "web-2"
        assert self.name([self.build("web", "a", "Building")], "a", again=True) is None

    def test_names_of_others_are_left_alone(self) -> None:
        others = [self.build("web-2", "z"), self.build("web-3", "z", of="other")]
        assert self.name([self.build("web", "a"), *others], "b") == "web-4"
        assert self.name([self.build("web-2", "z")], "a") == "web"
        long = "x" * 50
        assert self.name([self.build(long, "a")], "b", of=long) == "x" * 44 + "-2"

    def test_spec_and_source_count(self, tmp_path: Path) -> None:
        source = {"directory": {"path": str(tmp_path)}}
        one = Template(manifest("Build", "web", source=source, install="x"))
        assert one.folder == tmp_path
        two = Template(manifest("Build", "web", source=source, install="y"))
        digests = {t.made_of(lambda _, tree=tree: tree) for t in (one, two) for tree in "ab"}  # type: ignore[misc]
        assert len(digests) == 4
        assert Template(manifest("Build", "web", source={"git": {"url": "x"}})).folder is None


class TestGoal:
    async def goal(self, tmp_path: Path) -> tuple[Goal, ResourceStore]:
        store = ResourceStore(tmp_path, clock=SystemClock())
        await store.open()
        source = {"directory": {"path": "/src"}}
        await store.apply(
            [
                manifest("Project", "shop"),
                manifest("Build", "b", project="shop", source=source),
                manifest("Deployment", "web", project="shop", follow=True, command="x"),
            ]
        )
        goal = Goal(store)
        goal.expect(Expected(["local.b"], ["local.web"]))
        return goal, store

    async def end(self, store: ResourceStore, reason: str = "") -> None:
        (build,) = store.builds()
        status = life.begun(build, now=NOW)
        if reason:
            why = explain(reason)
            status = life.failed(build, status, why, now=NOW, log_complete=True)
        else:
            status = life.succeeded(build, status, ArtifactStatus(), now=NOW, log_complete=True)
        await store.set_status(build, status)

    async def tell(
        self, store: ResourceStore, ready: Any, reason: str, *, on: str = "", **more: Any
    ) -> None:
        (web,) = store.deployments()
        made = conditions(
            [], generation=1, now=NOW, ready=ready, because=Because(reason),
            reconciling=Because(reason) if on == "reconciling" else None,
            stalled=Because(reason) if on == "stalled" else None,
        )  # fmt: skip
        status = DeploymentStatus(observed_generation=1, conditions=made, reason=reason, **more)
        await store.set_status(web, status)

    async def test_it_is_reached_when_the_newest_build_serves_and_not_before(
        self, tmp_path: Path
    ) -> None:
        goal, store = await self.goal(tmp_path)
        assert not goal.is_settled()
        await self.tell(store, "False", "WaitingForBuild", on="reconciling")
        assert not goal.is_settled()
        await self.end(store)
        # The deployment has not seen the build yet.
        assert not goal.is_settled()
        old = Revision(number=1, hash="x", state="Serving", build="old")
        await self.tell(store, "True", "Serving", revisions=[old])
        assert not goal.is_settled()
        await self.tell(store, "False", "Starting", on="reconciling")
        assert not goal.is_settled()
        reached = asyncio.create_task(goal.reached())
        await asyncio.sleep(0.01)
        assert not reached.done()
        new = Revision(number=2, hash="y", state="Serving", build="b")
        await self.tell(store, "True", "Serving", revisions=[new])
        async with asyncio.timeout(30):
            await reached
        assert goal.code == 0

    async def test_a_failed_build_is_an_end_too_and_a_bad_one(self, tmp_path: Path) -> None:
        goal, store = await self.goal(tmp_path)
        await self.end(store, "StepFailed")
        await self.tell(store, "False", "WaitingForBuild", on="reconciling")
        assert (goal.is_settled(), goal.code) == (True, 1)

    async def test_a_bad_revision_is_an_end_also_when_an_old_one_serves(
        self, tmp_path: Path
    ) -> None:
        goal, store = await self.goal(tmp_path)
        await self.end(store)
        bad = Revision(number=2, hash="y", state="Failed", build="b")
        why = explain("CrashLoop")
        await self.tell(store, "True", "CrashLoop", on="stalled", revisions=[bad], failure=why)
        assert (goal.is_settled(), goal.code) == (True, 1)

    async def test_a_suspended_server_is_what_was_asked_for(self, tmp_path: Path) -> None:
        goal, store = await self.goal(tmp_path)
        goal.expect(Expected([], ["local.web"]))
        await store.patch("Deployment", "local.web", {"suspend": True})
        assert not goal.is_settled()  # of the generation before
        (web,) = store.deployments()
        made = msgspec.structs.replace(web.status, observed_generation=2)
        await store.set_status(web, made)
        assert (goal.is_settled(), goal.code) == (True, 0)


class TestWanted:
    def wanted(self, tmp_path: Path, *paths: Path, **more: Any) -> Wanted:
        output = Output(Terminal(io.StringIO(), colours=False, live=False))
        layout = Layout(tmp_path / "data")
        layout.make()
        return Wanted(layout, paths, [], output, **more)

    async def test_problems_are_told_with_the_file_and_nothing_is_applied(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "app").mkdir()
        file = tmp_path / "app/x.yaml"
        file.write_text(json.dumps(manifest("Project", "shop", descripton="x")))
        store = ResourceStore(tmp_path / "resources", clock=SystemClock())
        await store.open()
        wanted = self.wanted(tmp_path, tmp_path / "app")
        with pytest.raises(InvalidResourceError, match="did you mean `spec.description`") as error:
            await wanted.apply(store, again=True)
        assert str(file) in str(error.value)
        assert store.projects() == []

    async def test_an_edit_between_reading_and_watching_is_applied(self, tmp_path: Path) -> None:
        """Whoever edits while ClickHouse still starts."""
        file = tmp_path / "x.yaml"
        file.write_text(json.dumps(manifest("Project", "shop", description="first")))
        store = ResourceStore(tmp_path / "resources", clock=SystemClock())
        await store.open()
        wanted = self.wanted(tmp_path, file)
        file.write_text(json.dumps(manifest("Project", "shop", description="second one")))
        await wanted.apply(store, again=True)
        applied = asyncio.Event()
        watching = asyncio.create_task(
            wanted.watch(store, SystemClock(), lambda expected: applied.set())
        )
        async with asyncio.timeout(60):
            await applied.wait()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        assert [one.spec.description for one in store.projects()] == ["second one"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"kind": ["Build"]},
            {"spec": None},
            {"spec": ["project"]},
            {"metadata": {"name": "web", "labels": ["a"]}},
            {"metadata": {"name": "web", "annotations": "a"}},
            {"metadata": {"name": "a\0b"}},
            {"spec": {"project": "shop", "source": {"directory": {"path": "a\0b"}}}},
            {"spec": {"project": "shop\0", "source": {"directory": {"path": "a"}}}},
        ],
    )
    async def test_yaml_of_any_shape_is_told_and_ends_nothing(
        self, tmp_path: Path, wrong: dict[str, Any]
    ) -> None:
        file = tmp_path / "x.yaml"
        source = {"directory": {"path": "a"}}
        file.write_text(json.dumps(manifest("Build", "web", project="shop", source=source) | wrong))
        store = ResourceStore(tmp_path / "resources", clock=SystemClock())
        await store.open()
        with pytest.raises(InvalidResourceError):
            await self.wanted(tmp_path, file).apply(store, again=True)
        assert store.builds() == []

    async def test_a_path_that_no_system_takes_is_a_build_that_fails(self, tmp_path: Path) -> None:
        file = tmp_path / "x.yaml"
        source = {"directory": {"path": "x" * 300}}
        file.write_text(json.dumps(manifest("Build", "web", project="shop", source=source)))
        store = ResourceStore(tmp_path / "resources", clock=SystemClock())
        await store.open()
        await self.wanted(tmp_path, file).apply(store, again=True)
        assert len(store.builds()) == 1

    def test_a_file_that_is_named_is_to_hold_something(self, tmp_path: Path) -> None:
        file = tmp_path / "x.yaml"
        file.write_text("")
        with pytest.raises(SpanyardError, match=r"nothing of spanyard\.dev in it"):
            self.wanted(tmp_path, file)

    async def test_without_paths_it_goes_on_with_those_of_the_last_run(
        self, tmp_path: Path
    ) -> None:
        app = tmp_path / "app"
        app.mkdir()
        (app / "main.py").write_text("")
        first = self.wanted(tmp_path, app)
        first.remember()
        again = self.wanted(tmp_path)
        assert again.folders == [app]
        (app / "main.py").unlink()
        app.rmdir()
        assert self.wanted(tmp_path).folders == []

    async def test_an_edit_of_yaml_alone_builds_nothing(self, tmp_path: Path) -> None:
        app = tmp_path / "app"
        app.mkdir()
        (app / "main.py").write_text("")
        store = ResourceStore(tmp_path / "resources", clock=SystemClock())
        await store.open()
        wanted = self.wanted(tmp_path, app, save=True)
        await wanted.apply(store, again=True)
        text = (app / "spanyard.yaml").read_text()
        (app / "spanyard.yaml").write_text(text.replace("follow: true", "follow: true\n  port: 81"))
        wanted = self.wanted(tmp_path, app)
        expected = await wanted.apply(store, again=True)
        assert [b.metadata.name for b in store.builds()] == ["app"]
        assert (expected.builds, store.deployments()[0].spec.port) == (["local.app"], 81)
        (app / "main.py").write_text("edited")
        expected = await wanted.apply(store, again=False)
        assert expected.builds == ["local.app-2"]

    async def test_a_guess_is_never_written_over_something(self, tmp_path: Path) -> None:
        app = tmp_path / "app"
        app.mkdir()
        (app / "main.py").write_text("")
        (app / "spanyard.yaml").write_text("somebody: else's\n")
        with pytest.raises(SpanyardError, match="cannot be written: File exists"):
            self.wanted(tmp_path, app, save=True)


def test_a_mistake_of_ours_is_told_in_a_sentence_and_kept_with_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ExceptionGroup("parts", [ValueError("list.remove(x): x not in list")])

    monkeypatch.setattr(Up, "_main", fail)
    (tmp_path / "main.py").write_text("")
    before, level = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        options = UpOptions(paths=[tmp_path], data=tmp_path / "data")
        with pytest.raises(SpanyardError, match=r"x not in list.*Nothing is lost: start it again"):
            Up(options, Terminal(io.StringIO(), colours=False, live=False)).run()
    finally:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler not in before:
                handler.stream.close()
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)
        logging.captureWarnings(capture=False)
    assert "Traceback" in (tmp_path / "data/up.log").read_text()


def test_what_a_client_asked_for_just_before_the_end_is_done_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    reached = asyncio.Event()
    sync_dir = SystemFiles.sync_dir

    async def slow(self: SystemFiles, path: str) -> None:
        reached.set()
        await asyncio.sleep(0.05)
        await sync_dir(self, path)

    async def begun(self: Up, stack: object, store: ResourceStore) -> None:
        monkeypatch.setattr(SystemFiles, "sync_dir", slow)
        asked = asyncio.create_task(store.apply([manifest("Project", n) for n in ("a", "b", "c")]))
        await reached.wait()
        asked.cancel()  # its client has gone

    monkeypatch.setattr(Up, "_begun", begun)
    (tmp_path / "main.py").write_text("")
    up = Up(
        UpOptions(paths=[tmp_path], data=data),
        Terminal(io.StringIO(), colours=False, live=False),
    )
    wanted = Wanted(up.layout, [tmp_path], [], up.output, save=False)
    with up.layout.only_one(lambda _: None) as hold:
        asyncio.run(up._main(hold, wanted))
    names = {file.stem for file in (data / "resources/projects").glob("*.json")}
    assert names == {"local.a", "local.b", "local.c"}


def test_counts_of_a_demo_are_those_of_its_pods_alone() -> None:
    writers = [
        {"writer": "a/server/0@e", "signal": "logs", "stored": 5},
        {"writer": "a/spans/1-x@e", "signal": "spans", "stored": 3},
        {"writer": "a/logs@e", "signal": "logs", "stored": 2},
        {"writer": "a/server/0@e/meta", "signal": "gaps", "stored": 2},
        {"writer": "b/server/0@e", "signal": "logs", "stored": 9},
    ]
    stored = stored_counts({"writers": writers}, "server", {"a"})
    report = {"lines": {"stdout": 4, "stderr": 0}, "spanFiles": {"spans": 3}, "otlp": {"logs": 1}}
    emitted = emitted_counts([report], 5)
    rows = {(r.way, r.signal): r.right for r in compare(emitted, stored, lenient_otlp=False)}
    assert rows == {(WAYS[0], "logs"): True, (WAYS[1], "spans"): True, (WAYS[2], "logs"): False}
    lenient = compare(emitted_counts([report, report], 10), stored, lenient_otlp=True)
    assert {(r.way, r.signal) for r in lenient if not r.right} == {
        (WAYS[0], "logs"), (WAYS[1], "spans")
    }  # fmt: skip


async def test_late_output_of_a_build_that_is_gone_is_no_part_of_anothers_log(
    tmp_path: Path,
) -> None:
    store = ResourceStore(tmp_path / "resources", clock=SystemClock())
    await store.open()
    storage = open_storage((tmp_path / "bucket").as_uri())
    source = {"directory": {"path": "/src"}}
    await store.apply([manifest("Build", "web", project="shop", source=source)])
    (build,) = store.builds()
    pod = PodIdentity(
        namespace="local", pod="web-1", uid="u", project="local.shop", build="web",
        resource_uid=build.metadata.uid,
    )  # fmt: skip
    assert isinstance(storage_of(store, storage, pod), BuildParts)
    assert storage_of(store, storage, replace(pod, resource_uid="another")) is storage
    assert storage_of(store, storage, replace(pod, build="", deployment="web")) is storage
    await store.forget(build)
    assert storage_of(store, storage, pod) is storage
    await storage.close()
