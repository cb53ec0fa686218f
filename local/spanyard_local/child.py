"""A child process of the laptop: started, its output kept as CRI log lines, stopped with grace."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from spanyard_local.crilog import PIECE_BYTES, CriLog
from spanyard_local.guardian import Guardian

READ_BYTES = 64 * 1024


class Child:
    """One run of a command in a process group of its own."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, guardian: Guardian | None
    ) -> None:
        self.name = name
        self.process = process
        self._guardian = guardian
        self._pumps: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path | None = None,
        log: CriLog | None = None,
        output: Path | None = None,
        guardian: Guardian | None = None,
    ) -> "Child":
        """Start `command`. Its output goes to the CRI log, or is appended to a plain file.

        Raises OSError when the command cannot be started.
        """
        with contextlib.ExitStack() as files:
            target: int | IO[bytes] | None = asyncio.subprocess.PIPE if log else None
            if output is not None:
                target = files.enter_context(output.open("ab"))
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                cwd=directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=target,
                stderr=target,
                start_new_session=True,  # a Ctrl-C on the terminal is ours to pass on, in order
            )
        if guardian is not None:
            guardian.watch(process.pid)
        child = cls(name, process, guardian)
        if log:
            assert process.stdout is not None
            assert process.stderr is not None
            child._pumps = [
                asyncio.create_task(_pump(process.stdout, "stdout", log), name=f"{name} stdout"),
                asyncio.create_task(_pump(process.stderr, "stderr", log), name=f"{name} stderr"),
            ]
        return child

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.returncode is None

    async def stop(self, grace: float = 10.0) -> int:
        """SIGTERM to the group, SIGKILL after `grace` seconds; everything it wrote is in the log.

        Returns the exit status, negative for a signal.
        """
        if self.running:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self.process.wait()
            except TimeoutError:
                self._signal(signal.SIGKILL)
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the end and for the last of its output; returns the exit status."""
        status = await self.process.wait()
        if self._guardian is not None:
            self._guardian.forget(self.process.pid)
            self._guardian = None
        if self._pumps:
            # A grandchild may hold the pipe open after the child's end: not for ever.
            _, late = await asyncio.wait(self._pumps, timeout=5)
            for pump in late:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)
        return status

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


async def _pump(reader: asyncio.StreamReader, stream: str, log: CriLog) -> None:
    rest = b""
    while data := await reader.read(READ_BYTES):
        data = rest + data
        cut = data.rfind(b"\n") + 1
        if cut:
            log.write(stream, data[:cut])
        rest = data[cut:]
        # At least a byte is held back, so that the last piece of a line is never marked partial.
        whole = max(0, len(rest) - 1) // PIECE_BYTES * PIECE_BYTES
        if whole:
            log.write(stream, rest[:whole], ended=False)
            rest = rest[whole:]
    if rest:
        log.write(stream, rest)
