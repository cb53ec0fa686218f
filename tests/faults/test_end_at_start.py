"""SIGTERM that comes while a process is being loaded: held back, and taken as soon as it listens.

The kernel drops it for process 1 of a container that has no handler. Here it is ignored from the
start, which is the same to who does not hold it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from spanyard_core.chunks import decoded_blocks
from tests.fakes.ports import own_port
from tests.fakes.processes import Program, clean_environ, wait_for

pytestmark = [pytest.mark.kill, pytest.mark.slow]

IGNORING = ("sh", "-c", "trap '' TERM; exec \"$@\"", "sh")
AS_LINUX_HAS_IT = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a held signal that is ignored may be dropped"
)
SLOW = """
import os, sys, time

class Slow:
    # An import that every program makes waits for `go`.
    def find_spec(self, name, path=None, target=None):
        if name == "spanyard_core.settings" and os.environ.get("SLOW_WITH", "PATH") in os.environ:
            open(os.environ["SLOW"] + "/waits", "w").close()
            while not os.path.exists(os.environ["SLOW"] + "/go"):
                time.sleep(0.01)

sys.meta_path.insert(0, Slow())
"""
LINE = "2026-11-21T14:45:00.000000000Z stdout F "


def slow(folder: Path) -> dict[str, str]:
    """Variables of a program that waits in the middle of its imports."""
    (folder / "slow").mkdir()
    (folder / "slow/sitecustomize.py").write_text(SLOW)
    path = os.pathsep.join((str(folder / "slow"), os.environ.get("PYTHONPATH", "")))
    return {"PYTHONPATH": path, "SLOW": str(folder / "slow")}


def told_while_it_is_loaded(program: Program, folder: Path) -> int:
    """SIGTERM in the middle of the imports; gives the exit code."""
    wait_for("the imports", (folder / "slow/waits").exists)
    program.process.send_signal(signal.SIGTERM)
    (folder / "slow/go").touch()
    try:
        return program.process.wait(60)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not end:\n{program.text()[-4000:]}")


def logs(folder: Path) -> str:
    """A container's log of 100 lines; gives the folder for --logs."""
    (folder / "logs/app").mkdir(parents=True)
    (folder / "logs/app/0.log").write_text("".join(f"{LINE}line {n}\n" for n in range(100)))
    return str(folder / "logs")


def stored(folder: Path) -> tuple[int, list[str]]:
    """Log lines in the bucket, and the events of their writers."""
    lines = [
        msgspec.json.decode(line)
        for path in sorted(folder.glob("bucket/observability/**/*.zst"))
        for block in decoded_blocks(path.read_bytes())
        for line in block.splitlines()
    ]
    events = [line["event"] for line in lines if line["type"] == "gap"]
    return sum(line["type"] == "log" for line in lines), events


@AS_LINUX_HAS_IT
def test_a_collector_reads_and_stores_what_there_is_and_writes_its_end_lines(
    tmp_path: Path,
) -> None:
    flags = [
        *("--storage", f"file://{tmp_path}/bucket", "--project", "ns.app", "--port", "0"),
        *("--spool", f"{tmp_path}/spool", "--logs", logs(tmp_path), "--otlp-port", "0"),
    ]
    with Program(
        "spanyard_sidecar", flags,
        log=tmp_path / "log", environ=slow(tmp_path), before=IGNORING,
    ) as program:  # fmt: skip
        assert told_while_it_is_loaded(program, tmp_path) == 0
    assert stored(tmp_path) == (100, ["begin", "end"])


