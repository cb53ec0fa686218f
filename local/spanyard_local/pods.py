"""Pods of this machine: their folders, their collectors, their end, and what a kill left of them.

A pod's collector is the sidecar's, in this process: one object per pod, with a spool of its own. It
is started again when it fails. When the pod ends it reads to the end and stores all; only then does
the folder go. What a killed `up` left is drained at the next start by a collector that is told to
stop at once: it reads what is there, ends every writer, and stores it.
"""

import asyncio
import contextlib
import logging
import random
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from spanyard_core.clock import Clock, SystemClock
from spanyard_core.errors import SpanyardError
from spanyard_core.files import SystemFiles, write_durably
from spanyard_core.storage import Storage
from spanyard_local import pod_collector
from spanyard_local.live import LocalLive
from spanyard_local.pod_collector import PodCollector
from spanyard_local.podapi import PodIdentity
from spanyard_local.shimmed import read_status
from spanyard_sidecar.collector import Hints
from spanyard_sidecar.model import SourceIndex
from spanyard_sidecar.ring import Ring
from spanyard_sidecar.settings import CollectorSettings

log = logging.getLogger("spanyard.local")

FLUSH_S = 1.0
OTLP_PORT = 0
"""Of a pod's first collector: any. One that is started again takes the same."""
RECOVERIES = 4
"""Old pods drained at a time: each takes a file lock, some MB and up to a second of waiting."""
GONE = ".gone-"
"""Prefix of a folder that is being removed. Renamed first: a pod without its spool but with its
logs would be read a second time, under other names."""


@dataclass(frozen=True, slots=True)
class LocalPod:
    """Implements `podapi.Pod`."""

    identity: PodIdentity
    folder: Path
    env: Mapping[str, str]
    held: Sequence[int]
    _run: PodCollector

    @property
    def log_root(self) -> Path:
        return self.folder / "logs"

    @property
    def spans_dir(self) -> Path:
        return self.folder / "spans"

    @property
    def status_dir(self) -> Path:
        return self.folder / "status"

    @property
    def app_dir(self) -> Path:
        return self.folder / "app"

    @property
    def drained(self) -> bool:
        return self._run.drained


class Viewer(Protocol):
    """Shows lines while they are read; whatever it does, they are stored."""

    def opened(self, pod: PodIdentity, ring: Ring) -> None:
        """A collector begins, and has read nothing yet. Raises nothing."""
        ...

    async def closed(self, pod: PodIdentity, written: Mapping[str, int]) -> None:
        """The pod has ended, now or in an earlier run that was killed. Raises nothing.

        `written`: `{container}.{restart}` → whole lines in its log, as its shim counted them.
        """
        ...


