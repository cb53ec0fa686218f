"""The collector in the world: how it is started, reached, and brought to rest."""

import asyncio
import contextlib

from spanyard_sidecar.collector import Collector
from spanyard_sidecar.gateway import GatewayHinter, GatewayIndex, Http
from spanyard_sidecar.kinds import sources_of
from spanyard_sidecar.pipeline import PipelineSettings
from spanyard_sidecar.settings import CollectorSettings
from tests.sim.clock import SimClock
from tests.sim.disk import Disk
from tests.sim.inodes import Folder, Inode
from tests.sim.keeper import Keeper
from tests.sim.process import Process
from tests.sim.world import POD_UID, PROJECT, SPANS, SPOOL, World

POINTS = (
    "spool.written",
    "spool.renamed",
    "spool.durable",
    "spool.marked",
    "upload.done",
    "upload.known",
    "otlp.appended",
    "otlp.durable",
    "spanfile.stored",
    "collector.drained",
)


class Collecting:
    """One pod's collector."""

    def __init__(self, world: World) -> None:
        self.world = world
        rng = world.random("collector settings")
        self.settings = CollectorSettings(
            storage="sim:///",
            project=PROJECT,
            pod="web-0",
            pod_uid=POD_UID,
            logs="/var/log/pods",
            spans_dir=SPANS,
            spool=SPOOL,
            spool_limit=rng.choice((3_000_000, 20_000_000)),
            flush_interval=rng.choice((0.3, 1.0, 5.0)),
            chunk_size=rng.choice((2_000, 10_000, 1_000_000)),
            ring_keep=rng.choice((1.0, 10.0)),
            ring_disk=1_000_000,
            index_wait=rng.choice((5.0, 600.0)),
            quiet=world.random("collector's end").choice((0.0, 0.1, 0.5)),
            otlp_listen="",
            listen="",
        )
        self.collector: Collector | None = None
        self.leftover = ""
        self.gateway: Http | None = None
        world.disk.mkdir("/pod")
        world.disk.mkdir("/var/log/pods")
        world.disk.settle()
        self.keeper = Keeper(
            "collector",
            self._program,
            world.random("collector keeper"),
            world.chronicle,
            world.kills,
            points=POINTS if world.troubles.collector_fault_points else (),
            may_fail=lambda: world.disk_failing,
        )

    async def _program(self, process: Process, stop: asyncio.Event) -> None:
        world = self.world
        rng = world.random(process.name)
        clock = SimClock(world.wall, process)
        collector = Collector(
            self.settings,
            files=world.disk.view(process),
            clock=clock,
            storage=world.bucket.view(process),
            rng=rng,
            sources=sources_of,
            index=GatewayIndex(self.gateway) if self.gateway is not None else None,
            pipeline_settings=PipelineSettings(
                flush_interval=self.settings.flush_interval,
                chunk_size=self.settings.chunk_size,
                patience=self.settings.index_wait,
                poll_busy=0.05,  # ten times fewer turns of the loop in a history
            ),
        )
        if self.gateway is not None:
            collector.hinter = GatewayHinter(self.gateway, clock, collector.metrics)
        await collector.open()
        self.collector = collector
        await collector.run(stop)
        self.leftover = collector.leftover

    async def send(self, signal: str, body: bytes) -> int:
        """An OTLP request over the pod's loopback."""
        process, collector = self.keeper.process, self.collector
        if process is None or collector is None or not process.alive:
            raise ConnectionRefusedError("no collector")
        receive = collector.receiver.receive
        answer = await process.call(receive(signal, body, json=True))  # type: ignore[arg-type]
        return answer.status

    async def lose_spool(self) -> None:
        """The volume of the spool is gone, with the collector that used it."""
        world = self.world
        self.keeper.kill()
        self.keeper.pause()
        # What the dead one sent may still be on its way; a new collector cannot know of it, and
        # a pod that gets a new volume takes longer to come than a request to go.
        while world.bucket.under_way:
            await asyncio.sleep(0.5)
        world.chronicle.note("the spool is lost")
        remove_below(world.disk, SPOOL)
        world.disk.settle()
        self.keeper.resume()

    def check_limit(self) -> None:
        """The spool is never above its limit."""
        used = blocks_below(self.world.disk, SPOOL)
        assert used <= self.settings.spool_limit, (
            f"the spool takes {used} of {self.settings.spool_limit} bytes"
        )

    def check_span_files(self) -> None:
        """Every span file went when all of it was stored."""
        left = [path for path in files_below(self.world.disk, SPANS) if not path.endswith(".tmp")]
        assert not left, f"span files stay behind: {left}"

    def pending(self) -> int:
        """Entries on disk that are not uploaded."""
        try:
            names = self.world.disk.folder(SPOOL).entries
        except FileNotFoundError:
            return 0
        return sum(name.endswith(".entry") for name in names)


def remove_below(disk: Disk, path: str) -> None:
    """Delete all files below `path`."""
    for name, target in list(disk.folder(path).entries.items()):
        if isinstance(target, Inode):
            disk.unlink(f"{path}/{name}")
        else:
            remove_below(disk, f"{path}/{name}")


def files_below(disk: Disk, path: str) -> dict[str, Inode]:
    """All files below `path`."""
    found: dict[str, Inode] = {}

    def walk(folder: Folder, path: str) -> None:
        for name, target in folder.entries.items():
            if isinstance(target, Inode):
                found[f"{path}/{name}"] = target
            else:
                walk(target, f"{path}/{name}")

    with contextlib.suppress(FileNotFoundError):
        walk(disk.folder(path), path)
    return found


def blocks_below(disk: Disk, path: str) -> int:
    """Bytes on disk of all files below `path`, in whole blocks."""
    return sum(-(-len(file.data) // 4096) * 4096 for file in files_below(disk, path).values())