def test_a_collector_that_begins_again_does_too(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where a folder should be")
    environ = {
        **slow(tmp_path),
        "SLOW_WITH": "SPANYARD_FAILURES_IN_A_ROW",
        "SPANYARD_STORAGE": f"file://{tmp_path}/bucket",
        "SPANYARD_PROJECT": "ns.app",
        "SPANYARD_SPOOL": f"{tmp_path}/spool",
        "SPANYARD_LOGS": logs(tmp_path),
        "SPANYARD_PORT": str(own_port()),
        "SPANYARD_OTLP_PORT": "0",
        "SPANYARD_MUST_START": "true",
    }
    with Program("spanyard_sidecar", [], log=tmp_path / "log", environ=environ) as program:
        wait_for("it to stand by", lambda: "standing by" in program.text())
        (tmp_path / "spool").unlink()
        assert told_while_it_is_loaded(program, tmp_path) == 0
    assert stored(tmp_path) == (100, ["begin", "end"])


BETWEEN = """
import os, signal, sys
from spanyard_core.end_signals import hold
from spanyard_sidecar import process, standby

def tell():
    os.kill(os.getpid(), signal.SIGTERM)

hold()
tell()
assert standby.stand_by("", [], 60), "told before it began"
assert not standby.stand_by("", [], 0.01)
tell()
assert standby.stand_by("", [], 60), "told after the one before"

async def broken(_):
    raise OSError("the disk went away")

def told_meanwhile(_):
    tell()
    return 60

process.Collector.open = broken
process.pause_after = told_meanwhile
process.main(sys.argv[1:])
"""


def test_a_collector_that_fails_hears_it_when_it_stands_by(tmp_path: Path) -> None:
    flags = [
        *("--storage", f"file://{tmp_path}/bucket", "--project", "ns.app", "--must-start"),
        *("--spool", f"{tmp_path}/spool", "--port", "0", "--otlp-port", "0"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", BETWEEN, *flags],
        capture_output=True, text=True, timeout=60, env=clean_environ(), check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "beginning again in 60 s: the disk went away" in done.stderr


FAILING = """
import sys
from spanyard_sidecar import process

async def broken(_, stop):
    print("works", file=sys.stderr, flush=True)
    await stop.wait()
    raise OSError("the disk is away for a moment")

process.Collector.run = broken
process.main(sys.argv[1:])
"""


def test_a_collector_that_fails_while_it_ends_begins_again_and_ends(tmp_path: Path) -> None:
    flags = [
        *("--storage", f"file://{tmp_path}/bucket", "--project", "ns.app", "--must-start"),
        *("--spool", f"{tmp_path}/spool", "--logs", logs(tmp_path)),
        *("--port", "0", "--otlp-port", "0"),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", FAILING, *flags],
        stderr=subprocess.PIPE, text=True, env=clean_environ(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            if not any("works" in line for line in iter(process.stderr.readline, "")):
                pytest.fail(f"it ended by itself: {process.wait()}")
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert "beginning again in 1 s: the disk is away" in said
    assert process.returncode == 0, said
    assert stored(tmp_path) == (100, ["begin", "end"])


def nowhere(folder: Path) -> dict[str, list[str]]:
    """Module → flags with which it waits for something that does not come, or begins to serve."""
    (folder / "kubeconfig").write_text(
        '{"current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a"}}],'
        f' "clusters": [{{"name": "a", "cluster": {{"server": "http://127.0.0.1:{own_port()}"}}}}]}}'
    )
    (folder / "bucket").mkdir()
    storage = ["--storage", f"file://{folder}/bucket"]
    away = ["--clickhouse", f"http://127.0.0.1:{own_port()}/spanyard"]
    return {
        "spanyard_gateway": [*storage, *away, "--port", "0"],
        "spanyard_ingester": [*storage, *away, "--port", "0"],
        "spanyard_operator": [
            *storage, "--gateway", "http://gateway.test:8080", "--listen", "127.0.0.1",
            "--own-namespace", "spanyard", "--kubeconfig", f"{folder}/kubeconfig", "--port", "0",
        ],
        "spanyard_local.evaluation": [*away, "--data", f"{folder}/data", "--port", "0"],
    }  # fmt: skip


@AS_LINUX_HAS_IT
@pytest.mark.parametrize(
    "module",
    ["spanyard_gateway", "spanyard_ingester", "spanyard_operator", "spanyard_local.evaluation"],
)
def test_a_server_ends_in_order(tmp_path: Path, module: str) -> None:
    with Program(
        module, nowhere(tmp_path)[module],
        log=tmp_path / "log", environ=slow(tmp_path), before=IGNORING,
    ) as program:  # fmt: skip
        assert told_while_it_is_loaded(program, tmp_path) == 0, program.text()


@AS_LINUX_HAS_IT
def test_a_step_of_a_build_says_that_it_was_ended(tmp_path: Path) -> None:
    flags = ["fetch", "--source", "https://git.invalid/a.git", "--into", f"{tmp_path}/src"]
    with Program(
        "spanyard_sidecar", flags,
        log=tmp_path / "log", environ=slow(tmp_path), before=IGNORING,
    ) as program:  # fmt: skip
        assert told_while_it_is_loaded(program, tmp_path) == 143
        assert "ended by SIGTERM" in program.text()


def test_a_command_without_handlers_ends_by_it_as_ever(tmp_path: Path) -> None:
    flags = ["rebuild", *nowhere(tmp_path)["spanyard_ingester"]]
    with Program("spanyard_ingester", flags, log=tmp_path / "log") as program:
        wait_for("it to wait", lambda: "waiting for ClickHouse" in program.text())
        assert program.stop() == -signal.SIGTERM


def held_in(path: Path) -> bool:
    """Whether a thread of /proc holds SIGTERM back."""
    (mask,) = [line for line in path.read_text().splitlines() if line.startswith("SigBlk:")]
    return bool(int(mask.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_no_thread_and_no_child_is_started_while_signals_are_held(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin/git"
    # No shell: it might release by itself.
    git.write_text(
        f"#!{sys.executable} -SE\n"
        "import os\n"
        f"with open('{tmp_path}/git.new', 'w') as out:\n"
        "    out.write(open('/proc/self/status').read())\n"
        f"os.rename('{tmp_path}/git.new', '{tmp_path}/git')\n"
    )
    git.chmod(0o755)
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    flags = ["fetch", "--source", "https://git.invalid/a.git", "--into", f"{tmp_path}/src"]
    with Program("spanyard_sidecar", flags, log=tmp_path / "log", environ=path):
        wait_for("git", (tmp_path / "git").exists)
        assert not held_in(tmp_path / "git")

    flags = [
        *("--storage", f"file://{tmp_path}/bucket", "--project", "ns.app", "--port", "0"),
        *("--spool", f"{tmp_path}/spool", "--logs", logs(tmp_path), "--otlp-port", "0"),
        *("--flush-interval", "100ms"),
    ]
    with Program("spanyard_sidecar", flags, log=tmp_path / "log") as program:
        wait_for("an object", lambda: list(tmp_path.glob("bucket/observability/**/*.zst")))
        threads = list(Path(f"/proc/{program.pid}/task").iterdir())
        assert len(threads) > 1
        assert not [thread for thread in threads if held_in(thread / "status")]
