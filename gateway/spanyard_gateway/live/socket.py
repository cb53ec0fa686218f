"""`/ws`: one socket, many channels. docs/live.md is the protocol.

Everything that a client can make grow is bounded: subscriptions, its messages, what waits for it.
A client that does not understand the protocol is told what was wrong and disconnected; one that is
slow gets an exact count of what it missed; one that is dead is noticed by its missing pongs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from spanyard_core.clock import rfc3339
from spanyard_core.errors import SpanyardError
from spanyard_core.serve import problem
from spanyard_gateway.live.channels import BadChannelError, Channel, parse_channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.inlet import Inlet
from spanyard_gateway.live.messages import (
    VERSION,
    FromClient,
    Ping,
    Subscribe,
    Unsubscribe,
    decode_client,
    said,
)
from spanyard_gateway.live.outlet import Outlet
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.subscription import MOST_HISTORY, MOST_RESUMED, Subscription, Wish
from spanyard_gateway.search.errors import SearchError

log = logging.getLogger("spanyard.gateway")


PLACES_EVERY_S = 1.0
"""Pings in between are answered without resume tokens: these may have megabytes."""


LARGE = 16 * 1024
"""Characters of a message whose reading others would notice, were there many: see `_understood`."""
REST = 3
"""So many times as long as a large message took to read, no other one is."""


class RefusedError(SpanyardError):
    """A subscription is refused; the socket stays."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotUnderstoodError(Exception):
    """What the client said makes no sense: it is told, and disconnected."""


Find = Callable[[web.Request, Channel], Awaitable[Target]]
"""Whom a channel is about. Raises RefusedError: no such thing, or not for this user."""
Check = Callable[[web.Request, Target], Awaitable[None]]
"""Asked with every heartbeat of open subscriptions. Raises RefusedError: `away` says nothing."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one client, and all together, may cost."""

    connections: int = 10_000
    subscriptions: int = 64
    """Per connection."""
    resumed: int = 32_000
    """Writers in the tokens of a connection's subscriptions: about 8 MB."""
    resumed_in_all: int = 1_000_000
    """The same, of all connections."""
    waiting_bytes: int = 1 << 20
    """Records that wait for a slow client, per subscription; memory that all of them share."""
    message_bytes: int = 256 * 1024
    """A client's largest: a resume token of 2,000 writers."""
    heartbeat: float = 15.0
    """Seconds between heartbeats, and pings; without a pong within half of it the client is dead."""
    unanswered: float = 60.0
    """Seconds that the last answer about rights holds while Kubernetes gives no new one: a restart of
    its API server must not end all streams."""
    send_timeout: float = 60.0
    """A client that takes nothing for so long is cut off: its pongs come from its kernel's side."""


@dataclass(slots=True)
class LiveCounts:
    """For `/metrics`."""

    connections: int = 0
    subscriptions: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    subscription: Subscription
    task: asyncio.Task[None]
    target: Target
    resumed: int
    """Writers in its token."""
    checked: float
    """When its rights were last known, monotonic."""


