"""Pods without a collector: folders, and what stands in them when the pod has ended."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanyard_local.podapi import PodIdentity


@dataclass
class FakePod:
    """See `spanyard_local.podapi.Pod`."""

    identity: PodIdentity
    folder: Path
    env: Mapping[str, str]
    held: Sequence[int] = ()
    drained: bool = False
    ended: bool = False

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

    def lines(self, container: str = "server") -> list[str]:
        """All lines of a container, over its restarts, in order; partial ones are joined."""
        identity = self.identity
        folder = self.log_root / f"{identity.namespace}_{identity.pod}_{identity.uid}" / container
        found: list[str] = []
        part = ""
        files = [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        for path in sorted(files, key=_order):
            for line in path.read_text("utf-8").splitlines():
                _, _, tag, text = line.split(" ", 3)
                part += text
                if tag == "F":
                    found.append(part)
                    part = ""
        return found


def _order(path: Path) -> tuple[int, bool, str]:
    restart, _, stamp = path.name.partition(".log")
    return int(restart), not stamp, stamp


@dataclass
class FakePods:
    """See `spanyard_local.podapi.PodHost`; keeps the pods it made."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)
    drains: bool = True
    pods: list[FakePod] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def pod(self, identity: PodIdentity, *, quiet: float = 0.5) -> AsyncIterator[FakePod]:
        pod = FakePod(identity, self.root / identity.uid, dict(self.env))
        for folder in (pod.log_root, pod.spans_dir, pod.status_dir, pod.app_dir):
            folder.mkdir(parents=True)
        self.pods.append(pod)
        try:
            yield pod
        finally:
            pod.ended, pod.drained = True, self.drains
