"""The laptop's store: what an API server would do, in a folder, over kills."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.files import SystemFiles
from spanyard_core.resources.kinds import API_VERSION, Build, Deployment, Project
from spanyard_local.store import MAX_EVENTS, ResourceStore


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def project(name: str = "shop") -> dict[str, Any]:
    return manifest("Project", name)


def build(name: str = "web-1", **spec: Any) -> dict[str, Any]:
    return manifest("Build", name, project="shop", source={"directory": {"path": "/src"}}, **spec)


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    return manifest("Deployment", name, project="shop", follow=True, command="./run", **spec)


async def opened(root: Path) -> ResourceStore:
    store = ResourceStore(root, clock=SystemClock())
    await store.open()
    return store


def found_build(store: ResourceStore, name: str = "local.web-1") -> Build:
    found = store.find("Build", name)
    assert isinstance(found, Build)
    return found


async def test_what_is_applied_is_there_with_defaults_after_a_restart(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    applied = await store.apply([project(), build(), deployment()])
    assert [(a.id, a.outcome) for a in applied] == [
        ("local.shop", "created"), ("local.web-1", "created"), ("local.web", "created")
    ]  # fmt: skip
    again = await opened(tmp_path)
    for kind in ("Project", "Build", "Deployment"):
        assert await again.list(kind) == await store.list(kind)  # type: ignore[arg-type]
    made = found_build(again)
    assert (made.metadata.namespace, made.metadata.generation, made.spec.timeout) == (
        "local", 1, "30m",
    )  # fmt: skip
    assert len(made.metadata.uid) == 36
    assert made.metadata.creation_timestamp.endswith("Z")
    assert [b.metadata.name for b in await again.list("Build", project="local.shop")] == ["web-1"]
    assert await again.list("Build", project="local.other") == []


async def test_generation_grows_with_the_spec_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.apply([project(), deployment()])
    versions = []

    def now() -> tuple[int, int]:
        metadata = store.all("Deployment")[0].metadata
        versions.append(int(metadata.resource_version))
        return metadata.generation, len(set(versions))

    assert now() == (1, 1)
    assert (await store.apply([deployment()]))[0].outcome == "unchanged"
    assert now() == (1, 1)
    labelled = deployment()
    labelled["metadata"]["labels"] = {"a": "b"}
    assert (await store.apply([labelled]))[0].outcome == "configured"
    assert now() == (1, 2)
    (one,) = store.deployments()
    await store.set_status(one, msgspec.structs.replace(one.status, message="x"))
    assert now() == (1, 3)
    await store.set_status(one, msgspec.structs.replace(one.status, message="x"))
    assert now() == (1, 3)
    await store.apply([deployment(port=9000)])
    assert now() == (2, 4)
    (one,) = store.deployments()
    assert (one.status.message, one.metadata.labels) == ("x", {"a": "b"})
    dry = await store.apply([deployment(port=9001)], dry_run=True)
    assert (dry[0].outcome, now()) == ("configured", (2, 4))


async def test_what_was_set_at_run_time_outlives_an_apply(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.apply([project(), build(), deployment()])
    scaled = await store.patch("Deployment", "local.web", {"replicas": 3})
    assert isinstance(scaled, Deployment)
    await store.patch("Build", "local.web-1", {"cancel": True})
    await store.apply([build(), deployment(port=9000)])
    assert (store.deployments()[0].spec.replicas, store.builds()[0].spec.cancel) == (3, True)
    await store.apply([deployment(port=9000, replicas=1)])
    assert store.deployments()[0].spec.replicas == 1
    assert await store.patch("Build", "local.none", {}) is None
    with pytest.raises(InvalidResourceError, match=r"spec\.replicas"):
        await store.patch("Deployment", "local.web", {"replicas": "many"})


async def test_all_problems_of_all_manifests_are_told_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    store = await opened(tmp_path)
    wrong: list[Mapping[str, Any]] = [
        project(),
        build(timeuot="5m"),
        manifest("Deployment", "web", project="shop"),
        project(),
        {"kind": "Project"},
    ]
    with pytest.raises(InvalidResourceError) as error:
        await store.apply(wrong)
    told = str(error.value)
    for part in (
        "builds/web-1",
        "timeuot",
        "deployments/web",
        "projects/local.shop: it is there twice",
    ):
        assert part in told
    assert store.all("Project") == []
    assert (await store.apply([build()]))[0].warnings == [
        "there is no project shop yet; it waits for one"
    ]
    assert not (await store.apply([build("b"), project()]))[0].warnings


async def test_a_deleted_object_stays_until_its_cleanup_is_done(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.apply([project(), build()])
    first = found_build(store)
    assert await store.delete("Build", "local.web-1")
    assert await store.delete("Build", "local.web-1")
    assert not await store.delete("Build", "local.none")
    gone = found_build(store)
    assert gone.metadata.deletion_timestamp
    with pytest.raises(InvalidResourceError, match="it is being deleted"):
        await store.apply([build(install="x")])
    assert found_build(await opened(tmp_path)).metadata.deletion_timestamp
    await store.forget(gone)
    assert await store.get("Build", "local.web-1") is None
    assert (await opened(tmp_path)).builds() == []
    await store.apply([build()])
    # One of the same name is another one: nobody writes about the old one into it.
    assert not await store.set_status(first, msgspec.structs.replace(first.status, message="late"))
    await store.add_event(first, "Normal", "Late", "")
    await store.forget(first)
    assert found_build(store).metadata.uid != first.metadata.uid
    assert await store.events("Build", "local.web-1") == ()
    await store.delete("Project", "local.shop")
    with pytest.raises(InvalidResourceError, match="project shop is being deleted"):
        await store.apply([build("another")])


async def test_events_are_counted_bounded_and_kept(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.apply([project()])
    (one,) = store.projects()
    for number in range(MAX_EVENTS + 5):
        await store.add_event(one, "Normal", "Happened", f"{number}")
    await store.add_event(one, "Normal", "Happened", "50")
    for events in (
        await store.events("Project", "local.shop"),
        await (await opened(tmp_path)).events("Project", "local.shop"),
    ):
        assert len(events) == MAX_EVENTS
        assert (events[-1].message, events[-1].count) == ("50", 2)


async def test_who_watches_is_told_of_everything_once_at_first_then_of_changes(
    tmp_path: Path,
) -> None:
    store = await opened(tmp_path)
    await store.apply([project()])
    with store.watching() as watch:
        assert await watch.changed() == {("Project", "local.shop")}
        waiting = asyncio.create_task(watch.changed())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await store.apply([build(), deployment()])
        keys = await waiting | (await watch.changed() if watch.keys else set())
        assert keys == {("Build", "local.web-1"), ("Deployment", "local.web")}
        store.touch(store.projects()[0])
        assert await watch.changed() == {("Project", "local.shop")}


class Full(SystemFiles):
    """A disk that is full now and then."""

    full = False

    def open_append(self, path: str) -> Any:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().open_append(path)


async def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    files = Full()
    store = ResourceStore(tmp_path, clock=SystemClock(), files=files)
    await store.open()
    await store.apply([project(), deployment()])
    before = store.deployments()[0]
    files.full = True
    with pytest.raises(SpanyardError, match=r"cannot keep .* No space left on device; make room"):
        await store.apply([deployment(port=1234)])
    assert store.deployments()[0] == before
    files.full = False
    await store.apply([deployment(port=1234)])
    assert (await opened(tmp_path)).deployments()[0].spec.port == 1234


async def test_a_write_that_was_cut_off_never_took_place(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.apply([project()])
    torn = tmp_path / "projects" / "local.other.json.tmp"
    torn.write_text('{"resource": {')
    assert [p.metadata.name for p in (await opened(tmp_path)).projects()] == ["shop"]
    assert not torn.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"resource": {"kind": "Project"}}'])
async def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    await (await opened(tmp_path)).apply([project()])
    (tmp_path / "projects/local.shop.json").write_text(text)
    with pytest.raises(SpanyardError, match=r"local\.shop\.json' is damaged .* move it away"):
        await opened(tmp_path)


async def test_a_file_under_another_s_name_is_refused(tmp_path: Path) -> None:
    await (await opened(tmp_path)).apply([project()])
    kept = tmp_path / "projects/local.shop.json"
    assert json.loads(kept.read_text())["resource"]["metadata"]["generation"] == 1
    kept.rename(tmp_path / "projects/local.other.json")
    with pytest.raises(SpanyardError, match="it was moved there"):
        await opened(tmp_path)


async def test_a_projects_manifest_read_from_a_server_may_be_applied(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.apply([project()])
    kept = json.loads((tmp_path / "projects/local.shop.json").read_text())["resource"]
    assert (await store.apply([kept]))[0].outcome == "unchanged"
    assert isinstance(store.projects()[0], Project)


async def test_a_client_that_hangs_up_cuts_no_change_in_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    reached, go_on = asyncio.Event(), asyncio.Event()
    sync_dir = SystemFiles.sync_dir

    async def slow(self: SystemFiles, path: str) -> None:
        reached.set()
        await go_on.wait()
        await sync_dir(self, path)

    monkeypatch.setattr(SystemFiles, "sync_dir", slow)
    asked = asyncio.create_task(store.apply([project(), build()]))
    await reached.wait()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    go_on.set()
    await store.apply([deployment()])  # waits for its turn
    again = await opened(tmp_path)
    for kind in ("Project", "Build", "Deployment"):
        assert len(await store.list(kind)) == 1  # type: ignore[arg-type]
        assert await again.list(kind) == await store.list(kind)  # type: ignore[arg-type]
