"""`/live`: a collector's records over a WebSocket, as they come, with the ids that storage gets.

For the gateway, which holds one connection per pod while somebody listens. A subscription begins
with history and goes over to live without a gap or a repeat: it is registered and its history
captured in one step. Everything is bounded; what a slow client misses is counted and told.
`docs/live-collector.md` is the protocol. Nobody connected costs nothing but the ring's blocks.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.serve import problem
from spanyard_sidecar.ring import Batch, Ring, Subscription

log = logging.getLogger("spanyard.sidecar")

VERSION = 1

Check = Callable[[web.Request], str | None]
"""Why this request may not listen; None when it may."""


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What one connection, and all together, may cost."""

    connections: int = 32
    subscriptions: int = 16
    """Per connection."""
    waiting_bytes: int = 1 << 20
    """Records that wait for a slow client, per subscription."""
    message_bytes: int = 256 * 1024
    """About the largest message; a single longer line is one message."""
    history: int = 10_000
    """Most lines that `history` gives per container."""
    heartbeat: float = 20.0
    """Seconds between pings; a client that does not answer is disconnected."""


class _Subscribe(msgspec.Struct, tag_field="type", tag="subscribe", forbid_unknown_fields=True):
    container: str | None = None
    """None: all, also those that come later."""
    after: dict[str, int] = msgspec.field(default_factory=dict)
    history: int = 0
    all: bool = False
    """Of writers that `after` does not name too: everything that is still there."""


class _Unsubscribe(msgspec.Struct, tag_field="type", tag="unsubscribe", forbid_unknown_fields=True):
    container: str | None = None


_messages = msgspec.json.Decoder(_Subscribe | _Unsubscribe)
_encode = msgspec.json.Encoder().encode


def no_browsers(request: web.Request) -> str | None:
    """The check until tokens come: no page that a user happens to look at may listen."""
    if "Origin" in request.headers:
        return "browsers listen through the gateway, not here"
    return None


class RefusedMessageError(Exception):
    """The client said something impossible; the text tells what."""


