"""Builds on this machine with real processes: artifacts, failures, cancellation, logs."""

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.build_log import read_build_log
from spanyard_core.errors import ObjectNotFoundError, StorageError
from spanyard_core.resources.kinds import (
    ArchiveSource,
    ArtifactSource,
    Build,
    BuildSource,
    BuildStatus,
    Cache,
    DirectorySource,
    EnvVar,
    GitSource,
    KeyReference,
    LocalReference,
    Resources,
    ValueFrom,
)
from spanyard_local.servers.artifacts import fetch_artifact
from spanyard_sidecar.sources.packing import pack
from tests.fakes.builds import Workshop, env, files
from tests.fakes.git_server import git_over_http, repository
from tests.fakes.shims import lives

pytestmark = [pytest.mark.kill, pytest.mark.slow]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    await made.storage.close()
    left = list(made.builds.glob("*")) if made.builds.exists() else []
    assert left == [], "the work folder goes with the build"


async def unpacked(shop: Workshop, status: BuildStatus) -> dict[str, str]:
    folder = shop.folder / "unpacked"
    await fetch_artifact(shop.storage, status.artifact, folder)
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


class TestABuild:
    async def test_goes_from_a_folder_to_an_artifact(self, shop: Workshop) -> None:
        files(shop.source, {"main.py": "x", "node_modules/y": "old", "pkg/deep.txt": "z"})
        secrets = {"keys": {"token": "s3cret-value"}}
        shop.give(secrets=secrets)
        status = await shop.run(
            env=[*env(GREETING="hello"), EnvVar(name="TOKEN", value_from=ValueFrom(
                secret_key_ref=KeyReference(name="keys", key="token")))],
            install="mkdir node_modules; echo fresh > node_modules/y",
            build='mkdir out; cp -r main.py node_modules out/; echo "$GREETING $TOKEN $CI $SPANYARD_BUILD"'
            " > out/said; ls -a ..; test -d ../observability && echo told >&2",
            output="out",
            cache=Cache(),
        )  # fmt: skip
        assert (status.phase, status.failure, status.attempt) == ("Succeeded", None, 1)
        assert await unpacked(shop, status) == {
            "main.py": "x", "node_modules/y": "fresh\n", "said": "hello s3cret-value 1 local.b\n",
        }  # fmt: skip
        assert [(s.name, s.exit_code) for s in status.steps] == [
            ("fetch", 0), ("install", 0), ("build", 0), ("publish", 0),
        ]  # fmt: skip
        assert [s.step for s in shop.seen] == ["", "fetch", "install", "build", "publish"]
        (pod,) = shop.fakes.pods
        assert (pod.identity.pod, pod.identity.project, pod.identity.build) == (
            "b-1",
            "local.p",
            "b",
        )
        assert "told" in pod.log("build")
        assert {"src", "observability", "meta.json", "work"} <= set(pod.log("build"))
        assert "left out by ignore rules: node_modules" in pod.log("fetch")
        meta = await shop.storage.read("builds/local.b/meta.json")
        told = json.loads(meta)
        assert told["artifact"]["digest"] == status.artifact.digest
        assert told["environmentHash"].startswith("sha256:")
        assert b"s3cret" not in meta
        assert (await shop.storage.read(status.artifact.key)) != b""

    async def test_in_a_subfolder_of_a_commit_it_knows_the_commit(self, shop: Workshop) -> None:
        commits = repository(shop.folder / "git" / "repo", {"app/f": "1", "g": "2"}, {"app/f": "3"})
        with git_over_http(shop.folder / "git", password="s3cret-pass") as url:
            source = BuildSource(
                git=GitSource(url=f"{url}/repo", revision=commits[0], secret_ref=LocalReference(name="g")),
                sub_path="app",
            )  # fmt: skip
            missing = await shop.run(source=source)
            assert missing.reason == "SecretMissing"
            given = {"g": {"username": "u", "password": "s3cret-pass"}}
            shop.give(secrets=given)
            status = await shop.run(source=source, build="echo $SPANYARD_COMMIT > commit; ls -a")
        assert status.failure is None
        source = status.source
        assert (source.commit, source.subject, source.author) == (commits[0], "a commit", "n")
        assert source.committed_at.endswith("Z")
        assert await unpacked(shop, status) == {"f": "1", "commit": f"{commits[0]}\n"}
        everything = "".join(
            p.read_text("utf-8", "replace") for p in shop.folder.rglob("*")
            if p.is_file() and "/git/" not in str(p)
        )  # fmt: skip
        assert "s3cret" not in everything

    async def test_takes_uploaded_archives_and_what_is_built_already(self, shop: Workshop) -> None:
        files(shop.source, {"index.js": "1", "node_modules/m": "2", "dist/d": "3"})
        pack(shop.source, shop.folder / "up.tar.zst")
        data = (shop.folder / "up.tar.zst").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        await shop.storage.write(f"sources/{digest}.tar.zst", data)
        wanted = {"index.js": "1", "node_modules/m": "2", "dist/d": "3"}
        for source in (
            BuildSource(archive=ArchiveSource(digest=f"sha256:{digest}")),
            BuildSource(artifact=ArtifactSource(digest=f"sha256:{digest}")),
            BuildSource(artifact=ArtifactSource(path=str(shop.source))),
        ):
            status = await shop.run(source=source)
            assert status.failure is None
            assert await unpacked(shop, status) == wanted
        # Storage that is no folder: the archive is read in blocks.
        shop.give(storage=Remote(shop.storage))
        status = await shop.run(
            source=BuildSource(archive=ArchiveSource(digest=f"sha256:{digest}"))
        )
        assert (status.phase, status.source.digest) == ("Succeeded", f"sha256:{digest}")


