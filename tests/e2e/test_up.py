"""`spanyard up` as an application developer uses it: a folder, edits, Ctrl-C, the next day."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spanyard_core.resources.kinds import DeploymentSpec
from tests.fakes.ports import kept, nobodys
from tests.fakes.up import PATIENCE_S, ROOT, Up, environment, marked, run

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

APP = """
import http.server, os, signal, sys
VERSION = "one"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked", self.path, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(VERSION.encode())
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: (print("ends in order", flush=True), os._exit(0)))
print("begins", flush=True)
server.serve_forever()
"""


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def rows(up: Up, path: str) -> list[dict[str, str]]:
    items: list[dict[str, str]] = json.loads(get(up.address() + path))["items"]
    return items


def until_answers(url: str, wanted: str) -> None:
    """Ask until the answer is another; every request on the way is answered."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := get(url)) != wanted:
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)


def test_a_folder_is_guessed_served_edited_and_there_again_the_next_day(tmp_path: Path) -> None:
    app, data = tmp_path / "my-app", tmp_path / "data"
    app.mkdir()
    (app / "main.py").write_text(APP)
    with nobodys(DeploymentSpec(project="").port), Up(data, app, "--save") as up:
        guessed = up.until(lambda e: e["event"] == "guess")
        assert "python3 main.py" in guessed["yaml"]
        assert (app / "spanyard.yaml").read_text() == guessed["yaml"]
        url = up.endpoint("local.my-app")
        assert get(f"{url}/a") == "one"

        (app / "main.py").write_text(APP.replace('"one"', '"two"'))
        until_answers(url, "two")
        assert up.endpoint("local.my-app", revision=2) == url

        # YAML that is wrong, a build that fails, a server that never comes up: what serves goes on.
        text = guessed["yaml"]
        (app / "spanyard.yaml").write_text(text.replace("follow: true", "folow: true"))
        problem = up.until(lambda e: e["event"] == "problem")
        assert "did you mean `spec.follow`?" in problem["message"]
        assert f"{app}/spanyard.yaml" in problem["message"]
        (app / "spanyard.yaml").write_text(text)
        (app / "main.py").write_text("import nothing_of_this_name\n")
        bad = up.until(
            lambda e: (
                e["event"] == "deployment" and (e["status"].get("failure") or {}).get("lastLines")
            )
        )
        assert "nothing_of_this_name" in str(bad["status"]["failure"]["lastLines"])
        assert get(url) == "two"
        (app / "main.py").write_text(APP.replace('"one"', '"three"'))
        until_answers(url, "three")

        builds = rows(up, "/builds")
        assert {b["id"] for b in builds} == {
            "local.my-app", "local.my-app-2", "local.my-app-3", "local.my-app-4"
        }  # fmt: skip
        assert up.end() == 0
        end = up.of("end")[-1]
        assert (end["ok"], end["proof"]["missing"], end["proof"]["open"]) == (True, 0, 0)
        assert up.lines().count("ends in order") == 3
        assert up.of("stored")[-1]["records"]["logs"] >= len(up.lines())
    assert list((data / "runs").iterdir()) == []

    port = urlsplit(url).port
    assert port
    with kept(port), Up(data) as up:  # no arguments: it goes on with what ran there
        assert up.endpoint("local.my-app") == url
        assert get(url) == "three"
        (app / "README.md").write_text("an edit")
        up.until(lambda e: e["event"] == "build" and e["id"] == "local.my-app-5")
        assert up.end() == 0
        assert not [e for e in up.of("applied") if e["id"] == "local.my-app-4"]


def test_once_tells_a_failed_build_with_its_last_lines_and_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "--once", "--quiet", ROOT / "examples/failing-build")
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout
    assert re.search(r"✗ install +[\d.]+ s, exit code 3", told)
    assert "build failed in install: install ended with exit code 3" in told
    assert "→ Read the last lines below" in told
    assert told.rindex("error: no spanyard-example-of-a-missing-package") > told.index("→ Read")
    assert "Complete: every record is stored once." in told


def test_two_at_once_a_second_ctrl_c_and_what_the_next_one_finds(tmp_path: Path) -> None:
    app, data, mark = tmp_path / "slow", tmp_path / "data", f"up-{uuid.uuid4().hex}"
    app.mkdir()
    (app / "spanyard.yaml").write_text(f"""
apiVersion: spanyard.dev/v1alpha1
kind: Project
metadata: {{name: slow}}
---
apiVersion: spanyard.dev/v1alpha1
kind: Build
metadata: {{name: slow}}
spec:
  project: slow
  source: {{directory: {{path: .}}}}
  env: [{{name: MARK, value: {mark}}}]
  install: "trap '' TERM; for i in 1 2 3; do echo line $i; done; test -f {tmp_path}/go || sleep 600"
""")
    with Up(data, app) as up:
        up.until(lambda e: e["event"] == "line" and e["message"] == "line 3")
        other = run(data, app)
        assert other.returncode == 1
        assert f"process {up.process.pid}, {up.address()}" in other.stderr
        assert "`spanyard deploy PATH`" in other.stderr
        assert marked(mark)
        up.process.send_signal(signal.SIGINT)
        up.until(lambda e: "ending servers" in e.get("message", ""))
        up.process.send_signal(signal.SIGINT)
        assert up.wait() == 130
    (tmp_path / "go").touch()
    with Up(data, app, "--once") as up:
        assert up.wait() == 0, up.events[-5:]
        last = [e["status"] for e in up.of("build")][-1]
        assert (last["phase"], last["attempt"], last["logComplete"]) == ("Succeeded", 2, True)
    assert marked(mark) == []
    log = (data / "bucket/builds/local.slow/build.log").read_text()
    assert log.count("line 3\n") == 2


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["nowhere"], "nowhere: there is no such file or folder", 1),
        (["--host", "0.0.0.0", "."], "is not an address of this machine alone", 2),
        (["--build-jobs", "0", "."], "'0' is not a number from 1 to 64", 2),
        (["--for", "soon", "."], "'soon' is no duration", 2),
        (["-f", "README.md"], "README.md", 1),
        (["--data", "/dev/null/x", "examples/prebuilt"], "give another folder with --data", 1),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_started(
    tmp_path: Path, words: list[str], told: str, code: int
) -> None:
    data = [] if "--data" in words else ["--data", str(tmp_path / "data")]
    done = subprocess.run(
        [sys.executable, "-m", "spanyard_local", "up", *words, *data],
        check=False, capture_output=True, text=True, timeout=120, env=environment(), cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, told in done.stderr) == (code, True), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
