"""The commands beside a real `spanyard up`: deploy, follow, cancel, with the exit codes they promise."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.fakes.ports import own_port
from tests.fakes.up import ROOT, Up, environment

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

HEAD = "apiVersion: spanyard.dev/v1alpha1\n"
SLOW = f"""{HEAD}kind: Project
metadata: {{name: slow}}
---
{HEAD}kind: Build
metadata: {{name: slow}}
spec:
  project: slow
  source: {{directory: {{path: .}}}}
  build: "for i in $(seq 1 30); do echo step $i; done; until [ -e GATE ]; do sleep 0.1; done;
    for i in $(seq 31 60); do echo step $i; sleep 0.02; done"
"""
ENDLESS = SLOW.replace("slow", "endless")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    with Up(folder / ".spanyard", ROOT / "examples" / "node-server", cwd=folder) as up:
        up.endpoint("local.node-server")
        yield up


class Here:
    """A user in the folder in which it runs."""

    def __init__(self, up: Up, folder: Path) -> None:
        self.environment = environment(SPANYARD_SERVER=up.address())
        self.folder = folder

        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "spanyard_local", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env=self.environment,
        )  # fmt: skip
        self._started.append(process)
        return process

    def end(self) -> None:
        """Leave nothing behind, whatever a test came to."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run(self, *words: str | Path, code: int = 0) -> tuple[str, str]:
        process = self.start(*words)
        out, error = process.communicate(timeout=240)
        assert process.returncode == code, out + error
        return out, error


@pytest.fixture
def here(up: Up, tmp_path: Path) -> Iterator[Here]:
    here = Here(up, tmp_path)
    yield here
    here.end()


