"""Builds on this machine in tests: the real runner on a folder as storage."""

import asyncio
import dataclasses
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spanyard_core.clock import SystemClock
from spanyard_core.resources.kinds import (
    Build,
    BuildSource,
    BuildSpec,
    BuildStatus,
    DirectorySource,
    EnvVar,
    Metadata,
)
from spanyard_core.storage import Storage, open_storage
from spanyard_local.builds.runner import BuildRunner
from spanyard_local.podapi import PodHost, PodIdentity
from spanyard_local.pods import Pods
from spanyard_sidecar.build_parts import BuildParts
from tests.fakes.pod_host import FakePods


class Workshop:
    """A folder with a source, a storage, and a runner."""

    def __init__(self, folder: Path, *, collect: bool = False, **runner: Any) -> None:
        """`collect`: real pods with collectors, instead of folders alone."""
        self.folder = folder
        self.source = folder / "app"
        self.source.mkdir()
        self.storage: Storage = open_storage((folder / "bucket").as_uri())
        self.fakes = FakePods(folder / "runs")
        self.pods: PodHost = self.fakes
        if collect:
            self.pods = Pods(folder / "runs", storage=self._storage_of)
        self.builds = folder / "builds"
        told = {"storage": self.storage, "pods": self.pods, "clock": SystemClock(),
                "rng": random.Random(7), "build_root": self.builds}  # fmt: skip
        self.runner = BuildRunner(**{**told, **runner})
        self.seen: list[BuildStatus] = []
        self.cancel = asyncio.Event()
        self.on_change: Callable[[BuildStatus], None] = lambda _: None

    def _storage_of(self, identity: PodIdentity) -> Storage:
        return BuildParts(self.storage, f"{identity.namespace}.{identity.build}")

    def give(self, **more: Any) -> None:
        """Other means from now on: `secrets`, `storage`."""
        self.runner._means = dataclasses.replace(self.runner._means, **more)

    def build(self, **spec: Any) -> Build:
        told: dict[str, Any] = {
            "source": BuildSource(directory=DirectorySource(path=str(self.source)))
        }
        return Build(
            metadata=Metadata(name="b", namespace="local", uid="u-b", generation=1),
            spec=BuildSpec(project="p", **{**told, **spec}),
        )

    async def run(
        self, build: Build | None = None, /, *, attempt: int = 1, **spec: Any
    ) -> BuildStatus:
        """Run an attempt; every status on the way is in `seen`."""

        async def changed(status: BuildStatus) -> None:
            self.seen.append(status)
            self.on_change(status)

        return await self.runner.run(
            build or self.build(**spec), attempt=attempt, changed=changed, cancel=self.cancel
        )

    async def keys(self) -> list[str]:
        return [info.key async for info in self.storage.list("")]


def env(**values: str) -> list[EnvVar]:
    return [EnvVar(name=name, value=value) for name, value in values.items()]


def files(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
