"""The log file that a shim writes: the same bytes as the in-process writer's, whatever comes."""

import errno
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_local import shim_log
from spanyard_local.shim_log import PIECE_BYTES, CriWriter
from tests.fakes.crilog import CriLog
from tests.fakes.handclock import HandClock

LINES = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")),
        st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5]).map(
            lambda n: b"x" * n
        ),
    ),
    min_size=1,
    max_size=6,
)


def writer(folder: Path, **more: Any) -> CriWriter:
    return CriWriter(str(folder), 0, **{"max_size": 10 << 20, "max_files": 5, **more})


def unstamped(path: Path) -> list[bytes]:
    return [line.partition(b" ")[2] for line in path.read_bytes().splitlines()]


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), LINES), max_size=4))
def test_blocks_of_lines_become_what_the_in_process_writer_makes_of_them(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[str, list[bytes]]]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    one = writer(folder / "one")
    other = CriLog(folder, namespace="n", pod="p", uid="u", container="c", restart=0,
                   clock=HandClock())  # fmt: skip
    one.open()
    for stream, lines in blocks:
        data = b"".join(line + b"\n" for line in lines)
        one.take(stream, data)
        other.write(stream, data)
    one.flush()
    one.close()
    other.close()
    assert unstamped(folder / "one" / "0.log") == unstamped(other.path)
    assert one.lines == other.lines == sum(len(lines) for _, lines in blocks)


def test_a_line_in_parts_is_marked_partial_until_its_end(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.take("stdout", b"a" * PIECE_BYTES, ended=False)
    log.take("stdout", b"end\nwhole\n")
    log.take("stderr", b"without newline")
    log.flush()
    log.close()
    marks = [line[:8] for line in unstamped(tmp_path / "0.log")]
    assert marks == [b"stdout P", b"stdout F", b"stdout F", b"stderr F"]
    assert log.lines == 3
    first = (tmp_path / "0.log").read_bytes().splitlines()[0]
    assert re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout P a", first)


def test_files_rotate_in_order_and_the_oldest_go(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size=1_000, max_files=4)
    for n in range(100):
        log.take("stdout", b"line %03d of a hundred lines, more or less\n" % n)
        log.flush()
    log.close()
    rotated = sorted(p.name for p in tmp_path.iterdir() if p.name != "0.log")
    assert len(rotated) == 3
    lines = [line for name in [*rotated, "0.log"] if (tmp_path / name).exists()
             for line in unstamped(tmp_path / name)]  # fmt: skip
    numbers = [int(line.split()[3]) for line in lines]
    assert numbers == list(range(numbers[0], 100))


def test_a_full_disk_delays_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if rng.random() < 0.5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data[: rng.randrange(1, 60)]))

    monkeypatch.setattr(shim_log.os, "write", full)
    log = writer(tmp_path, max_size=1_500, max_files=99)
    errors = 0
    for n in range(50):
        log.take("stdout", b"number %d, in a sentence that is long enough\n" % n)
        while log.waiting:
            assert log.waiting_lines == 1
            try:
                log.flush()
            except OSError:
                errors += 1
    log.close()
    monkeypatch.undo()
    names = sorted(p.name for p in tmp_path.iterdir() if p.name != "0.log")
    names += ["0.log"] if (tmp_path / "0.log").exists() else []
    lines = [line for name in names for line in unstamped(tmp_path / name)]
    assert lines == [b"stdout F number %d, in a sentence that is long enough" % n
                     for n in range(50)]  # fmt: skip
    assert errors > 20
    assert log.lines == 50


def test_the_tail_is_the_last_lines_of_both_streams_cut_to_a_length(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.take("stdout", b"".join(b"line %d\r\n" % n for n in range(5_000)))
    log.take("stderr", "ü".encode() * 600)
    log.take("stdout", b"last\n")
    tail = log.tail()
    assert len(tail) == 20
    assert tail[17] == "line 4999"
    assert (len(tail[18]), tail[18][-1]) == (500, "…")
    assert tail[19] == "last"
    log.flush()
    log.close()


def test_stamps_of_rotated_files_grow_when_the_clock_is_set_back() -> None:
    assert shim_log._next_stamp("20991231-235959") == "21000101-000000"