class _Connection:
    def __init__(self, live: "LiveSockets", request: web.Request, ws: web.WebSocketResponse):
        self._live = live
        self._request = request
        self._ws = ws
        self.say = Outlet(request, ws, live.limits.send_timeout).say
        self._open: dict[str, _Open] = {}
        self._told = float("-inf")
        """When all places were told last, monotonic."""

    async def run(self) -> None:
        limits, clock = self._live.limits, self._live.hub.clock
        await self.say(
            said(
                "hello",
                version=VERSION,
                time=rfc3339(clock.time_ns()),
                heartbeat=limits.heartbeat,
                history=MOST_HISTORY,
                subscriptions=limits.subscriptions,
            )
        )
        beats = asyncio.create_task(self._always(self._heartbeat), name="heartbeats of a listener")
        # Apart from them: a question to Kubernetes may take long, and silence counts as broken.
        checks = asyncio.create_task(self._always(self._check_again), name="a listener's rights")
        try:
            async for message in self._ws:
                await self._take(message)
        except NotUnderstoodError as error:
            with contextlib.suppress(ConnectionError):
                await self.say(said("error", code="not-understood", message=str(error)))
            await self._ws.close(code=WSCloseCode.POLICY_VIOLATION)
        finally:
            tasks = [beats, checks, *(each.task for each in self._open.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _always(self, work: Callable[[], Awaitable[None]]) -> None:
        limits, clock = self._live.limits, self._live.hub.clock
        try:
            while True:
                await clock.sleep(limits.heartbeat)
                await work()
        except ConnectionError:
            await self._ws.close()
        except Exception:
            # Nobody would look after its rights any more: it has to come again.
            log.exception("a listener's heartbeats failed")
            await self._ws.close(code=WSCloseCode.INTERNAL_ERROR)

    async def _heartbeat(self) -> None:
        clock = self._live.hub.clock
        self._told = clock.monotonic()
        tokens = {name: each.subscription.resume() for name, each in self._open.items()}
        await self.say(said("heartbeat", time=rfc3339(clock.time_ns()), resume=tokens))

    async def _answer_ping(self) -> None:
        clock = self._live.hub.clock
        if clock.monotonic() - self._told >= PLACES_EVERY_S:
            await self._heartbeat()
        else:
            await self.say(said("heartbeat", time=rfc3339(clock.time_ns()), resume={}))

    async def _check_again(self) -> None:
        limits, now = self._live.limits, self._live.hub.clock.monotonic()
        away: RefusedError | None = None
        for name, each in list(self._open.items()):
            try:
                if away is not None:
                    raise away  # one question that nobody answers takes long enough
                await self._live.check(self._request, each.target)
                each.checked = now
            except RefusedError as error:
                if error.code == "away":
                    away = error
                    if now - each.checked < limits.unanswered:
                        continue
                if self._open.get(name) is not each:
                    continue  # ended meanwhile
                await self._end(name)
                await self.say(said("error", id=name, code=error.code, message=str(error)))

    async def _take(self, received: WSMessage) -> None:
        if received.type is not WSMsgType.TEXT:
            raise NotUnderstoodError("messages are JSON texts")
        message = await self._understood(received.data)
        if isinstance(message, Ping):
            await self._answer_ping()
        elif isinstance(message, Unsubscribe):
            await self._end(message.id)
            await self.say(said("ended", id=message.id, reason="unsubscribed"))
        else:
            try:
                await self._subscribe(message)
            except (RefusedError, BadChannelError) as error:
                code = error.code if isinstance(error, RefusedError) else "bad-channel"
                name = message.id[:200]
                await self.say(said("error", id=name, code=code, message=str(error)))
            except SearchError as error:
                name, at = message.id[:200], error.at()
                told = said("error", id=name, code="bad-query", message=str(error), at=at)
                await self.say(told)

    async def _understood(self, text: str) -> FromClient:
        """Large ones are read one after the other, in a quarter of the time that there is: a token
        of 256 KiB takes 2 ms, in which nobody else is served."""
        try:
            if len(text) < LARGE:
                return decode_client(text)
            clock = self._live.hub.clock
            async with self._live.reading:
                began = clock.monotonic()
                try:
                    return decode_client(text)
                finally:
                    await clock.sleep(REST * (clock.monotonic() - began))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise NotUnderstoodError(f"not understood: {str(error)[:300]}") from error

    async def _subscribe(self, message: Subscribe) -> None:
        live = self._live
        if not 0 < len(message.id) <= 100:
            raise RefusedError("bad-id", "id: 1 to 100 characters")
        if message.id in self._open:
            raise RefusedError("bad-id", f"{message.id!r} is subscribed already: unsubscribe first")
        if len(self._open) >= live.limits.subscriptions:
            raise RefusedError(
                "too-many", f"{live.limits.subscriptions} subscriptions per connection are most"
            )
        if not 0 <= message.history <= MOST_HISTORY:
            raise RefusedError("bad-history", f"history: 0 to {MOST_HISTORY:,}")
        resumed = self._resumed(message)
        channel = parse_channel(message.channel)
        checked = live.hub.clock.monotonic()
        target = await live.find(self._request, channel)
        wish = Wish(message.id, channel, message.filter, message.history, message.resume)
        inlet = Inlet(live.limits.waiting_bytes)
        subscription = Subscription(wish, target, inlet, live.hub.stored, live.hub.clock, self.say)
        if live.resumed + resumed > live.limits.resumed_in_all:
            raise RefusedError("away", "resume: this gateway holds as many as it can; again soon")
        live.resumed += resumed
        work = self._serve(message.id, wish, target, inlet, subscription)
        task = asyncio.create_task(work, name=f"subscription to {channel}")
        task.add_done_callback(lambda _: live.let_go(resumed))
        self._open[message.id] = _Open(subscription, task, target, resumed, checked)

    def _resumed(self, message: Subscribe) -> int:
        """Writers in the token. Raises RefusedError for one that cannot be."""
        resume, most = message.resume, self._live.limits.resumed
        if resume is None:
            return 0
        if not resume.possible:
            raise RefusedError("bad-resume", "resume: no such time or number; begin anew")
        count = len(resume.seen)
        if count > 2 * MOST_RESUMED:
            raise RefusedError("bad-resume", "resume: too many writers; begin anew with history")
        if count + sum(each.resumed for each in self._open.values()) > most:
            told = f"resume: {most:,} writers in all tokens of a connection are most"
            raise RefusedError("bad-resume", f"{told}; use another connection, or begin anew")
        return count

    async def _end(self, name: str) -> None:
        each = self._open.pop(name, None)
        if each is not None:
            each.task.cancel()
            await asyncio.gather(each.task, return_exceptions=True)

    async def _serve(
        self, name: str, wish: Wish, target: Target, inlet: Inlet, subscription: Subscription
    ) -> None:
        live = self._live
        live.counts.subscriptions += 1
        try:
            live.statuses.join(wish.channel, inlet)
            await self._records(name, wish, target, inlet, subscription)
        except* ConnectionError:
            await self._ws.close()
        except* Exception as errors:
            log.error("a subscription to %s failed", wish.channel, exc_info=errors)
            with contextlib.suppress(ConnectionError):
                told = "something failed on our side; subscribe again"
                await self.say(said("error", id=name, code="internal", message=told))
        finally:
            # Counted before anything is waited for: there it may be cancelled.
            live.counts.subscriptions -= 1
            for reason, count in subscription.dropped.items():
                live.counts.dropped[reason] = live.counts.dropped.get(reason, 0) + count
            if self._open.get(name) is not None and self._open[name].subscription is subscription:
                del self._open[name]
            await live.statuses.leave(wish.channel, inlet)

    async def _records(
        self, name: str, wish: Wish, target: Target, inlet: Inlet, subscription: Subscription
    ) -> None:
        if not wish.channel.signals:
            await self.say(said("subscribed", id=name, channel=str(wish.channel), pods=0))
            await subscription.run(inlet.waiting_now(), {})
            return
        async with self._live.hub.attached(target, inlet) as attached:
            pods = len(attached.feeds)
            await self.say(said("subscribed", id=name, channel=str(wish.channel), pods=pods))
            for pod, trouble in attached.troubles().items():
                told = f"pod {pod}: {trouble}"
                await self.say(said("partial", id=name, reason="collector-away", message=told))
            await subscription.run(inlet.waiting_now(), attached.reached())


class LiveSockets:
    """The endpoint and its open connections."""

    def __init__(
        self,
        hub: Hub,
        statuses: Statuses,
        find: Find,
        check: Check,
        limits: SocketLimits | None = None,
    ) -> None:
        self.hub = hub
        self.statuses = statuses
        self.find = find
        self.check = check
        self.limits = limits or SocketLimits()
        self.counts = LiveCounts()
        self._sockets: set[web.WebSocketResponse] = set()
        self.reading = asyncio.Lock()
        """Held by who reads a large message."""
        self.resumed = 0
        """Writers in the tokens of all open subscriptions."""

    def let_go(self, resumed: int) -> None:
        """A subscription with so many writers in its token is over."""
        self.resumed -= resumed

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from its upgrade to its end."""
        limits = self.limits
        if self.counts.connections >= limits.connections:
            return problem(
                503,
                "Too many listeners",
                f"{limits.connections:,} connections are most",
                headers={"Retry-After": "5"},
            )
        ws = web.WebSocketResponse(
            heartbeat=limits.heartbeat, max_msg_size=limits.message_bytes, compress=False
        )
        if not ws.can_prepare(request).ok:
            return problem(426, "A WebSocket", "Connect to /ws with a WebSocket; see docs/live.md.")
        self.counts.connections += 1
        self._sockets.add(ws)
        try:
            await ws.prepare(request)
            await _Connection(self, request, ws).run()
        except ConnectionError:
            log.debug("a listener went away")
        finally:
            self._sockets.discard(ws)
            self.counts.connections -= 1
        return ws

    async def close(self, *_: Any) -> None:
        """Tell all to come again elsewhere: this gateway ends."""
        closing = [
            ws.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway ends; connect again")
            for ws in list(self._sockets)
        ]
        await asyncio.gather(*closing, return_exceptions=True)