class Remote:
    """A storage that has no files here."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def local_path(self, key: str) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def at(path: str) -> BuildSource:
    return BuildSource(directory=DirectorySource(path=path))


FAILURES: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    "a command fails": ({"build": "echo one; echo two >&2; exit 4"}, "StepFailed", "build",
                        "build ended with exit code 4", "two"),
    "a command is missing": ({"install": "no-such-tool ci"}, "CommandNotFound", "install",
                             "no-such-tool was not found", "not found"),
    "too slow": ({"build": "echo waiting; sleep 60", "timeout": "15s500ms"}, "Timeout", "build",
                 "build still ran after 15s500ms", "waiting"),
    "too large": ({"build": "python3 -c 'x = bytearray(150 << 20); import time; time.sleep(60)'",
                   "resources": Resources(limits={"memory": "60Mi"})}, "OutOfMemory", "build",
                  "build used more memory than 60Mi", ""),
    "killed": ({"build": "kill -9 $$"}, "StepKilled", "build", "build was ended by SIGKILL", ""),
    "an output elsewhere": ({"build": "ln -s /usr/share dist", "output": "dist"}, "OutputMissing",
                            "publish", "dist (a link to /usr/share) is not there", ""),
    "no output": ({"build": "true", "output": "dist"}, "OutputMissing", "publish",
                  "but dist is not there", "failed: the build ended well, but dist is not there"),
    "no folder": ({"source": at("/no/such/folder")}, "SourceNotFound", "fetch",
                  "there is no source at the folder /no/such/folder", "failed: there is no"),
    "no subfolder": ({"source": BuildSource(archive=ArchiveSource(digest=f"sha256:{'0' * 64}"))},
                     "SourceNotFound", "fetch", f"sources/{'0' * 64}.tar.zst", ""),
    "no revision": ({"source": BuildSource(git=GitSource(url="file:///proc/none", revision="x"))},
                    "SourceNotFound", "fetch", "file:///proc/none", "failed: there is no source"),
    "a relative folder": ({"source": at("here")}, "InvalidSpec", "", "is relative to a file", ""),
    "an output outside": ({"output": "../.."}, "InvalidSpec", "", "is not inside the source", ""),
    "a memory limit that is none": ({"resources": Resources(limits={"memory": "much"})},
                                    "InvalidSpec", "", "spec.resources.limits.memory", ""),
    "no secret": ({"env": [EnvVar(name="K", value_from=ValueFrom(
        secret_key_ref=KeyReference(name="s", key="k")))]}, "SecretMissing", "",
                  "there is no key k in the Secret s", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", FAILURES)
async def test_a_failure_is_told_with_step_last_lines_and_remedy(shop: Workshop, what: str) -> None:
    spec, reason, step, message, last = FAILURES[what]
    files(shop.source, {"f": "1"})
    status = await shop.run(**spec)
    assert (status.phase, status.reason) == ("Failed", reason)
    failure = status.failure
    assert failure is not None
    assert message in failure.message
    assert failure.remedy
    if last:
        assert last in failure.last_lines[-1]
        assert (failure.step, failure.container, failure.pod) == (step, step, "b-1")
    assert all(s.finished_at for s in status.steps)
    assert status.log_complete
    assert not await shop.storage.exists("builds/local.b/artifact.tar.zst")


async def test_an_archive_that_leads_out_is_refused(shop: Workshop) -> None:
    import io
    import tarfile

    import zstandard

    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../../../escaped"))
    data = zstandard.compress(plain.getvalue())
    digest = hashlib.sha256(data).hexdigest()
    await shop.storage.write(f"sources/{digest}.tar.zst", data)
    status = await shop.run(source=BuildSource(archive=ArchiveSource(digest=f"sha256:{digest}")))
    assert (status.reason, status.step) == ("ArchiveInvalid", "")
    assert "leads out with `..`" in status.message
    assert not list(shop.folder.glob("**/escaped"))


async def test_a_log_that_lacks_output_is_told(shop: Workshop) -> None:
    files(shop.source, {"f": "1"})
    status = await shop.run(build="echo one; sleep 1; kill -9 $PPID; sleep 600")
    assert (status.phase, status.reason, status.log_complete) == ("Failed", "InternalError", False)
    assert "what kept the log of this process is gone" in status.message
    assert status.message.endswith("not all of its output is in the log")


class TestAFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=2097152", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    async def test_is_told_whichever_step_meets_it(self, tmp_path: Path, disk: Path) -> None:
        shop = Workshop(tmp_path, build_root=disk / "builds")
        small, large = shop.source, tmp_path / "large"
        files(small, {"f": "1"})
        large.mkdir()
        (large / "blob").write_bytes(os.urandom(4 << 20))
        fill = "dd if=/dev/zero of=blob bs=1M count=9"
        for spec in ({"source": at(str(large))}, {"source": at(str(small)), "build": fill},
                     {"source": at(str(small)), "build": "head -c 1500000 /dev/urandom > x"}):  # fmt: skip
            status = await shop.run(**spec)
            assert (status.phase, status.reason) == ("Failed", "NoSpace"), status
            assert list((disk / "builds").iterdir()) == []
        await shop.storage.close()


class TestCancelled:
    async def test_a_build_ends_with_all_it_started(self, shop: Workshop) -> None:
        files(shop.source, {"f": "1"})
        pids = shop.folder / "pids"
        command = f"trap 'echo bye; exit 3' TERM; (setsid sleep 600 & echo $! > {pids}); echo $$ >> {pids}; sleep 600 & wait"

        def look(status: BuildStatus) -> None:
            if status.step == "build":
                asyncio.get_running_loop().create_task(soon(), name="cancel")

        async def soon() -> None:
            while not pids.exists() or len(pids.read_text().split()) < 2:
                await asyncio.sleep(0.01)
            shop.cancel.set()

        shop.on_change = look
        status = await shop.run(build=command)
        assert (status.phase, status.reason) == ("Cancelled", "Cancelled")
        assert status.failure is not None
        assert (status.failure.step, status.failure.last_lines[-1]) == ("build", "bye")
        for pid in pids.read_text().split():
            assert not lives(int(pid))

    async def test_before_its_first_step_a_build_starts_nothing(self, shop: Workshop) -> None:
        shop.cancel.set()
        status = await shop.run()
        assert status.phase == "Cancelled"
        assert all(s.exit_code is None for s in status.steps)

    async def test_in_the_middle_of_the_upload_a_build_stops_waiting(
        self, shop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files(shop.source, {"f": "1"})

        async def hangs(self: Any, key: str, path: Path) -> None:
            if key.endswith("artifact.tar.zst"):
                shop.cancel.set()
                await asyncio.sleep(600)

        monkeypatch.setattr(type(shop.storage), "write_file", hangs)
        status = await shop.run()
        assert (status.phase, status.failure and status.failure.step) == ("Cancelled", "publish")


class TestStorageAway:
    async def test_for_a_moment_it_is_tried_again_and_for_long_it_is_told(
        self, shop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files(shop.source, {"f": "1"})
        real = type(shop.storage).write_file
        left = 2

        async def away(self: Any, key: str, path: Path) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                raise StorageError("the bucket is away")
            await real(self, key, path)

        async def now(seconds: float) -> None:
            await asyncio.sleep(0)

        monkeypatch.setattr(shop.runner._clock, "sleep", now)
        monkeypatch.setattr(type(shop.storage), "write_file", away)
        assert (await shop.run()).phase == "Succeeded"
        left = 99
        status = await shop.run(attempt=2)
        assert (status.reason, status.message) == (
            "PublishFailed", "the artifact was not stored: the bucket is away",
        )  # fmt: skip
        assert not status.log_complete


class TestTheLog:
    @pytest.fixture
    async def shop(self, tmp_path: Path) -> AsyncIterator[Workshop]:
        made = Workshop(tmp_path, collect=True)
        files(made.source, {"f": "1"})
        yield made
        await made.storage.close()

    async def test_is_in_storage_while_the_build_runs_and_one_text_at_its_end(
        self, shop: Workshop
    ) -> None:
        gate = shop.folder / "gate"
        build = shop.build(
            install="echo installed",
            build=f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo ended",
        )
        running = asyncio.create_task(shop.run(build), name="build")
        async with asyncio.timeout(60):
            text = ""
            while "begun" not in text:
                await asyncio.sleep(0.1)
                try:
                    found = await read_build_log(shop.storage, "local.b")
                except ObjectNotFoundError:
                    continue
                text = found.text
                assert not found.complete
        assert "ended" not in text
        gate.touch()
        status = await running
        assert status.log_complete
        found = await read_build_log(shop.storage, "local.b")
        assert found.complete
        lines = found.text.splitlines()
        assert lines[0].startswith("copying ")
        assert [line for line in lines if line in {"installed", "begun", "ended"}] == [
            "installed", "begun", "ended",
        ]  # fmt: skip
        assert lines[-1].startswith("packed ")
        assert not [key for key in await shop.keys() if "/log/" in key]
        assert [key for key in await shop.keys() if key.startswith("observability/logs/")]

    async def test_of_an_attempt_that_was_interrupted_stays_before_that_of_the_next(
        self, shop: Workshop
    ) -> None:
        started = asyncio.Event()
        shop.on_change = lambda status: started.set() if status.step == "build" else None
        build = shop.build(build="echo attempt of $$; sleep 600")
        running = asyncio.create_task(shop.run(build), name="build")
        await started.wait()
        async with asyncio.timeout(60):
            while True:
                try:
                    if "attempt of" in (await read_build_log(shop.storage, "local.b")).text:
                        break
                except ObjectNotFoundError:
                    pass
                await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert shop.seen[-1].phase == "Building"
        assert not (await read_build_log(shop.storage, "local.b")).complete
        again = Build(metadata=build.metadata, spec=shop.build(build="echo second").spec,
                      status=shop.seen[-1])  # fmt: skip
        status = await shop.run(again, attempt=2)
        assert (status.phase, status.attempt) == ("Succeeded", 2)
        assert shop.seen[-5 + 1].attempt == 2
        text = (await read_build_log(shop.storage, "local.b")).text
        cut = text.index("[spanyard: this attempt was interrupted here")
        assert 0 < text.index("attempt of") < cut < text.index("second")
        assert text.count("copying ") == 2

    async def test_is_not_called_whole_while_output_is_not_stored(self, shop: Workshop) -> None:
        status = await shop.runner.run(
            shop.build(), attempt=1, changed=nothing, cancel=asyncio.Event(),
            logs_whole=lambda: False,
        )  # fmt: skip
        assert (status.phase, status.log_complete) == ("Succeeded", False)
        assert not (await read_build_log(shop.storage, "local.b")).complete


async def nothing(status: BuildStatus) -> None:
    pass


async def test_two_ups_with_a_build_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    shops = [Workshop(tmp_path / str(n), build_root=tmp_path / "builds") for n in (1, 2)]
    for n, shop in enumerate(shops):
        files(shop.source, {"f": f"{n}"})
    statuses = await asyncio.gather(*(s.run(build="sleep 0.5; cp f g") for s in shops))
    for n, (shop, status) in enumerate(zip(shops, statuses, strict=True)):
        assert await unpacked(shop, status) == {"f": f"{n}", "g": f"{n}"}
        await shop.storage.close()
    assert list((tmp_path / "builds").iterdir()) == []


async def test_a_kept_folder_has_what_a_person_wants_to_see(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, keep_folders=True)
    files(shop.source, {"f": "1"})
    await shop.run(build="exit 1")
    assert sorted(p.name for p in (shop.builds / "local.b").iterdir()) == [
        "meta.json", "observability", "src",
    ]  # fmt: skip
    assert (shop.builds / "local.b/src/f").read_text() == "1"
    status = await shop.run(build="cp f g", output=".")
    assert set(await unpacked(shop, status)) == {"f", "g"}
    await shop.storage.close()
