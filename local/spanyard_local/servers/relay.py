"""One connection of a client, passed on to a replica, and at a request's beginning to another one.

Bytes are passed on as they are. Only where the replica that a connection leads to gets no more new
requests, the beginning of the next HTTP request on it is looked for: there the connection goes over
to a replica that does, and a client that keeps its connection alive notices nothing.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from spanyard_local.servers.ports import Target

BLOCK = 64 * 1024
IDLE_S = 1.0
"""A kept-alive connection that is quiet for so long after an answer is closed at a switch."""
_REQUEST = re.compile(rb"[A-Z]{3,20} [^ \r\n]+ HTTP/1\.[01]\r\n")


@dataclass(frozen=True)
class Line:
    """A connection to a replica."""

    target: Target
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Relay:
    """See the module."""

    def __init__(
        self,
        line: Line,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        instead: Callable[[Target], Awaitable[Line | None]],
    ) -> None:
        """`instead` gives another line when this target takes no more requests, else None."""
        self._line = line
        self._reader = reader
        self._writer = writer
        self._instead = instead
        self._asking = False
        """The last bytes came from the client: it waits for an answer."""
        self._quiet_since = time.monotonic()
        self._answers: asyncio.Task[None] | None = None

    @property
    def target(self) -> Target:
        """Where it leads to."""
        return self._line.target

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything on it."""
        return not self._asking and time.monotonic() - self._quiet_since >= IDLE_S

    def abort(self) -> None:
        """Break it off."""
        for writer in (self._line.writer, self._writer):
            writer.transport.abort()

    async def run(self) -> None:
        """Until the replica or the client ends it. The client's end may be half of one: it is
        passed on, and the answer still comes."""
        questions = asyncio.create_task(self._pass_questions(), name="questions of a client")
        self._answers = asyncio.create_task(self._pass_answers(), name="answers to a client")
        ended: asyncio.Task[None] | None = None
        try:
            while ended is not self._answers:
                ended = self._answers
                await asyncio.wait([ended])
        finally:
            self._line.writer.transport.abort()
            for task in (questions, self._answers):
                task.cancel()
            await asyncio.gather(questions, self._answers, return_exceptions=True)
        with contextlib.suppress(OSError):  # the client gets the rest of its answer
            self._writer.close()
            await self._writer.wait_closed()

    async def _pass_questions(self) -> None:
        while data := await _read(self._reader):
            if not self._asking and _REQUEST.match(data):
                # Before, too: to go over may take seconds, in which somebody waits for an answer.
                self._seen(asking=True)
                await self._go_over()
            self._seen(asking=True)
            if not await _write(self._line.writer, data):
                return
        if self._line.writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._line.writer.write_eof()

    async def _go_over(self) -> None:
        line = await self._instead(self._line.target)
        if line is None:
            return
        old, old_answers = self._line, self._answers
        self._line = line
        self._answers = asyncio.create_task(self._pass_answers(), name="answers to a client")
        if old_answers is not None:
            old_answers.cancel()
        old.writer.transport.abort()

    async def _pass_answers(self) -> None:
        line = self._line
        while data := await _read(line.reader):
            self._seen(asking=False)
            if not await _write(self._writer, data):
                return
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def _seen(self, *, asking: bool) -> None:
        self._asking, self._quiet_since = asking, time.monotonic()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Empty at the end, however it came: both sides are told of it by ending theirs."""
    try:
        return await reader.read(BLOCK)
    except OSError:
        return b""


async def _write(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Whether it could be handed over."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        writer.transport.abort()
        return False
    return True
