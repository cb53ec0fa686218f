"""Programs of Spanyard as processes: started, watched, killed, ended in order."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

T = TypeVar("T")

_LISTENING = re.compile(r"listening on (http://[\w.:]+)")
_SAMPLE = re.compile(r"([a-z_0-9]+)(?:\{(.*)\})? ([0-9.e+-]+|NaN)")


def wait_for(
    what: str, look: Callable[[], T | None], *, within: float = 60.0, every: float = 0.05
) -> T:
    """The first value of `look` that is true. Fails the test after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within:g} s for: {what}; last seen: {found!r}")
        time.sleep(every)


def clean_environ() -> dict[str, str]:
    """Ours, without settings that would steer what is tested."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SPANYARD_", "OTEL_"))}


class Program:
    """One process of a module with `main`. Ended by SIGKILL with its block if it still runs."""

    def __init__(
        self,
        module: str,
        flags: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str] | None = None,
        later: float = 0,
        before: Sequence[str] = (),
    ) -> None:
        """With `later`, its wall clock is that many seconds ahead of ours. `before` is a command that
        becomes the one behind it."""
        start = ["tests.fakes.later", str(later), module] if later else [module]
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", *start, *flags],
                env=clean_environ() | dict(environ or {}),
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        """What this process has logged so far."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def addresses(self, count: int) -> list[str]:
        """The first `count` addresses that it listens on."""

        def look() -> list[str] | None:
            self.check_alive()
            found = _LISTENING.findall(self.text())
            return found[:count] if len(found) >= count else None

        return wait_for(f"{count} addresses in {self.log}", look)

    def check_alive(self) -> None:
        code = self.process.poll()
        if code is not None:
            pytest.fail(f"it ended with {code}:\n{self.text()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait_killed(self, within: float = 60) -> None:
        """Return when its fault point has killed it."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the fault point was not passed:\n{self.text()[-4000:]}")
        assert code == -signal.SIGKILL, f"ended with {code}:\n{self.text()[-4000:]}"

    def stop(self, within: float = 60) -> int:
        """SIGTERM; gives the exit code."""
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end within {within:g} s:\n{self.text()[-4000:]}")

    def pause(self) -> None:
        """SIGSTOP: it does nothing until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes resident now, or `VmHWM`: the most so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"/proc/{self.pid}/status has no {field}")


def fetch(url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """Status, headers and body of an answer, errors included. Raises OSError without one."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def get_json(url: str) -> Any:
    """The JSON behind a URL."""
    status, _, body = fetch(url)
    assert status == 200, f"{url}: {status} {body[:1000]!r}"
    return json.loads(body)


def metrics(url: str) -> dict[str, float]:
    """Samples of a `/metrics` page; several of one name with different labels are added up."""
    status, _, body = fetch(url)
    assert status == 200
    found: dict[str, float] = {}
    for line in body.decode().splitlines():
        match = _SAMPLE.fullmatch(line)
        if match:
            name, labels, value = match.groups()
            found[name] = found.get(name, 0.0) + float(value)
            if labels:
                found[f"{name}{{{labels}}}"] = float(value)
    return found