class Pods:
    """Implements `podapi.PodHost`, below one folder."""

    def __init__(
        self,
        root: Path,
        *,
        storage: Callable[[PodIdentity], Storage],
        hinter: Callable[[], Hints] | None = None,
        index: SourceIndex | None = None,
        held: Sequence[int] = (),
        clock: Clock | None = None,
        viewer: Viewer | None = None,
        live: LocalLive | None = None,
    ) -> None:
        """`storage` may give builds a storage that keeps their log parts, too."""
        self._root = root
        self._storage = storage
        self._hinter = hinter
        self._index = index
        self._held = tuple(held)
        self._clock = clock or SystemClock()
        self._viewer = viewer
        self._live = live
        self._rng = random.SystemRandom()
        self._running: dict[str, PodCollector] = {}
        self._left: dict[str, PodIdentity] = {}
        """By uid: pods that have ended and are not all stored."""

    @contextlib.asynccontextmanager
    async def pod(self, identity: PodIdentity, *, quiet: float = 0.5) -> AsyncIterator[LocalPod]:
        """See `PodHost.pod`."""
        folder = self._root / identity.uid
        run = self._run(identity, folder, quiet)
        # Before there is a folder: `recover` takes those that nobody runs for left behind.
        self._running[identity.uid] = run
        try:
            for part in ("logs", "spans", "spool", "status", "app"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            await write_durably(
                SystemFiles(), str(folder / "pod.json"), [msgspec.json.encode(identity)]
            )
        except BaseException as error:
            del self._running[identity.uid]
            if not isinstance(error, OSError):
                raise
            raise SpanyardError(
                f"data: cannot make the folder of a pod, {str(folder)!r}: "
                f"{error.strerror or error}; make room, or give another folder with --data"
            ) from error
        task = asyncio.create_task(run.keep_running(), name=f"collector of {identity.pod}")
        try:
            endpoint = await run.ready()
            yield LocalPod(
                identity, folder, _environment(identity, folder, endpoint), self._held, run
            )
        finally:
            run.stop.set()
            try:
                # Cancelled here, the task ends too: what is spooled goes out at the next start.
                await task
                await self._close(identity, folder)
                if run.drained:
                    await asyncio.to_thread(_remove, folder)
            finally:
                if self._live is not None:
                    self._live.closed(identity)
                if not run.drained:
                    self._left[identity.uid] = identity
                del self._running[identity.uid]

    def _run(self, identity: PodIdentity, folder: Path, quiet: float) -> PodCollector:
        settings = CollectorSettings(
            storage="file:///",  # only named: the storage is given
            project=identity.project,
            uid=identity.resource_uid,
            deployment=identity.deployment,
            build=f"{identity.namespace}.{identity.build}" if identity.build else "",
            pod=identity.pod,
            pod_uid=identity.uid,
            logs=str(folder / "logs"),
            spans_dir=str(folder / "spans"),
            spool=str(folder / "spool"),
            flush_interval=FLUSH_S,
            otlp_port=OTLP_PORT,
            listen="",
            quiet=quiet,
            grace=pod_collector.GRACE_S,
            termination_log="",
        )
        return PodCollector(
            settings,
            storage=self._storage(identity),
            hinter=self._hinter,
            index=self._index,
            clock=self._clock,
            rng=self._rng,
            opened=lambda ring: self._show(identity, ring),
        )

    def _show(self, identity: PodIdentity, ring: Ring) -> None:
        if self._live is not None:
            self._live.opened(identity, ring)
        # What an earlier run left was shown then, as far as anybody can tell.
        if self._viewer is not None and identity.uid in self._running:
            self._viewer.opened(identity, ring)

    async def _close(self, identity: PodIdentity, folder: Path) -> None:
        if self._viewer is not None:
            statuses = {f.stem: read_status(f) for f in sorted((folder / "status").glob("*.json"))}
            written = {name: s.lines for name, s in statuses.items() if s is not None}
            await self._viewer.closed(identity, written)

    def troubles(self) -> list[str]:
        """What keeps collectors from their work just now, in words, each once."""
        return sorted({text for run in self._running.values() for text in run.troubles()})

    @property
    def has_unstored(self) -> bool:
        """Whether any pod has ended with output that is not stored."""
        return bool(self._left)

    def unstored(self, namespace: str, *, build: str = "", deployment: str = "") -> bool:
        """Whether a pod of this build or deployment has ended with output that is not stored."""
        return any(
            (pod.namespace, pod.build, pod.deployment) == (namespace, build, deployment)
            for pod in self._left.values()
        )

    # --- what a kill left --------------------------------------------------------------------

    async def recover(self) -> int:
        """Drain every pod that has ended unstored, in this run or an earlier one.

        Returns how many still are, because storage is away or their folder is damaged. To be called
        while no process of an earlier run lives, which the data folder's lock says.
        """
        slots = asyncio.Semaphore(RECOVERIES)
        found, damaged = await asyncio.to_thread(self._look)
        self._left.update(found)

        async def one(uid: str, identity: PodIdentity) -> None:
            async with slots:
                folder = self._root / uid
                run = self._run(identity, folder, quiet=0.0)
                run.stop.set()
                try:
                    await run.keep_running()
                finally:
                    if self._live is not None:
                        self._live.closed(identity)
                if run.drained:
                    await self._close(identity, folder)
                    await asyncio.to_thread(_remove, folder)
                    del self._left[uid]

        await asyncio.gather(*(one(*each) for each in found.items()))
        return len(self._left) + damaged

    def _look(self) -> tuple[dict[str, PodIdentity], int]:
        """Pods that do not run, by uid, and how many folders tell nothing."""
        found: dict[str, PodIdentity] = {}
        damaged = 0
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self._root.iterdir()):
                if folder.name in self._running:
                    continue
                if folder.name.startswith(GONE):
                    shutil.rmtree(folder, ignore_errors=True)
                    continue
                try:
                    text = (folder / "pod.json").read_bytes()
                    found[folder.name] = msgspec.json.decode(text, type=PodIdentity)
                except FileNotFoundError:
                    # Killed before its first line: identity comes before everything else.
                    _remove(folder)
                except (OSError, msgspec.MsgspecError) as error:
                    log.error("whose output %s holds cannot be told (%s)", folder, error)
                    damaged += 1
        return found, damaged


def _environment(identity: PodIdentity, folder: Path, endpoint: str) -> dict[str, str]:
    """What the operator injects in a cluster, with this machine's values."""
    name = identity.deployment or identity.build
    attributes = {
        "service.namespace": identity.namespace,
        "service.instance.id": identity.pod,
        "k8s.namespace.name": identity.namespace,
        "k8s.pod.name": identity.pod,
        "k8s.pod.uid": identity.uid,
    }
    return {
        "SPANYARD_SPANS_DIR": str(folder / "spans"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": name,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"{k}={v}" for k, v in attributes.items()),
    }


def _remove(folder: Path) -> None:
    gone = folder.with_name(GONE + folder.name)
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    except OSError as error:  # a broken disk; it is drained and removed at the next start
        log.warning("the folder of a pod, %s, cannot be removed: %s", folder, error)
        return
    shutil.rmtree(gone, ignore_errors=True)  # the rest goes at the next start
