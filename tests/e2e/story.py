"""`spanyard up` with the talker, and somebody who edits it: what the page's story is told with."""

import json
import re
import shutil
import sys
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.e2e.asking import wait_for
from tests.fakes.ports import own_port
from tests.fakes.up import ROOT, Up

PROJECT = "local.story"
TALKER = "local.talker"
BUILD = "local.story"

MANIFEST = """
apiVersion: spanyard.dev/v1alpha1
kind: Project
metadata: {{name: story}}
---
apiVersion: spanyard.dev/v1alpha1
kind: Build
metadata: {{name: story}}
spec:
  project: story
  source: {{directory: {{path: .}}}}
  env: [{{name: GATES, value: {gates}}}]
  install: sh install.sh
  build: sh build.sh
---
apiVersion: spanyard.dev/v1alpha1
kind: Deployment
metadata: {{name: talker}}
spec:
  project: story
  follow: true
  command: {python} talker.py
  env: [{{name: GATES, value: {gates}}}]
  health: {{path: /health, period: 500ms, timeout: 20s, startupTimeout: 60s}}
"""

INSTALL = "echo made ready; seq -f 'part %.0f is there' 30"


class Later(threading.Thread):
    """A call in a thread of its own; `result` waits for it, and raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive(), "no answer"
        if self._error is not None:
            raise self._error
        return self._value


@dataclass
class Story:
    """The folder of an application, and the `up` that runs it."""

    folder: Path
    up: Up = field(init=False)
    gateway: str = field(init=False)
    _begun: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        self.gates = self.folder / "gates"
        self.app = self.folder / "app"
        self.gates.mkdir()
        self.app.mkdir()
        shutil.copy(ROOT / "tests" / "fakes" / "talker.py", self.app)
        manifest = MANIFEST.format(gates=self.gates, python=sys.executable)
        (self.app / "spanyard.yaml").write_text(manifest, "utf-8")
        (self.app / "install.sh").write_text(INSTALL, "utf-8")
        self.edit("echo built")
        self._port = own_port()
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self.up.__exit__(*error)

    def _begin(self) -> None:
        self.up = Up(self.folder / "data", self.app, port=self._port)
        self._begun = True
        self.gateway = self.up.address()

    def restart(self) -> None:
        """As after an accident: SIGKILL, and the same once more."""
        self.up.kill()
        self.up.__exit__(None, None, None)
        self._begin()

    def edit(self, script: str) -> None:
        """What the build does from now on."""
        self._built = {event["id"] for event in self.up.of("build")} if self._begun else set()
        (self.app / "build.sh").write_text(script, "utf-8")

    def build(self, phase: str, step: str = "") -> str:
        """The build since the last edit, once it is so far; its id."""
        event = self.up.until(
            lambda e: (
                e["event"] == "build"
                and e["id"] not in self._built
                and e["status"].get("phase") == phase
                and step in {"", e["status"].get("step")}
            )
        )
        return str(event["id"])

    def open(self, gate: str) -> None:
        """Let through what waits there."""
        (self.gates / gate).touch()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.up.endpoint(TALKER) + path, data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def say(self, *lines: str) -> None:
        """Have the server print them."""
        self._post("/say", {"lines": list(lines)})

    def ask(self, question: str, gate: str) -> Later:
        """Have it think until the gates open; the answer's trace id."""
        return Later(lambda: self._post("/ask", {"question": question, "gate": gate})["traceId"])

    def asked(self, question: str, gate: str) -> str:
        """The same with open gates; the trace, once it can be queried."""
        self.open(gate)
        self.open(f"{gate}-tool")
        trace = str(self.ask(question, gate).result())
        self.until(f"traces/{trace}")
        return trace

    def until(self, path: str) -> None:
        """Wait until the gateway has something there."""
        wait_for(self.gateway, path)

    def object(self, name: str, content: bytes) -> None:
        """An object of logs in the bucket, whole from the moment that it is seen."""
        place = self.folder / "data" / "bucket" / "observability" / "logs" / PROJECT
        place.mkdir(parents=True, exist_ok=True)
        temporary = place / f"{name}.tmp"
        temporary.write_bytes(content)
        temporary.rename(place / f"20261121T100000Z_{name}.jsonl")


def numbers(word: str, text: str) -> list[int]:
    """Those that stand behind the word, in order."""
    return [int(n) for n in re.findall(rf"{word} (\d+)", text)]
