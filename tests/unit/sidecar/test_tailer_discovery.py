"""Finding container logs in the kubelet's layout."""

from pathlib import Path
from typing import Any

import pytest

from spanyard_core.files import SystemFiles
from spanyard_sidecar.discovery import CriSources
from spanyard_sidecar.model import Forgets, Identity, Source
from tests.fakes.handclock import HandClock
from tests.fakes.kubelet import ContainerLog
from tests.unit.sidecar.tails import messages

UID = "0b6e1c9a-7a52-4e0c-9d4e-2f0f6f0f6f0f"
IDENTITY = Identity("team.app", deployment="app", pod="app-0", pod_uid=UID)
POD = f"team_app-0_{UID}"


class Found:
    """Sources of a root, with their clock."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.clock = HandClock()
        self.kind = CriSources(SystemFiles(), self.clock, IDENTITY, str(root), **options)
        self.sources: list[Source] = []

    def scan(self, states: dict[str, Any] | None = None) -> list[str]:
        found = self.kind.scan(states or {}, "e")
        self.sources += found
        return [source.writer for source in found]

    def close(self) -> None:
        for source in self.sources:
            source.close()


def write(folder: Path, restart: int = 0, text: str = "x") -> None:
    log = ContainerLog(folder, restart)
    log.line(text)
    log.close()


def test_the_root_may_hold_many_pods(tmp_path: Path) -> None:
    write(tmp_path / POD / "server")
    write(tmp_path / POD / "worker")
    write(tmp_path / "team_other-0_1b6e1c9a-7a52-4e0c-9d4e-2f0f6f0f6f0f" / "server")
    found = Found(tmp_path)
    assert found.scan() == [f"{UID}/server/0@e", f"{UID}/worker/0@e"]
    assert [source.container for source in found.sources] == ["server", "worker"]
    found.close()


def test_the_root_may_be_the_pods_own_folder(tmp_path: Path) -> None:
    write(tmp_path / "server")
    found = Found(tmp_path)
    assert found.scan() == [f"{UID}/server/0@e"]
    found.close()


@pytest.mark.parametrize("pod", [POD, UID])
def test_a_pod_can_be_named(tmp_path: Path, pod: str) -> None:
    write(tmp_path / POD / "server")
    found = Found(tmp_path, pod=pod)
    assert found.scan() == [f"{UID}/server/0@e"]
    found.close()


def test_before_the_pods_folder_is_there_nothing_is_found(tmp_path: Path) -> None:
    write(tmp_path / "team_other-0_1b6e1c9a" / "server")
    found = Found(tmp_path)
    assert found.scan() == []
    write(tmp_path / POD / "server")
    assert found.scan() == [f"{UID}/server/0@e"]
    found.close()


def test_a_root_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Found(tmp_path / "nowhere").scan()


def test_containers_can_be_left_out(tmp_path: Path) -> None:
    for name in ("server", "spanyard-collector"):
        write(tmp_path / name)
    found = Found(tmp_path, exclude=["spanyard-collector"])
    assert found.scan() == [f"{UID}/server/0@e"]
    found.close()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "server")
    for name in ("note.txt", "x.log", "0.log.bak", "0.log.1", ".hidden"):
        (tmp_path / "server" / name).write_text("x")
    (tmp_path / "file").write_text("x")
    found = Found(tmp_path)
    assert found.scan() == [f"{UID}/server/0@e"]
    found.close()


def test_a_source_comes_once(tmp_path: Path) -> None:
    write(tmp_path / "server")
    found = Found(tmp_path)
    assert len(found.scan()) == 1
    assert found.scan() == []
    found.close()


def test_a_restart_is_another_writer_and_ends_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "server", 0)
    found = Found(tmp_path)
    found.scan()
    write(tmp_path / "server", 1, "y")
    assert found.scan() == [f"{UID}/server/1@e"]
    old, new = found.sources
    assert messages(old.read(1 << 20)) == ["x"]
    assert messages(new.read(1 << 20)) == ["y"]
    found.clock.advance(61)
    found.scan()
    for source in (old, new):
        assert source.read(1 << 20) is None
    assert (old.ended, new.ended) == (True, False)
    found.close()


def test_lines_name_the_service(tmp_path: Path) -> None:
    write(tmp_path / "server")
    for options, service in (({}, b'"app"'), ({"service": "shop"}, b'"shop"')):
        found = Found(tmp_path, **options)
        found.scan()
        block = found.sources[0].read(1 << 20)
        assert block is not None
        assert b'"service":' + service in block.lines
        found.close()


def test_a_run_whose_files_are_gone_is_told_and_ended(tmp_path: Path) -> None:
    write(tmp_path / "server", 0)
    before = Found(tmp_path)
    before.scan()
    before.sources[0].read(1 << 20)
    state = before.sources[0].state()
    before.close()
    (tmp_path / "server" / "0.log").unlink()
    write(tmp_path / "server", 1)
    found = Found(tmp_path)
    assert found.scan({f"{UID}/server/0@e": state}) == [f"{UID}/server/0@e", f"{UID}/server/1@e"]
    block = found.sources[0].read(1 << 20)
    assert block is not None
    assert [gap.cause for gap in block.gaps] == ["rotated-away"]
    found.clock.advance(61)
    assert found.sources[0].read(1 << 20) is None
    assert found.sources[0].ended
    found.close()


def test_states_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    found = Found(tmp_path)
    state = {"kind": "cri", "seq": 1, "time": "", "bytes": 1, "last": "", "files": []}
    states = {
        f"{UID}/spans/1-abcdefgh@e": {"kind": "spanfile"},
        f"{UID}/server/0@another": state,
        f"{UID}/logs@e": {"segment": 1},
    }
    assert found.scan(states) == []


def test_an_ended_run_is_forgotten_when_its_files_are_gone(tmp_path: Path) -> None:
    write(tmp_path / "server", 0)
    write(tmp_path / "server", 1)
    found = Found(tmp_path)
    assert isinstance(found.kind, Forgets)
    found.scan()
    old = found.sources[0]
    while old.read(1 << 20) is not None:
        pass
    found.clock.advance(61)
    assert old.read(1 << 20) is None
    states = {old.writer: old.state()}
    assert found.kind.forgotten(states) == []
    again = Found(tmp_path)
    assert again.scan(states) == [f"{UID}/server/1@e"], "an ended run is not opened again"
    (tmp_path / "server" / "0.log").unlink()
    assert found.kind.forgotten(states) == [old.writer]
    assert again.kind.forgotten(states) == [old.writer]
    found.close()
    again.close()
