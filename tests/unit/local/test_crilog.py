"""The laptop's container logs are the kubelet's: a collector must find every rotated file."""

import gzip
from pathlib import Path

import pytest

from spanyard_core.files import SystemFiles
from spanyard_sidecar.rotation import LogFolder
from tests.fakes.crilog import CriLog

NOON_NS = 1_795_262_400_000_000_000


class StandingClock:
    """Always the same moment, unless it is moved."""

    def __init__(self) -> None:
        self.now_ns = NOON_NS

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


def open_log(root: Path, clock: StandingClock, *, max_files: int = 5) -> CriLog:
    return CriLog(
        root,
        namespace="team",
        pod="shop-0",
        uid="u1",
        container="server",
        restart=0,
        clock=clock,
        max_size=200,
        max_files=max_files,
    )


def texts(log: CriLog) -> list[bytes]:
    """What a reader finds, in its order of the files."""
    folder = LogFolder(SystemFiles(), str(log.directory), 0, "salt")
    found = []
    for name in folder.names():
        path = log.directory / name
        data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
        found += [line.split(b" ", 3)[3] for line in data.splitlines()]
    return found


def write(log: CriLog, first: int, count: int) -> list[bytes]:
    lines = [b"line %06d" % n for n in range(first, first + count)]
    for line in lines:
        log.write("stdout", line + b"\n")
    return lines


def test_a_reader_finds_all_files_of_a_burst_that_rotates_many_times_in_a_second(
    tmp_path: Path,
) -> None:
    log = open_log(tmp_path, StandingClock(), max_files=40)
    lines = write(log, 0, 100)
    log.close()
    assert len(list(log.directory.iterdir())) > 20
    assert texts(log) == lines


def test_the_order_holds_though_old_files_are_deleted_and_the_log_is_opened_again(
    tmp_path: Path,
) -> None:
    clock = StandingClock()
    log = open_log(tmp_path, clock)
    lines = write(log, 0, 60)
    log.close()
    clock.now_ns += 2 * 10**9
    again = open_log(tmp_path, clock)
    lines += write(again, 60, 60)
    again.close()
    found = texts(again)
    assert len(found) >= 12
    assert found == lines[-len(found) :]


@pytest.mark.parametrize("foreign", ["0.log.old", "0.log.20261121", "1.log.20991231-235959"])
def test_files_of_others_do_not_matter(tmp_path: Path, foreign: str) -> None:
    log = open_log(tmp_path, StandingClock())
    (log.directory / foreign).write_bytes(b"")
    lines = write(log, 0, 10)
    log.close()
    assert texts(log) == lines
