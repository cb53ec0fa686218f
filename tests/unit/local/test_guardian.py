"""The guardian: what a killed command started ends too, in order, and the folder is held until then."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_local.holder import Holder
from spanyard_local.layout import FolderInUseError, Layout
from tests.fakes.shims import lives

HAS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
COMMAND = """
import subprocess, sys, time
from pathlib import Path
from spanyard_local.guardian import guarded
from spanyard_local.layout import Layout
with Layout(Path(sys.argv[1])).only_one(print) as hold:
    with guarded(held=[hold.descriptor], grace=0.5) as guardian:
        for number in sys.argv[3:]:
            child = subprocess.Popen([sys.executable, "-c", number], start_new_session=True)
            guardian.watch(child.pid)
            print(child.pid, flush=True)
            if sys.argv[2] == "ends":
                child.wait()
                guardian.forget(child.pid)
        if sys.argv[2] != "ends":
            time.sleep(60)
"""
SLEEPER = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list["subprocess.Popen[str]"]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(folder: Path, how: str, *programs: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", COMMAND, str(folder), how, *programs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_the_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "something still runs"
        time.sleep(0.02)


@HAS_PROC
def test_after_a_kill_everything_that_was_started_ends_also_what_is_deaf(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    command = start(tmp_path / "data", "stays", SLEEPER, DEAF)
    started.append(command)
    assert command.stdout
    pids = [int(command.stdout.readline()) for _ in range(2)]
    assert all(map(lives, pids))
    with pytest.raises(FolderInUseError), Layout(tmp_path / "data").only_one(print):
        pass
    command.send_signal(signal.SIGKILL)
    command.wait()
    told: list[str] = []
    with Layout(tmp_path / "data").only_one(told.append) as hold:
        # The folder is ours only when all of them are gone.
        wait_for_the_end(pids)
        assert hold.killed
    assert told in ([], ["the last run was killed; waiting for what it left to end …"])
    with Layout(tmp_path / "data").only_one(told.append) as hold:
        assert not hold.killed


def test_what_has_ended_is_forgotten_and_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    command = start(tmp_path / "data", "ends", "pass")
    out, _ = command.communicate(timeout=30)
    assert command.returncode == 0
    assert not lives(int(out))
    with Layout(tmp_path / "data").only_one(print) as hold:
        assert not hold.killed


@contextlib.contextmanager
def left_behind(layout: Layout) -> Iterator[Callable[[str], None]]:
    """The folder's lock is held, until the given function is told something."""
    with (layout.root / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda _: fcntl.flock(lock, fcntl.LOCK_UN)


@HAS_PROC
def test_what_a_killed_command_left_is_waited_for_also_when_nobody_took_note_of_its_end(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    layout = Layout(tmp_path / "data")
    command = start(layout.root, "ends", "import time; time.sleep(60)")
    started.append(command)
    assert command.stdout
    child = int(command.stdout.readline())
    command.kill()
    os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)
    wait_for_the_end([child])
    with left_behind(layout) as let_go, layout.only_one(let_go) as hold:
        assert hold.killed


@HAS_PROC
def test_a_stranger_that_was_given_the_number_of_a_killed_command_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "data")
    layout.make()
    lock = layout.root / "lock"
    lock.write_text(f"{os.getpid():<20}{1:<20}")
    with left_behind(layout) as let_go, layout.only_one(let_go) as hold:
        assert hold.killed
        with pytest.raises(FolderInUseError, match=f"by Ctrl-C .* or `kill {os.getpid()}`"):
            layout.only_one(print).__enter__()
    # Nobody is told to end a stranger, however long the lock is held.
    monkeypatch.setattr("spanyard_local.layout.LEFTOVERS_S", -1.0)
    lock.write_text(f"{os.getpid():<20}{1:<20}")
    with left_behind(layout), pytest.raises(FolderInUseError) as error:
        layout.only_one(print).__enter__()
    assert "kill" not in str(error.value)
    assert "process" not in str(error.value)


def test_the_lock_of_an_earlier_version_is_read_and_one_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "data")
    layout.make()
    (layout.root / "lock").write_text(f"{os.getpid():<20}")
    with left_behind(layout), pytest.raises(FolderInUseError, match=f"process {os.getpid()}"):
        layout.only_one(print).__enter__()
    monkeypatch.setattr("spanyard_local.holder._state_and_begin", lambda _: ("", ""))
    with (
        layout.only_one(print),
        pytest.raises(FolderInUseError, match=f"process {os.getpid()}"),
    ):
        layout.only_one(print).__enter__()


@HAS_PROC
def test_a_process_of_any_name_is_seen(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b c"
    odd.symlink_to(os.path.realpath(sys.executable))
    command = [odd, "-S", "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, env={"PYTHONHOME": sys.base_prefix}) as process:
        try:
            assert Holder(str(process.pid), "").lives()
            assert not Holder(str(process.pid), "1").lives()
        finally:
            process.kill()


def test_the_address_of_a_server_that_was_killed_is_not_believed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for text, address in (
        (f'{{"url": "http://127.0.0.1:8080", "pid": {gone.pid}}}', None),
        (f'{{"url": "http://127.0.0.1:8080", "pid": {os.getpid()}}}', "http://127.0.0.1:8080"),
        ("[]", None),
        ("{", None),
    ):
        layout.server_file.write_text(text)
        assert layout.running_server() == address


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SpanyardError, match="give another folder with --data"),
        Layout(tmp_path / "file").only_one(print),
    ):
        pass


def test_a_mistake_is_no_kill_and_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    with pytest.raises(KeyError), layout.only_one(print):
        raise KeyError
    with layout.only_one(print) as hold:
        assert not hold.killed
    assert layout.root.stat().st_mode & 0o077 == 0


def test_a_full_disk_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        pytest.raises(SpanyardError, match=r"data'?: No space left on device; make room"),
        Layout(tmp_path / "data").only_one(print),
    ):
        pass