def ask(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as answer:
        status: int = answer.status
        return status


def test_deploy_builds_and_serves_and_says_why_it_does_not(here: Here, tmp_path: Path) -> None:
    app = tmp_path / "hello"
    app.mkdir()
    (app / "main.py").write_text(
        "import http.server, os\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])),"
        " http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    out, error = here.run("deploy", app)
    assert "guessed from main.py" in error
    assert "hello is ready  http://127.0.0.1:" in out
    address = here.run("address", "hello")[0].strip()
    assert ask(address) == 200
    out, error = here.run("deploy", app)
    assert "is of just this; nothing to build" in error
    (app / "main.py").write_text("raise SystemExit('no such model')\n")
    out, error = here.run("deploy", app, code=1)
    assert "no such model" in error, "the last lines of the right log"
    assert ask(address) == 200, "a bad revision never replaces a healthy one"
    out, error = here.run("deploy", ROOT / "examples" / "failing-build", code=1)
    assert "StepFailed in step install" in error
    out, _ = here.run("deploy", ROOT / "examples" / "failing-build", "-o", "json", code=1)
    resources = {r["kind"]: r["status"] for r in json.loads(out)["resources"]}
    assert resources["Build"]["failure"]["exitCode"] == 3


def test_a_build_is_followed_line_by_line_while_it_runs(here: Here, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "spanyard.yaml").write_text(SLOW.replace("GATE", str(gate)))
    here.run("deploy", tmp_path, "--no-wait")
    process = here.start("build-log", "slow", "-f")
    assert process.stdout is not None
    steps = []
    for line in process.stdout:
        if line.startswith("step "):
            steps.append(line.strip())
        if line == "step 30\n":  # shown while it runs, not at its end
            gate.touch()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert steps == [f"step {n}" for n in range(1, 61)]
    out, error = here.run("build-log", "slow")
    assert [x for x in out.splitlines() if x.startswith("step ")] == steps
    assert error == ""


def test_a_cancelled_build_ends_its_follower_with_1(here: Here, tmp_path: Path) -> None:
    (tmp_path / "spanyard.yaml").write_text(ENDLESS)
    here.run("deploy", tmp_path, "--no-wait")
    follower = here.start("build-log", "endless", "-f")
    assert follower.stdout is not None
    while not follower.stdout.readline().startswith("step"):
        assert follower.poll() is None
    assert here.run("cancel", "endless")[0] == "build local.endless is being cancelled\n"
    _, error = follower.communicate(timeout=120)
    assert (follower.returncode, "build local.endless: cancelled" in error) == (1, True), error
    here.run("cancel", "endless")  # said twice, it is as well
    assert "is succeeded already" in here.run("cancel", "node-server", code=1)[1]
    assert "Cancelled" in here.run("builds", "endless")[0]


def test_log_lines_are_followed_each_once(here: Here, up: Up) -> None:
    follower = here.start("logs", "dice", "-f", "-o", "jsonl", "--deployment", "node-server")
    found: list[str] = []
    reader = threading.Thread(
        target=lambda: found.extend(follower.stdout or ()),
        daemon=True,
    )
    reader.start()
    address = here.run("address", "node-server")[0].strip()
    time.sleep(1)
    for _ in range(30):
        ask(f"{address}/roll?sides=6")
    deadline = time.monotonic() + 120

    def stored() -> list[str]:
        out, _ = here.run("logs", "dice", "-n", "all", "-o", "jsonl", "--deployment", "node-server")
        return [json.loads(line)["recordId"] for line in out.splitlines()]

    wanted = 0
    while time.monotonic() < deadline:
        wanted = len(stored())
        if wanted >= 30 and len(found) >= wanted:
            break
        time.sleep(0.5)
    follower.kill()
    follower.wait()
    reader.join()
    ids = [json.loads(line)["recordId"] for line in found]
    assert len(ids) == len(set(ids))
    assert set(ids) >= set(stored()[:wanted])
    assert wanted >= 30


def test_a_line_is_shown_before_it_is_stored_and_what_runs_is_watched(here: Here) -> None:
    follower = here.start("logs", "dice", "-f", "-n", "1", "-o", "jsonl")
    assert follower.stdout is not None
    address = here.run("address", "node-server")[0].strip()
    ask(f"{address}/roll?sides=6")
    late: list[float] = []
    for _ in range(20):
        line = json.loads(follower.stdout.readline())
        late.append(
            time.time() - datetime.fromisoformat(line["timestamp"][:26] + "+00:00").timestamp()
        )
        ask(f"{address}/roll?sides=6")
    assert min(late) < 4, "stored lines come seconds later: the flush interval alone is 5 s"
    assert "recordedAt" not in line, "it is not stored yet"
    found = json.loads(here.run("top", "--once", "-o", "json")[0])
    [server] = [row for row in found if row["id"] == "local.node-server"]
    assert (server["healthy"], server["readyReplicas"]) == (True, 1)
    trace = line["traceId"]
    spans = [json.loads(text) for text in here.run("trace", trace, "--live")[0].splitlines()]
    assert {span["traceId"] for span in spans} == {trace}
    assert all(span["endTime"] for span in spans if span["type"] == "span:ended")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 130


def test_a_follower_goes_on_without_loss_or_repeat_when_its_gateway_is_killed(
    tmp_path: Path,
) -> None:
    """A run of its own, because the gateway of a laptop is killed with all beside it."""
    data, example = tmp_path / ".spanyard", ROOT / "examples" / "node-server"
    port = own_port()
    with Up(data, example, cwd=tmp_path, port=port) as up:
        here = Here(up, tmp_path)
        follower = here.start("logs", "dice", "-f", "-n", "all", "-o", "jsonl")
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.extend(follower.stdout or ()), daemon=True)
        reader.start()
        roll(up, 5)
        wait_until(lambda: sum("threw" in line for line in found) >= 5)
        roll(up, 5)
        up.kill()
    try:
        with Up(data, example, cwd=tmp_path, port=port) as up:
            roll(up, 5)
            # Those of the killed run too.
            wait_until(lambda: sum("threw" in line for line in found) >= 15)
            wait_until(lambda: shown_ids(found) >= stored_ids(here) != set())
            follower.send_signal(signal.SIGINT)
            assert follower.wait(60) == 130
            assert follower.stderr is not None
            said = follower.stderr.read()  # what is printed has its reader
            assert ("trying again" in said, "goes on where it was" in said) == (True, True), said
            assert "Traceback" not in said
            reader.join(10)
            assert len(shown_ids(found)) == len(found), "none twice"
    finally:
        here.end()


def roll(up: Up, times: int) -> None:
    address = up.endpoint("local.node-server")
    for _ in range(times):
        ask(f"{address}/roll?sides=6")


def wait_until(holds: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def shown_ids(lines: list[str]) -> set[str]:
    return {json.loads(line)["recordId"] for line in list(lines)}


def stored_ids(here: Here) -> set[str]:
    out, _ = here.run("logs", "dice", "-n", "all", "-o", "jsonl")
    return shown_ids(out.splitlines())
