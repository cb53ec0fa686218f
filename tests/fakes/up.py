"""`spanyard up` as a process: its events read, ended in order or by SIGKILL, by its own number."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
Event = dict[str, Any]
PATIENCE_S = 240.0
"""Of whoever waits for something that surely comes: a start alone is a minute on a busy machine."""


def environment(**more: str) -> dict[str, str]:
    """Ours without what would steer it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPANYARD_", "OTEL_"))}
    return {**kept, **more}


class Up:
    """One run of it. Leave the block, and nothing of it is left. `port`: the gateway's, again."""

    def __init__(self, data: Path, *words: str | Path, cwd: Path = ROOT, port: int = 0) -> None:
        command = [sys.executable, "-m", "spanyard_local", "up", *map(str, words)]
        command += ["--data", str(data), "-o", "json", "--port", str(port)]
        command += ["--clickhouse-port", "0"]
        command += ["--build-dir", str(data.parent / f"{data.name}-builds")]
        self.errors = data.parent / f"{data.name}.stderr"
        self._log = self.errors.open("ab")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, cwd=cwd, env=environment()
        )
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                assert self.process.wait() == -signal.SIGKILL, line  # which cut it off
                break
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def until(self, wanted: Callable[[Event], Any], seconds: float = PATIENCE_S) -> Event:
        """The first event, now or later, of which `wanted` is true."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                for event in self.events[seen:]:
                    if wanted(event):
                        return event
                seen = len(self.events)
                left = deadline - time.monotonic()
                ended = not self._reader.is_alive()
                if left <= 0 or ended or not self._changed.wait(min(left, 1.0)):
                    if left > 0 and not ended:
                        continue
                    if ended and seen < len(self.events):
                        continue
                    raise AssertionError(
                        f"{'it ended' if ended else 'too late'}; events {self.events[-15:]}, "
                        f"stderr {self.errors.read_text()[-2000:]}"
                    )

    def of(self, name: str) -> list[Event]:
        """Events of a name, so far."""
        with self._changed:
            return [event for event in self.events if event["event"] == name]

    def lines(self) -> list[str]:
        """Lines of builds and servers, so far."""
        return [event["message"] for event in self.of("line")]

    def address(self, of: str = "gateway") -> str:
        """Where something listens."""
        return str(self.until(lambda e: e["event"] == "addresses")[of])

    def endpoint(self, deployment: str, seconds: float = PATIENCE_S, revision: int = 1) -> str:
        """Where a deployment serves, once it does."""
        event = self.until(
            lambda e: (
                e["event"] == "deployment"
                and e["id"] == deployment
                and e["status"].get("readyReplicas", 0)
                and e["status"].get("revision", 0) >= revision
            ),
            seconds,
        )
        return str(event["status"]["endpoint"])

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Ctrl-C, once; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait(seconds)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Wait for its end."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """SIGKILL, as an accident would."""
        self.process.kill()
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


def marked(mark: str) -> list[int]:
    """Processes whose environment has this text; Linux only."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return found


def run(
    data: Path, *words: str | Path, seconds: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """`spanyard up` to its end, for people."""
    command: Sequence[str] = [sys.executable, "-m", "spanyard_local", "up", *map(str, words)]
    return subprocess.run(
        [*command, "--data", str(data), "--port", "0", "--clickhouse-port", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment(),
        cwd=ROOT,
    )
