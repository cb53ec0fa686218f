"""Pods of this machine: what their processes wrote is stored, whatever happened to the command."""

import asyncio
import contextlib
import dataclasses
import errno
import json
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from spanyard_core.chunks import decoded_blocks
from spanyard_core.clock import SystemClock, rfc3339
from spanyard_core.errors import SpanyardError, StorageError
from spanyard_core.files import write_durably
from spanyard_core.storage import Storage, open_storage
from spanyard_gateway.live.records import Block
from spanyard_gateway.live.upstream import UpstreamError
from spanyard_local.live import LocalLive
from spanyard_local.pod_collector import KEPT_FILES
from spanyard_local.podapi import PodIdentity
from spanyard_local.pods import LocalPod, Pods
from spanyard_local.shimmed import ShimSpec
from spanyard_sidecar.servers import Servers
from tests.fakes.crilog import CriLog
from tests.fakes.ports import own_port


def identity(name: str = "web-1-abcde") -> PodIdentity:
    return PodIdentity(
        namespace="local",
        pod=name,
        uid=str(uuid.uuid4()),
        project="local.shop",
        deployment="web",
        resource_uid="r-1",
    )


def cri(pod: PodIdentity, log_root: Path, restart: int = 0) -> CriLog:
    return CriLog(
        log_root,
        namespace=pod.namespace,
        pod=pod.pod,
        uid=pod.uid,
        container="server",
        restart=restart,
        clock=SystemClock(),
    )


async def stored(storage: Storage, signal: str = "logs") -> list[str]:
    messages = []
    async for info in storage.list(f"observability/{signal}/"):
        text = b"".join(decoded_blocks(await storage.read(info.key), limit=1 << 24))
        for line in text.splitlines():
            record = json.loads(line)
            messages.append(record.get("message") or record.get("event"))
    return messages


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


def pods(tmp_path: Path, storage: Storage) -> Pods:
    return Pods(tmp_path / "runs", storage=lambda _: storage)


class Away:
    """A storage that takes nothing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        raise StorageError("the bucket is away")


async def test_a_pod_stores_all_that_was_written_and_leaves_no_folder(
    tmp_path: Path, bucket: Path
) -> None:
    storage = open_storage(bucket.as_uri())
    host = pods(tmp_path, storage)
    me = identity()
    async with host.pod(me, quiet=0.05) as pod:
        log = cri(me, pod.log_root)
        log.write("stdout", b"one\ntwo\n")
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                pod.env["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/logs",
                json={"resourceLogs": [{"scopeLogs": [{"logRecords": [
                    {"timeUnixNano": "1", "body": {"stringValue": "by OTLP"}}]}]}]},
            ) as answer,
        ):  # fmt: skip
            assert answer.status == 200
        log.write("stderr", b"three\n")
        log.close()
    assert pod.drained
    assert sorted(await stored(storage)) == ["by OTLP", "one", "three", "two"]
    assert await stored(storage, "gaps")  # begin and end of each writer
    assert list((tmp_path / "runs").iterdir()) == []
    await storage.close()


async def test_lines_of_a_build_carry_its_id_as_in_the_api(tmp_path: Path, bucket: Path) -> None:
    storage = open_storage(bucket.as_uri())
    me = dataclasses.replace(identity("web-1"), deployment="", build="web")
    async with pods(tmp_path, storage).pod(me, quiet=0.05) as pod:
        log = cri(me, pod.log_root)
        log.write("stdout", b"one\n")
        log.close()
    (chunk,) = [info.key async for info in storage.list("observability/logs/")]
    line = json.loads(b"".join(decoded_blocks(await storage.read(chunk), limit=1 << 20)))
    assert (line["build"], line.get("deployment", "")) == ("local.web", "")
    await storage.close()


@pytest.mark.kill
@pytest.mark.slow
async def test_what_a_killed_command_left_is_stored_once_at_the_next_start(
    tmp_path: Path, bucket: Path
) -> None:
    storage = open_storage(bucket.as_uri())
    me = identity()
    script = f"""
