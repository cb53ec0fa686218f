"""Fault points: free when unarmed, deadly when armed, told in a log."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spanyard_core.faults import FAULT_POINTS, fault_point, list_fault_points, set_hook

PASS_TWICE = (
    "from spanyard_core.faults import fault_point\n"
    "fault_point('spool.written'); print('once', flush=True)\n"
    "fault_point('upload.done'); fault_point('spool.written'); print('twice', flush=True)\n"
)


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )


def test_nothing_happens_when_nothing_is_armed() -> None:
    done = run(PASS_TWICE)
    assert (done.returncode, done.stdout) == (0, "once\ntwice\n")


@pytest.mark.parametrize(
    ("fault", "printed"), [("spool.written", ""), ("spool.written:2", "once\n")]
)
def test_an_armed_point_kills_the_process_at_its_nth_pass(fault: str, printed: str) -> None:
    done = run(PASS_TWICE, SPANYARD_FAULT=fault)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == printed


def test_an_unknown_point_is_refused_at_start() -> None:
    done = run(PASS_TWICE, SPANYARD_FAULT="spool.writen")
    assert done.returncode == 1
    assert "no fault point 'spool.writen'" in done.stderr


def test_the_log_names_each_point_at_its_first_pass_also_the_deadly_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(PASS_TWICE, SPANYARD_FAULT_LOG=str(log))
    assert log.read_text() == "spool.written\nupload.done\n"
    run(PASS_TWICE, SPANYARD_FAULT_LOG=str(log), SPANYARD_FAULT="upload.done")
    assert log.read_text().splitlines()[2:] == ["spool.written", "upload.done"]


def test_passing_a_point_that_is_not_listed_is_a_programming_error(tmp_path: Path) -> None:
    done = run(
        "from spanyard_core.faults import fault_point; fault_point('nowhere')",
        SPANYARD_FAULT_LOG=str(tmp_path / "log"),
    )
    assert "fault point 'nowhere' is not listed" in done.stderr


def test_a_hook_sees_every_pass_and_may_raise() -> None:
    seen: list[str] = []

    def hook(name: str) -> None:
        seen.append(name)
        if name == "upload.done":
            raise RuntimeError("killed here")

    set_hook(hook)
    try:
        fault_point("spool.written")
        with pytest.raises(RuntimeError, match="killed here"):
            fault_point("upload.done")
    finally:
        set_hook(None)
    fault_point("spool.written")
    assert seen == ["spool.written", "upload.done"]


def test_the_list_has_every_point_with_its_meaning() -> None:
    lines = list_fault_points().splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == list(FAULT_POINTS)
    assert all(meaning for _, meaning in (line.split("  ", 1) for line in lines))