class _Connection:
    def __init__(
        self, socket: web.WebSocketResponse, ring: Ring, clock: Clock, limits: LiveLimits
    ) -> None:
        self._socket = socket
        self._ring = ring
        self._clock = clock
        self._limits = limits
        self._tasks: dict[str | None, asyncio.Task[None]] = {}

    async def run(self) -> None:
        await self._say(
            {
                "type": "hello",
                "version": VERSION,
                "time": rfc3339(self._clock.time_ns()),
                "containers": self._ring.containers,
            }
        )
        try:
            async for message in self._socket:
                self._take(message)
        except RefusedMessageError as error:
            await self._say({"type": "error", "message": str(error)})
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _take(self, received: WSMessage) -> None:
        if received.type is not WSMsgType.TEXT:
            raise RefusedMessageError("messages are JSON texts")
        try:
            message = _messages.decode(received.data)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise RefusedMessageError(f"not understood: {str(error)[:200]}") from error
        if isinstance(message, _Unsubscribe):
            task = self._tasks.pop(message.container, None)
            if task is not None:
                task.cancel()
            return
        if message.container in self._tasks or None in self._tasks:
            raise RefusedMessageError(f"{message.container!r} is subscribed already")
        if message.container is None and self._tasks:
            raise RefusedMessageError("all containers cannot be subscribed beside single ones")
        if len(self._tasks) >= self._limits.subscriptions:
            raise RefusedMessageError(f"{self._limits.subscriptions} subscriptions are most")
        # Registered and captured here, in one step: history ends where live begins.
        container = message.container
        wanted = None if container is None else frozenset({container})
        subscription = self._ring.subscribe(wanted, limit=self._limits.waiting_bytes)
        histories = {
            name: self._ring.history(name, message.after)
            for name in (self._ring.containers if container is None else [container])
        }
        task = self._tasks[container] = asyncio.create_task(
            self._serve(subscription, histories, message), name=f"live records of {container}"
        )
        # Whoever leaves at once cancels it before its first step: nothing in it would run.
        task.add_done_callback(lambda _: subscription.close())

    async def _serve(
        self,
        subscription: Subscription,
        histories: Mapping[str, Iterator[Batch]],
        wish: _Subscribe,
    ) -> None:
        try:
            for container, history in histories.items():
                await self._send_history(container, history, wish)
            await self._say({"type": "live", "container": wish.container})
            while True:
                container, writer, first, lines = await subscription.get()
                for slow, count in subscription.take_dropped().items():
                    await self._say(
                        {
                            "type": "dropped",
                            "writer": slow,
                            "count": count,
                            "reason": "slow-client",
                        }
                    )
                await self._send(container, writer, first, lines)
        except ConnectionError:
            await self._socket.close()
        except Exception:
            log.exception("live records of %s failed", wish.container or "all containers")
            await self._socket.close(code=WSCloseCode.INTERNAL_ERROR)

    async def _send_history(
        self, container: str, history: Iterator[Batch], wish: _Subscribe
    ) -> None:
        """Everything after the writers' given seqs; of other writers the newest lines, or all."""
        most = max(0, min(wish.history, self._limits.history))
        held: deque[Batch] = deque()
        count = 0
        for writer, first, lines in history:
            if wish.all or writer in wish.after:
                await self._send(container, writer, first, lines)
                continue
            held.append((writer, first, lines))
            count += lines.count(b"\n")
            while held and count - held[0][2].count(b"\n") >= most:
                count -= held.popleft()[2].count(b"\n")
            await self._clock.sleep(0)  # reading the disk ring: others have their turn
        excess = max(0, count - most)  # all of it in the first block
        for writer, first, lines in held:
            await self._send(container, writer, first + excess, _without(lines, excess))
            excess = 0

    async def _send(self, container: str, writer: str, first: int, lines: bytes) -> None:
        head = b'{"type":"lines","container":%b,"writer":%b,"first":' % (
            _encode(container),
            _encode(writer),
        )
        at = 0
        while at < len(lines):
            end = _cut(lines, at, self._limits.message_bytes)
            piece = lines[at : end - 1]
            records = piece.replace(b"\n", b",")
            await self._socket.send_frame(
                b'%b%d,"records":[%b]}' % (head, first, records), WSMsgType.TEXT
            )
            first += piece.count(b"\n") + 1
            at = end

    async def _say(self, message: Mapping[str, Any]) -> None:
        await self._socket.send_frame(_encode(message), WSMsgType.TEXT)


def _cut(lines: bytes, at: int, size: int) -> int:
    """End of the whole lines from `at` on that are about `size` bytes, at least one line."""
    if len(lines) - at <= size:
        return len(lines)
    end = lines.rfind(b"\n", at, at + size) + 1
    return end or lines.index(b"\n", at) + 1


def _without(lines: bytes, count: int) -> bytes:
    """`lines` without its first `count` lines."""
    at = 0
    for _ in range(count):
        at = lines.index(b"\n", at) + 1
    return lines[at:]


@dataclass(slots=True)
class Live:
    """The endpoint and its open connections."""

    ring: Ring
    clock: Clock
    check: Check = no_browsers
    limits: LiveLimits = field(default_factory=LiveLimits)
    connections: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from its upgrade to its end."""
        refusal = self.check(request)
        if refusal is not None:
            return problem(403, "Forbidden", refusal)
        if self.connections >= self.limits.connections:
            return problem(
                503,
                "Too many listeners",
                f"{self.limits.connections} connections are most",
                headers={"Retry-After": "5"},
            )
        socket = web.WebSocketResponse(
            heartbeat=self.limits.heartbeat, max_msg_size=64 * 1024, compress=False
        )
        self.connections += 1
        try:
            await socket.prepare(request)
            await _Connection(socket, self.ring, self.clock, self.limits).run()
        except ConnectionError:
            log.debug("a live listener went away")
        finally:
            self.connections -= 1
        return socket


def live_routes(
    ring: Ring,
    *,
    clock: Clock,
    check: Check = no_browsers,
    limits: LiveLimits | None = None,
) -> list[web.RouteDef]:
    """The route `/live` of a collector's operations server."""
    return [web.get("/live", Live(ring, clock, check, limits or LiveLimits()).handle)]
