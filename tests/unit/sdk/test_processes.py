"""Forks at the worst moment, and the order in which a process ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.files import SystemFiles

SLOW_OPEN = r"""
import os, sys, threading, time
import spanyard
from spanyard import _process
_process._FORK_SECONDS = float(sys.argv[1])
opening = threading.Event()
rename = os.rename
def slow(*names):
    opening.set()
    time.sleep(float(sys.argv[2]))
    rename(*names)
os.rename = slow
thread = threading.Thread(target=spanyard.log.info, args=("parent",), daemon=True)
thread.start()
opening.wait(20)
began = time.monotonic()
child = os.fork()
if not child:
    os.rename = rename
    spanyard.log.info("child")
    os.write(1, b"ready\n")
    time.sleep(60)
    os._exit(0)
thread.join(20 if sys.argv[3] == "join" else 0)
os.write(1, b"%d\n" % child)
os._exit(0)
"""


def run(code: str, folder: Path, *args: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SPANYARD_SPANS_DIR": str(folder), **variables},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def messages(folder: Path, pattern: str) -> dict[str, str]:
    """Message → name of the file that holds it."""
    found: dict[str, str] = {}
    for file in folder.glob(pattern):
        for raw in file.read_bytes().splitlines():
            line: dict[str, Any] = json.loads(raw)
            assert line["message"] not in found, "written twice"
            found[line["message"]] = str(file)
    return found


def forked(tmp_path: Path, *args: str) -> tuple[int, dict[str, str]]:
    """A process that forked while a file was opened, and has ended; its child lives."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_OPEN, *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SPANYARD_SPANS_DIR": str(tmp_path)},
    ) as parent:
        assert parent.stdout is not None
        first, second = parent.stdout.readline().strip(), parent.stdout.readline().strip()
        parent.wait(timeout=30)
    child = int(second if first == "ready" else first)
    return child, messages(tmp_path, "logs/*.jsonl")


def test_a_fork_while_a_file_is_opened_leaves_its_lock_with_the_parent(tmp_path: Path) -> None:
    child, found = forked(tmp_path, "20", "0.3", "join")
    try:
        assert not SystemFiles().is_locked(found["parent"]), "the child holds the parent's file"
        assert SystemFiles().is_locked(found["child"])
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_disk_that_hangs_does_not_hold_a_fork(tmp_path: Path) -> None:
    child, found = forked(tmp_path, "0.05", "60", "leave")
    try:
        assert list(found) == ["child"]
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("fork_seconds", ["20", "0.05"])
def test_a_fork_while_logging_is_configured_does_not_hang(
    tmp_path: Path, fork_seconds: str
) -> None:
    """Somebody holds the lock of `logging` and comes to us; the fork takes both, however late."""
    code = """
import logging, os, sys, threading, time
import spanyard
from spanyard import _process
_process._FORK_SECONDS = float(sys.argv[1])
spanyard.log.info("before")
inside = threading.Event()
def configure():
    with logging._lock:
        inside.set()
        time.sleep(0.3)
        spanyard.log.info("from a handler that is flushed")
thread = threading.Thread(target=configure, daemon=True)
thread.start()
inside.wait(20)
child = os.fork()
if not child:
    logging.getLogger("child").debug("its locks are free")
    spanyard.log.info("child")
    os._exit(0)
os.waitpid(child, 0)
thread.join(20)
"""
    run(code, tmp_path, fork_seconds)
    expected = {"before", "from a handler that is flushed", "child"}
    assert set(messages(tmp_path, "logs/*.jsonl")) == expected


def test_what_is_recorded_while_a_process_ends_is_stored(tmp_path: Path) -> None:
    """By handlers that were registered before us, by threads, by the shutdown of logging."""
    code = """
import atexit, logging, logging.handlers, sys, threading, time
@atexit.register
def last():
    spanyard.log.info("after the end")
    writer.record_log(message="after the end")
import spanyard
class Forward(logging.Handler):
    def emit(self, record):
        spanyard.log.info(record.getMessage())
        writer.record_log(message=record.getMessage())
logging.getLogger().addHandler(logging.handlers.MemoryHandler(99, 99, Forward()))
writer = spanyard.ObservabilityWriter(sys.argv[1], project="team.shop", flush_interval=3600)
never_used = spanyard.ObservabilityWriter(sys.argv[1], project="team.shop")
@atexit.register
def first():
    spanyard.log.info("before the end")
    writer.record_log(message="before the end")
def work():
    threading.main_thread().join()
    spanyard.log.info("by a thread")
    writer.record_log(message="by a thread")
threading.Thread(target=work).start()
spanyard.log.info("running")
writer.record_log(message="running")
logging.getLogger().error("held back")
"""
    run(code, tmp_path / "spans", str(tmp_path / "observability"))
    expected = {"running", "by a thread", "before the end", "after the end", "held back"}
    spans = messages(tmp_path, "spans/logs/*.jsonl")
    assert set(spans) == expected
    assert spans["running"].endswith(".closed.jsonl")
    assert not any(SystemFiles().is_locked(file) for file in spans.values())
    assert set(messages(tmp_path, "observability/logs/*/*.jsonl")) == expected


def test_a_worker_of_multiprocessing_writes_what_it_has_before_it_ends(tmp_path: Path) -> None:
    code = """
import multiprocessing, sys
import spanyard
writer = spanyard.ObservabilityWriter(sys.argv[1], project="team.shop", flush_interval=3600)
def work(n):
    spanyard.log.info(f"worker {n}")
    writer.record_log(message=f"worker {n}")
writer.record_log(message="parent")
workers = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
"""
    run(code, tmp_path / "spans", str(tmp_path / "observability"))
    workers = {f"worker {n}" for n in range(3)}
    assert set(messages(tmp_path, "spans/logs/*.jsonl")) == workers
    assert set(messages(tmp_path, "observability/logs/*/*.jsonl")) == {*workers, "parent"}
