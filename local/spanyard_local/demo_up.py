"""The `spanyard up` under a demo: started, followed by what it says, killed, ended in order."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spanyard_core.errors import SpanyardError
from spanyard_local.guardian import Guardian

MOST_BYTES = 64 << 20
"""Of one event: the proof has a row per writer."""
START_S = 120.0


class DemoUp:
    """One data folder's `up`, over its kills."""

    def __init__(
        self, words: Sequence[str], deployment: str, guardian: Guardian, log: Path
    ) -> None:
        """`words` are its arguments, `deployment` the id of the one that is asked."""
        self._words = words
        self._deployment = deployment
        self._guardian = guardian
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.gateway = ""
        self.endpoint = ""
        """Where the deployment serves; empty while it does not."""
        self.pods: set[str] = set()
        """Uids of the pods of the deployment that this demo started."""
        self.lines: Counter[str] = Counter()
        """Pod uid → whole lines that its processes wrote."""
        self.proof: dict[str, Any] | None = None
        self.problem = ""
        """What it said last before it failed."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it; `until_serving` waits for it."""
        self.gateway = self.endpoint = ""
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "spanyard_local", "up", "-o", "json", *self._words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=MOST_BYTES,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C on the terminal is ours to pass on, once
            )
        self._guardian.watch(self._process.pid)
        self._reader = asyncio.create_task(self._read(self._process), name="events of up")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            with contextlib.suppress(ValueError):  # cut off by a kill
                self._take(json.loads(line))
                self._changed.set()
        self._changed.set()

    def _take(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name == "addresses":
            self.gateway = event["gateway"]
        elif name == "proof":
            self.proof = event
        elif event.get("id") == self._deployment:
            if name == "deployment":
                status = event["status"]
                self.endpoint = status.get("endpoint", "") if status.get("readyReplicas") else ""
                self.problem = (status.get("failure") or {}).get("message", "") or self.problem
            elif name == "pod" and event["kind"] == "Deployment":
                self.pods.add(event["uid"])
            elif name == "podEnded":
                self.lines[event["uid"]] += sum(
                    n for run, n in event["lines"].items() if run.startswith("server.")
                )
        elif name == "build" and event["status"].get("failure"):
            self.problem = event["status"]["failure"]["message"]

    async def until(self, what: Callable[[], Any], seconds: float = START_S) -> None:
        """Wait until `what` is true. Raises SpanyardError when it ends or takes too long."""
        try:
            async with asyncio.timeout(seconds):
                while not what():
                    if self._reader is None or self._reader.done():
                        raise SpanyardError(self.last_words())
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            told = f": {self.problem}" if self.problem else ""
            raise SpanyardError(f"the support agent did not come up{told}") from None

    def last_words(self) -> str:
        """The last line of its standard error."""
        text = self._log.read_text("utf-8", "replace").strip()
        told = text.splitlines()[-1] if text else "it said nothing"
        return told.removeprefix("spanyard: ")

    async def kill(self) -> None:
        """SIGKILL, as an accident would."""
        assert self._process is not None
        self._process.kill()
        await self._ended()

    async def stop(self) -> int:
        """End it in order, if it runs; returns its exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)
        return await self._ended()

    async def _ended(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        await self._reader
        code = await self._process.wait()
        self._guardian.forget(self._process.pid)
        return code


def _environment() -> dict[str, str]:
    """Ours, less the settings that would steer the parts from outside."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SPANYARD_", "OTEL_"))}
