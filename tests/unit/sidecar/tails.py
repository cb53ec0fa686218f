"""A container log with its source, for tests of the tailer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_sidecar.model import Block, Gap, Identity, State
from spanyard_sidecar.tailer import CriSource, TailSettings
from tests.fakes.handclock import HandClock
from tests.fakes.kubelet import ContainerLog
from tests.fakes.watchedfiles import WatchedFiles

IDENTITY = Identity("team.app", deployment="app", pod="app-0", pod_uid="uid")


class Tail:
    """A run of the container `server`, and a collector reading it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder / "server"
        self.log = ContainerLog(self.folder)
        self.clock = HandClock()
        self.files = WatchedFiles()
        self.settings = TailSettings(**settings)
        self.source = self.opened()

    def opened(self, state: State | None = None, epoch: str = "e") -> CriSource:
        return CriSource(
            self.files,
            self.clock,
            IDENTITY,
            folder=str(self.folder),
            container="server",
            restart=0,
            epoch=epoch,
            state=state,
            settings=self.settings,
        )

    def restart(self) -> None:
        """The collector goes on from its state, which passes through JSON as in the spool."""
        state = json.loads(json.dumps(self.source.state()))
        self.source.close()
        self.source = self.opened(state)

    def blocks(self) -> Iterator[Block]:
        """All that can be read now, without time passing."""
        for _ in range(10_000):
            block = self.source.read(1 << 20)
            if block is None:
                return
            yield block
        raise AssertionError("reading never came to its end")

    def read(self) -> list[str]:
        """Messages of all that can be read now."""
        return [text for block in self.blocks() for text in messages(block)]

    def read_with_gaps(self) -> list[str | Gap]:
        """Messages and gaps in their order."""
        found: list[str | Gap] = []
        for block in self.blocks():
            found += block.gaps
            found += messages(block)
        return found

    def close(self) -> None:
        self.source.close()
        self.log.close()


def records(block: Block | None) -> list[dict[str, Any]]:
    """The lines of a block."""
    return [json.loads(line) for line in block.lines.splitlines()] if block else []


def messages(block: Block | None) -> list[str]:
    """Their messages."""
    return [record["message"] for record in records(block)]


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    made = Tail(tmp_path)
    yield made
    made.close()
    assert made.files.open == 0, "a file was left open"