import asyncio, os, pathlib, signal, sys
from spanyard_core.storage import open_storage
from tests.unit.local.test_pods import PodIdentity, Pods, cri, stored
async def main():
    me = PodIdentity(**{ {k: getattr(me, k) for k in me.__dataclass_fields__}!r})
    host = Pods(pathlib.Path({str(tmp_path / "runs")!r}), storage=lambda _: storage)
    storage = open_storage({bucket.as_uri()!r})
    async with host.pod(me) as pod:
        log = cri(me, pod.log_root)
        log.write("stdout", b"".join(b"line %d\\n" % n for n in range(2000)))
        async with asyncio.timeout(60):
            while not await stored(storage):
                await asyncio.sleep(0.02)
        log.write("stdout", b"".join(b"line %d\\n" % n for n in range(2000, 3000)))
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=Path(__file__).resolve().parents[3]
    )
    assert await process.wait() == -9
    some = await stored(storage)
    assert 0 < len(some) < 3000  # it was killed between an upload and the next
    host = pods(tmp_path, storage)
    assert await host.recover() == 0
    assert await stored(storage) == [f"line {n}" for n in range(3000)]
    assert list((tmp_path / "runs").iterdir()) == []
    assert await host.recover() == 0
    await storage.close()


@pytest.mark.slow
async def test_a_pod_whose_storage_is_away_stays_and_is_stored_later(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanyard_local.pod_collector.GRACE_S", 1.0)
    storage = open_storage(bucket.as_uri())
    host = Pods(tmp_path / "runs", storage=lambda _: Away(storage))  # type: ignore[arg-type,return-value]
    me = identity()
    async with host.pod(me, quiet=0.05) as pod:
        log = cri(me, pod.log_root)
        log.write("stdout", b"kept\n")
        log.close()
    assert not pod.drained
    assert await stored(storage) == []
    assert await host.recover() == 1
    monkeypatch.undo()  # those who find it there again have the time they need
    assert await pods(tmp_path, storage).recover() == 0
    assert await stored(storage) == ["kept"]
    await storage.close()


@pytest.mark.slow
async def test_who_listens_hears_also_what_an_earlier_run_left_and_a_pod_that_is_soon_over(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanyard_local.pod_collector.GRACE_S", 0.2)
    storage = open_storage(bucket.as_uri())
    me = identity()
    async with pods(tmp_path, Away(storage)).pod(me, quiet=0.05) as pod:  # type: ignore[arg-type]
        log = cri(me, pod.log_root)
        log.write("stdout", b"one\n")
    log.write("stdout", b"last words\n")  # read by nobody yet
    log.close()
    monkeypatch.undo()  # the second run has the time it needs
    live = LocalLive(linger=3600.0)
    host = Pods(tmp_path / "runs", storage=lambda _: storage, live=live)
    assert await host.recover() == 0
    assert list((tmp_path / "runs").iterdir()) == []
    # All is stored and its folder gone, between two looks of the gateway; the next one finds it.
    (left,) = await live.pods("local", deployment="web")
    heard: list[str] = []

    async def listen() -> None:
        async with live.listen(left, {}) as events:
            async for event in events:
                if isinstance(event, Block) and event.signal == "logs":
                    heard.extend(getattr(record, "message", "") for record in event.records)

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(30):
        while "last words" not in "".join(heard):
            await asyncio.sleep(0.01)
    live._gone(live._running[me.uid])  # its hour is over
    with pytest.raises(UpstreamError, match="has ended"):
        await listening
    assert await live.pods("local") == []
    await storage.close()


async def test_a_pod_that_is_just_being_made_is_not_taken_for_one_left_behind(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(bucket.as_uri())
    host, me = pods(tmp_path, storage), identity()

    async def meanwhile(*what: Any) -> None:
        await host.recover()
        await write_durably(*what)
        await host.recover()

    monkeypatch.setattr("spanyard_local.pods.write_durably", meanwhile)
    async with host.pod(me, quiet=0.05) as pod:
        log = cri(me, pod.log_root)
        log.write("stdout", b"one\n")
        log.close()
    assert pod.drained
    assert await stored(storage) == ["one"]
    await storage.close()


@pytest.mark.slow
async def test_a_collector_that_fails_is_started_again_under_the_same_address(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens for a moment: a test beside must not be given this port then.
    monkeypatch.setattr("spanyard_local.pods.OTLP_PORT", own_port())
    storage = open_storage(bucket.as_uri())
    host = pods(tmp_path, storage)
    me = identity()
    async with host.pod(me, quiet=0.05) as pod:
        log = cri(me, pod.log_root)
        log.write("stdout", b"before\n")
        collector = host._running[me.uid]._collector
        assert collector is not None

        def fail() -> None:
            raise OSError("the disk had a moment")

        collector.chores.append(fail)
        async with asyncio.timeout(20):
            while host._running[me.uid]._collector in {collector, None}:
                await asyncio.sleep(0.02)
        log.write("stdout", b"after\n")
        log.close()
        async with aiohttp.ClientSession() as session:
            url = pod.env["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/logs"
            async with asyncio.timeout(20):
                while True:
                    try:
                        async with session.post(url, json={"resourceLogs": []}) as answer:
                            assert answer.status == 200
                            break
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)
    assert await stored(storage) == ["before", "after"]
    await storage.close()


async def test_who_gives_up_while_a_pod_starts_disturbs_no_collector(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C in that moment."""
    storage = open_storage(bucket.as_uri())
    host, me = pods(tmp_path, storage), identity()
    starts, may_start = asyncio.Event(), asyncio.Event()
    listen = Servers.running

    @contextlib.asynccontextmanager
    async def slowly(servers: Servers) -> AsyncIterator[Servers]:
        async with listen(servers) as listening:
            starts.set()
            await may_start.wait()
            yield listening

    async def run() -> None:
        async with host.pod(me, quiet=0.05):
            pytest.fail("it was cancelled before")

    monkeypatch.setattr(Servers, "running", slowly)
    running = asyncio.create_task(run())
    async with asyncio.timeout(60):
        await starts.wait()
        running.cancel()
        await asyncio.sleep(0)
        may_start.set()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert "a collector failed" not in caplog.text
    assert list((tmp_path / "runs").iterdir()) == []
    await storage.close()


async def test_files_that_were_rotated_before_the_first_look_are_no_gap(
    tmp_path: Path, bucket: Path
) -> None:
    """A step that prints 30 MB at once, before anybody looked into its folder."""
    storage = open_storage(bucket.as_uri())
    me = identity()
    async with pods(tmp_path, storage).pod(me, quiet=0.05) as pod:
        folder = pod.log_root / f"{me.namespace}_{me.pod}_{me.uid}" / "server"
        made = tmp_path / "made"
        made.mkdir()
        for number, name in enumerate(("0.log.20261121-120000", "0.log.20261121-120001", "0.log")):
            now = rfc3339(SystemClock().time_ns())
            (made / name).write_text(f"{now} stdout F line {number}\n")
        folder.parent.mkdir()
        made.rename(folder)
    assert pod.drained
    assert await stored(storage) == ["line 0", "line 1", "line 2"]
    assert sorted(await stored(storage, "gaps")) == ["begin", "end"]
    await storage.close()


def test_shims_keep_as_many_files_as_collectors_are_told() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ShimSpec)}
    assert defaults["max_log_files"] == KEPT_FILES + 1


async def test_folders_that_tell_nothing_are_removed_or_said(
    tmp_path: Path, bucket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(bucket.as_uri())
    runs = tmp_path / "runs"
    (runs / "empty" / "logs").mkdir(parents=True)
    (runs / ".gone-x" / "logs").mkdir(parents=True)
    (runs / "damaged").mkdir()
    (runs / "damaged" / "pod.json").write_text("{")
    assert await pods(tmp_path, storage).recover() == 1
    assert [f.name for f in runs.iterdir()] == ["damaged"]
    assert "cannot be told" in caplog.text
    await storage.close()


async def test_a_folder_that_cannot_be_removed_is_left_to_the_next_start(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, me = open_storage(bucket.as_uri()), identity()
    with monkeypatch.context() as broken:

        def refuse(self: Path, target: Path) -> Path:
            raise OSError(errno.EROFS, "Read-only file system")

        broken.setattr(Path, "rename", refuse)
        async with pods(tmp_path, storage).pod(me, quiet=0.05) as pod:
            log = cri(me, pod.log_root)
            log.write("stdout", b"one\n")
            log.close()
    assert pod.drained
    assert await pods(tmp_path, storage).recover() == 0
    assert list((tmp_path / "runs").iterdir()) == []
    assert await stored(storage) == ["one"]
    await storage.close()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, bucket: Path) -> None:
    storage = open_storage(bucket.as_uri())
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(SpanyardError, match="give another folder with --data"):
        async with pods(tmp_path, storage).pod(identity()) as pod:
            assert isinstance(pod, LocalPod)
    await storage.close()
