"""Span files keep their written contract: names, locks, rotation, whole lines, full disks, forks."""

import errno
import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import spanyard
from spanyard import _files
from spanyard._files import SpanFile
from spanyard._settings import read_settings
from spanyard_core.errors import SettingError
from spanyard_core.files import SystemFiles
from tests.unit.sdk.conftest import SpansDir

NAME = re.compile(r"\d{19}-[0-9a-f]{16}(\.closed)?\.jsonl")


def test_a_file_is_named_locked_and_open_while_the_process_lives(spans_dir: SpansDir) -> None:
    spanyard.log.info("x")
    (file,) = spans_dir.files("logs")
    assert NAME.fullmatch(file.name)
    assert not file.name.endswith(".closed.jsonl")
    assert SystemFiles().is_locked(str(file))
    assert file.parent.stat().st_mode & 0o777 == 0o777
    spanyard.shutdown()
    (closed,) = spans_dir.files("logs")
    assert closed.name == file.name.replace(".jsonl", ".closed.jsonl")
    assert not SystemFiles().is_locked(str(closed))


def test_a_file_is_never_seen_without_its_lock(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    rename, flock = os.rename, fcntl.flock
    monkeypatch.setattr(os, "rename", lambda *a: (order.append("rename"), rename(*a)))
    monkeypatch.setattr(fcntl, "flock", lambda *a: (order.append("flock"), flock(*a)))
    spanyard.log.info("x")
    assert order == ["flock", "rename"]


def test_an_event_after_the_shutdown_begins_a_new_file(spans_dir: SpansDir) -> None:
    spanyard.log.info("a")
    spanyard.shutdown()
    spanyard.log.info("b")
    assert len(spans_dir.files("logs")) == 2
    assert [x["message"] for x in spans_dir.lines("logs")] == ["a", "b"]


def test_files_are_rotated_at_their_limit_and_nothing_is_lost(spans_dir: SpansDir) -> None:
    spanyard.configure(spans_dir=spans_dir.path, file_size=5000)
    for n in range(200):
        spanyard.log.info("x" * 100, n=n)
    spanyard.shutdown()
    files = spans_dir.files("logs")
    assert len(files) > 5
    assert all(file.stat().st_size <= 5000 for file in files)
    assert all(file.name.endswith(".closed.jsonl") for file in files)
    assert [x["attributes"]["n"] for x in spans_dir.lines("logs")] == list(range(200))
    assert spanyard.stats().files == len(files)


def test_one_line_over_the_limit_has_a_file_to_itself(spans_dir: SpansDir) -> None:
    spanyard.configure(spans_dir=spans_dir.path, file_size=1024)
    spanyard.log.info("a")
    spanyard.log.info("b" * 5000)
    spanyard.log.info("c")
    assert len(spans_dir.files("logs")) == 3


def test_a_deleted_file_is_no_trouble_at_rotation(spans_dir: SpansDir) -> None:
    spanyard.log.info("a")
    spans_dir.files("logs")[0].unlink()
    spanyard.shutdown()
    spanyard.log.info("b")
    assert [x["message"] for x in spans_dir.lines("logs")] == ["b"]


# -- disks that are full ---------------------------------------------------------------------------


class Disk:
    """Stands in for os.write: takes as many bytes as it has room for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 1 << 40
        self._write = os.write
        monkeypatch.setattr(_files.os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if not self.room and data:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written


def test_a_full_disk_is_counted_and_told_when_there_is_room_again(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(monkeypatch)
    spanyard.log.info("before")
    disk.room = 0
    with caplog.at_level(logging.WARNING, logger="spanyard"):
        for _ in range(3):
            spanyard.log.info("lost")
        spanyard.metrics.counter("c").add(1)
    assert len(caplog.records) == 1
    stats = spanyard.stats()
    assert stats.dropped == {"logs": 3, "metrics": 1}
    assert stats.errors == {"No space left on device": 4}
    disk.room = 1 << 40
    spanyard.log.info("after")
    messages = [x["message"] for x in spans_dir.lines("logs")]
    assert messages == [
        "before",
        "after",
        "spanyard: 4 events were not written: No space left on device",
    ]
    told = spans_dir.lines("logs")[2]
    assert told["level"] == "warn"
    assert told["attributes"] == {"spanyard.dropped": {"logs": 3, "metrics": 1}}
    assert spanyard.stats().written["logs"] == 3


@pytest.mark.parametrize("room", range(0, 200, 7))
def test_a_line_that_has_begun_is_brought_to_its_end(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    disk = Disk(monkeypatch)
    spanyard.log.info("first")
    disk.room = room
    for n in range(5):
        spanyard.log.info("full", n=n)
    disk.room = 3
    spanyard.log.info("still full")
    disk.room = 1 << 40
    spanyard.log.info("last")
    lines = [x for x in spans_dir.lines("logs") if not x["message"].startswith("spanyard")]
    assert lines[0]["message"] == "first"
    assert lines[-1]["message"] == "last"
    stats = spanyard.stats()
    assert len(lines) + stats.dropped["logs"] == 8
    assert len(spans_dir.lines("logs")) == stats.written["logs"]


def test_a_line_left_half_at_the_end_is_counted_as_lost(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    spanyard.log.info("whole")
    disk.room = 20
    spanyard.log.info("half")
    assert spanyard.stats().written == {"logs": 2}
    spanyard.shutdown()
    assert spanyard.stats().written == {"logs": 1}
    assert spanyard.stats().dropped == {"logs": 1}
    (file,) = spans_dir.files("logs")
    assert not file.name.endswith(".closed.jsonl")
    assert file.read_bytes().count(b"\n") == 1


def test_a_real_file_size_limit_leaves_whole_lines_or_one_half(tmp_path: Path) -> None:
    code = (
        "import resource, spanyard\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "for n in range(50): spanyard.log.info('x' * 100, n=n)\n"
        "s = spanyard.stats()\n"
        "print(s.written.get('logs', 0), s.dropped.get('logs', 0), list(s.errors))\n"
    )
    done = run(code, tmp_path)
    written, dropped, _ = done.stdout.split(maxsplit=2)
    assert int(written) + int(dropped) == 50
    assert "File too large" in done.stdout
    lines = read_all(tmp_path)
    assert len(lines) == int(written) - 1  # the one that the limit cut in half


def test_a_directory_that_cannot_be_made_is_counted_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spanyard.configure(spans_dir=tmp_path / "file" / "spans")
    try:
        for _ in range(100):
            spanyard.log.info("x")
        stats = spanyard.stats()
        assert stats.dropped == {"logs": 100}
        assert list(stats.errors) == ["Not a directory"]
    finally:
        spanyard.configure()


def test_a_failed_open_is_not_tried_for_every_event(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def refuse(*_: Any) -> int:
        nonlocal attempts
        attempts += 1
        raise OSError(errno.EACCES, "Permission denied")

    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(SpanFile, "_open", refuse)
        patch.setattr(time, "monotonic", lambda: now)
        for _ in range(1000):
            spanyard.log.info("x")
    assert attempts == 1
    assert spanyard.stats().dropped == {"logs": 1000}
    monkeypatch.setattr(time, "monotonic", lambda: now + 5)
    spanyard.log.info("y")
    assert spans_dir.lines("logs")[0]["message"] == "y"


def test_an_event_from_inside_a_write_is_dropped_and_counted(
    spans_dir: SpansDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    once = [True]

    def interrupted(fd: int, data: bytes) -> int:
        if once and once.pop():
            spanyard.log.info("from a signal handler")
        return write(fd, data)

    monkeypatch.setattr(_files.os, "write", interrupted)
    spanyard.log.info("a")
    assert spanyard.stats().errors == {"re-entered": 1}
    assert spans_dir.lines("logs")[0]["message"] == "a"


# -- processes -------------------------------------------------------------------------------------


def run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SPANYARD_SPANS_DIR": str(folder), **variables},
    )


def read_all(folder: Path, name: str = "logs") -> list[dict[str, Any]]:
    """Whole lines of all files; what is unterminated is left out."""
    lines = []
    for file in sorted((folder / name).iterdir()):
        whole, _, _ = file.read_bytes().rpartition(b"\n")
        lines += [json.loads(line) for line in whole.splitlines()]
    return lines


def test_variables_set_it_up_and_the_end_of_the_process_closes_it(tmp_path: Path) -> None:
    done = run(
        "import spanyard\nwith spanyard.span('a'): spanyard.log.info('x')\n"
        "print(spanyard.stats().enabled)",
        tmp_path,
        SPANYARD_SPANS_STARTS="false",
        OTEL_SERVICE_NAME="shop",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert [line["service"] for line in read_all(tmp_path)] == ["shop"]
    assert len(read_all(tmp_path, "spans")) == 1
    assert all(f.name.endswith(".closed.jsonl") for f in tmp_path.glob("*/*"))


def test_a_forked_child_opens_its_own_files_and_leaves_the_parents_alone(tmp_path: Path) -> None:
    code = (
        "import os, spanyard, sys\n"
        "spanyard.log.info('parent before')\n"
        "with spanyard.span('across') as s:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        spanyard.log.info('child')\n"
        "        with spanyard.span('in child'): pass\n"
        "    else:\n"
        "        os.waitpid(child, 0)\n"
        "        held = [f for f in os.listdir(os.environ['SPANYARD_SPANS_DIR'] + '/logs')"
        " if not f.endswith('.closed.jsonl')]\n"
        "        print(len(held))\n"
        "        spanyard.log.info('parent after')\n"
    )
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")
    logs = [file.read_text() for file in (tmp_path / "logs").iterdir()]
    messages = sorted([json.loads(line)["message"] for line in t.splitlines()] for t in logs)
    assert messages == [["child"], ["parent before", "parent after"]]
    spans = [line for line in read_all(tmp_path, "spans") if line["endTime"]]
    across, inner = sorted(spans, key=lambda line: line["name"])
    assert (across["name"], inner["name"]) == ("across", "in child")
    assert inner["parentSpanId"] == across["id"]


def test_a_child_does_not_keep_its_parents_file_locked(tmp_path: Path) -> None:
    code = (
        "import os, spanyard, time\n"
        "spanyard.log.info('parent')\n"
        "child = os.fork()\n"
        "if child:\n"
        "    print(child, flush=True); os._exit(0)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "SPANYARD_SPANS_DIR": str(tmp_path)},
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.wait(timeout=30)
        try:
            (file,) = (tmp_path / "logs").iterdir()
            deadline = time.monotonic() + 20
            while SystemFiles().is_locked(str(file)) and time.monotonic() < deadline:
                time.sleep(0.02)  # the child closes it as its first act
            assert not SystemFiles().is_locked(str(file))
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_fork_while_another_thread_writes_does_not_hang_the_child(tmp_path: Path) -> None:
    code = (
        "import os, spanyard, threading\n"
        "stop = threading.Event()\n"
        "def busy():\n"
        "    while not stop.is_set(): spanyard.log.info('busy')\n"
        "t = threading.Thread(target=busy); t.start()\n"
        "for n in range(20):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        spanyard.log.info('child', n=n); os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "stop.set(); t.join()\n"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0
    children = [x for x in read_all(tmp_path) if x["message"] == "child"]
    assert sorted(x["attributes"]["n"] for x in children) == list(range(20))


def test_a_killed_process_leaves_whole_lines_but_for_one_and_a_free_lock(
    tmp_path: Path,
) -> None:
    code = (
        "import itertools, spanyard, threading\n"
        "def work(n):\n"
        "    for k in itertools.count():\n"
        "        with spanyard.span('s', attributes={'n': n, 'k': k, 'x': 'y' * (k % 3000)}): pass\n"
        "for n in range(4): threading.Thread(target=work, args=(n,)).start()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "SPANYARD_SPANS_DIR": str(tmp_path),
            "SPANYARD_SPANS_FILE_SIZE": "1GB",  # one file, however long we are kept from looking
        },
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if any(f.stat().st_size > 200_000 for f in tmp_path.glob("spans/*.jsonl")):
                    break
                time.sleep(0.01)
        finally:
            process.kill()
    (file,) = tmp_path.glob("spans/*.jsonl")
    assert not SystemFiles().is_locked(str(file))
    text = file.read_bytes()
    # One write per line; the kernel may break off the very last one between two of its pages.
    whole, _, rest = text.rpartition(b"\n")
    assert b"{".startswith(rest[:1])
    seen: dict[int, int] = {}
    for raw in whole.splitlines():
        line = json.loads(raw)
        if line["endTime"]:
            n, k = line["attributes"]["n"], line["attributes"]["k"]
            assert k == seen.get(n, -1) + 1
            seen[n] = k
    assert len(text) > 200_000


# -- settings --------------------------------------------------------------------------------------


def test_wrong_variables_are_told_and_their_defaults_used() -> None:
    settings, troubles = read_settings(
        {"SPANYARD_SPANS_FILE_SIZE": "big", "SPANYARD_SPANS_STARTS": "maybe"}
    )
    assert (settings.file_size, settings.starts) == (10_000_000, True)
    assert "'big' is not a size" in troubles[0]
    assert "'maybe' is not true or false" in troubles[1]


def test_variables_are_read() -> None:
    settings, troubles = read_settings(
        {"SPANYARD_SPANS_DIR": "/s", "SPANYARD_SPANS_FILE_SIZE": "2MB", "OTEL_SERVICE_NAME": "x"}
    )
    assert (settings.spans_dir, settings.file_size, settings.service) == ("/s", 2_000_000, "x")
    assert troubles == []


def test_wrong_settings_in_code_are_refused() -> None:
    with pytest.raises(SettingError, match="file_size: 10 is not a size of at least 1024"):
        spanyard.configure(spans_dir="/x", file_size=10)


def test_reconfiguring_closes_what_was_open(spans_dir: SpansDir, tmp_path: Path) -> None:
    spanyard.log.info("a")
    spanyard.configure(spans_dir=tmp_path / "other")
    assert spans_dir.files("logs")[0].name.endswith(".closed.jsonl")
    lock = threading.Lock()
    with lock:
        spanyard.log.info("b")
    assert len(list((tmp_path / "other" / "logs").iterdir())) == 1
