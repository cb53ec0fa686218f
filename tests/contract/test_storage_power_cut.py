"""What a directory promises when the power goes: whole objects or none."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spanyard_core.errors import (
    ObjectExistsError,
)
from spanyard_core.storage import Storage, open_storage
from tests.fakes.power_cut import PowerCut


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on demand"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[Storage]:
    opened = open_storage(root.as_uri())
    yield opened
    await opened.close()


@pytest.fixture
def power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PowerCut:
    return PowerCut(tmp_path, monkeypatch)


async def keys(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [info.key async for info in storage.list(prefix, after=after)]


def temporaries(root: Path) -> list[Path]:
    return list((root / ".spanyard-tmp").iterdir())


class TestPowerCut:
    """`power.survivors` is what a disk holds that kept only what was synced."""

    @pytest.mark.parametrize("if_absent", [True, False])
    async def test_a_written_object_survives(
        self, storage: Storage, root: Path, power: PowerCut, if_absent: bool
    ) -> None:
        await storage.write("a/b/c", b"data", if_absent=if_absent)
        assert power.survivors(root) == {"a/b/c": b"data"}
        await storage.write("a/b/d", b"more", if_absent=if_absent)
        await storage.write("a/e/f", b"", if_absent=if_absent)
        assert power.survivors(root) == {"a/b/c": b"data", "a/b/d": b"more", "a/e/f": b""}

    async def test_it_survives_in_directories_that_another_process_made_and_did_not_sync(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("first", b"1")
        (root / "a" / "b").mkdir(parents=True)
        await storage.write("a/b/c", b"data", if_absent=True)
        assert power.survivors(root)["a/b/c"] == b"data"

    async def test_it_survives_where_another_process_replaced_the_directory(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("a/b/c", b"1")
        other = open_storage(root.as_uri())
        await other.delete("a/b/c")
        assert not (root / "a").exists()
        (root / "a" / "b").mkdir(parents=True)  # as it would before its own write
        await storage.write("a/b/d", b"2")
        assert power.survivors(root) == {"a/b/d": b"2"}
        await other.close()

    async def test_a_known_directory_costs_one_sync_beside_the_file(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await storage.write("a/b/c/d/1", b"1")
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        await storage.write("a/b/c/d/2", b"2", if_absent=True)
        assert len(synced) == 2

    async def test_what_is_reported_as_existing_survives_though_its_writer_died_before_its_sync(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("x", b"data")
        (root / "a").mkdir()
        os.link(root / "x", root / "a" / "k")  # named, its directory not synced
        assert "a/k" not in power.survivors(root)
        with pytest.raises(ObjectExistsError):
            await storage.write("a/k", b"data", if_absent=True)
        assert power.survivors(root)["a/k"] == b"data"

    async def test_an_overwrite_leaves_the_old_or_the_new_at_every_step(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("k", b"old")
        seen: list[bytes | None] = []
        power.at_each_step = lambda: seen.append(power.survivors(root).get("k"))
        await storage.write("k", b"new")
        assert seen[0] == b"old"
        assert seen[-1] == b"new"
        assert set(seen) == {b"old", b"new"}

    async def test_a_move_leaves_source_or_target_at_every_step(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("observability/p/k", b"data")
        seen: list[dict[str, bytes | None]] = []
        power.at_each_step = lambda: seen.append(power.survivors(root))
        await storage.move("observability/p/k", "processed/p/k")
        assert all(b"data" in survivors.values() for survivors in seen)
        assert power.survivors(root) == {"processed/p/k": b"data"}

    async def test_a_repeated_move_syncs_what_the_first_did_not(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("a/k", b"data")
        (root / "b").mkdir()
        (root / "a" / "k").rename(root / "b" / "k")
        await storage.move("a/k", "b/k")
        assert power.survivors(root)["b/k"] == b"data"

    async def test_a_deleted_object_stays_deleted(
        self, storage: Storage, root: Path, power: PowerCut
    ) -> None:
        await storage.write("a/k", b"data")
        await storage.write("b/k", b"data")
        await storage.delete("a/k")
        assert power.survivors(root) == {"b/k": b"data"}
