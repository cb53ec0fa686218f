"""Pods without a collector: folders, and what a runner did with them."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanyard_local.podapi import PodIdentity


@dataclass
class FakePod:
    """Implements `podapi.Pod`."""

    identity: PodIdentity
    root: Path
    held: Sequence[int] = ()
    drained: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def log_root(self) -> Path:
        return self.root / "logs"

    @property
    def spans_dir(self) -> Path:
        return self.root / "spans"

    @property
    def status_dir(self) -> Path:
        return self.root / "status"

    @property
    def app_dir(self) -> Path:
        return self.root / "app"

    def log(self, container: str, restart: int = 0) -> list[str]:
        """Messages of a container's log, without CRI's prefixes."""
        i = self.identity
        folder = self.log_root / f"{i.namespace}_{i.pod}_{i.uid}" / container
        names = sorted(p.name for p in folder.glob(f"{restart}.log.*"))
        lines: list[str] = []
        for name in [*names, f"{restart}.log"]:
            lines += (folder / name).read_text("utf-8", "replace").splitlines()
        return [line.split(" ", 3)[3] for line in lines]


class FakePods:
    """Implements `podapi.PodHost`."""

    def __init__(self, root: Path, *, drains: bool = True) -> None:
        self.root = root
        self.drains = drains
        self.pods: list[FakePod] = []

    @contextlib.asynccontextmanager
    async def pod(self, identity: PodIdentity, *, quiet: float = 0.5) -> AsyncIterator[FakePod]:
        pod = FakePod(identity, self.root / identity.uid)
        for folder in (pod.log_root, pod.spans_dir, pod.status_dir, pod.app_dir):
            folder.mkdir(parents=True)
        pod.env = {"SPANYARD_SPANS_DIR": str(pod.spans_dir)}
        self.pods.append(pod)
        yield pod
        pod.drained = self.drains
