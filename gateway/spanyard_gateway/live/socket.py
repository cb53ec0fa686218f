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
from spanyard_gateway.live.holdings import AllHeldError, Held, Holdings, TooMuchHeldError
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.inlet import Inlet
from spanyard_gateway.live.intake import Intake, Said, TooFastError
from spanyard_gateway.live.messages import (
    VERSION,
    FromClient,
    Ping,
    Resume,
    Subscribe,
    Unsubscribe,
    decode_client,
    said,
)
from spanyard_gateway.live.outlet import Outlet
from spanyard_gateway.live.statuses import Statuses
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.subscription import MOST_HISTORY, MOST_RESUMED, Subscription, Wish
from spanyard_gateway.live.turns import ASKER
from spanyard_gateway.live.upgraded import Upgraded
from spanyard_gateway.search.errors import SearchError

log = logging.getLogger("spanyard.gateway")


TOO_FAST = "so much at once that others would wait; come again, and say less"
"""Of the close with which such a client is cut off: 123 bytes are most."""


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

Who = Callable[[web.Request], str]
"""The name of the person who asks; empty where nobody is asked who they are."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one client, and all together, may cost."""

    connections: int = 10_000
    subscriptions: int = 64
    """Per connection."""
    resumed: int = 32_000
    """Writers in the tokens of a connection's subscriptions, until the database was asked for them:
    about 9 MB, names included. From then on only those count that nobody knows."""
    resumed_of_person: int = 128_000
    """The same of all connections of a person, where it is known who they are."""
    resumed_in_all: int = 250_000
    """The same of all connections; then whoever holds most gives something back."""
    waiting_bytes: int = 1 << 20
    """Records that wait for a slow client, per subscription; memory that all of them share."""
    message_bytes: int = 256 * 1024
    """A client's largest: a resume token of 2,000 writers."""
    said_burst: int = 1 << 20
    """Bytes of messages that a connection may say at once: a page that comes back with ten channels
    and 750 writers in each has 600 kB."""
    said_rate: int = 64 * 1024
    """And per second from then on: see `intake`."""
    said_burst_of_person: int = 8 << 20
    """The same of all connections of a person, where it is known who they are."""
    said_rate_of_person: int = 512 * 1024
    said_burst_in_all: int = 1 << 20
    """Of all. 5,000 clients that come back together say 4 MB: the last of them waits for 3 s."""
    said_rate_in_all: int = 1 << 20
    """And less on a machine that is slow or busy (`intake.SHARE`)."""
    patience: float = 10.0
    """Seconds that a message waits for its turn; then its client is cut off. Less than a ping and
    its pong may take, or one who waits would seem dead."""
    heartbeat: float = 15.0
    """Seconds between heartbeats, and pings; without a pong within half of it the client is dead."""
    unanswered: float = 60.0
    """Seconds that the last answer about rights holds while Kubernetes gives no new one: a restart of
    its API server must not end all streams."""
    send_timeout: float = 60.0
    """A client that takes nothing for so long is cut off: its pongs come from its kernel's side."""
    end_timeout: float = 5.0
    """The same when the gateway ends: a pod has 30 s for all of it."""


@dataclass(slots=True)
class LiveCounts:
    """For `/metrics`."""

    connections: int = 0
    subscriptions: int = 0
    too_fast: int = 0
    """Connections that were cut off because they said too much."""
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    subscription: Subscription
    task: asyncio.Task[None]
    target: Target
    held: Held
    """Of the writers in its token."""
    checked: float
    """When its rights were last known, monotonic."""


class _Connection:
    def __init__(
        self, live: "LiveSockets", request: web.Request, ws: web.WebSocketResponse, inward: Said
    ):
        self._live = live
        self._inward = inward
        self._person = live.who(request)
        self._telling: set[asyncio.Task[None]] = set()
        self._request = request
        self._ws = ws
        self.say = Outlet(request, ws, live.limits.send_timeout).say
        self._open: dict[str, _Open] = {}

    async def run(self) -> None:
        limits, clock = self._live.limits, self._live.hub.clock
        # Not the connection itself: a feed that it begins outlives it, and inherits this.
        ASKER.set(self._person or object())
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
        except TooFastError:
            self._live.counts.too_fast += 1
            await self._ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=TOO_FAST.encode())
        finally:
            tasks = [beats, checks, *self._telling, *(each.task for each in self._open.values())]
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
        # Without the numbers: each was told with a message of its own, and all would be megabytes.
        tokens = {name: Resume(each.subscription.at(), {}) for name, each in self._open.items()}
        await self.say(said("heartbeat", time=rfc3339(clock.time_ns()), resume=tokens))

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
        await self._inward.turn(len(received.data))
        loop = asyncio.get_running_loop()
        began = loop.time()
        message = _understood(received.data)
        self._inward.took(loop.time() - began)
        if isinstance(message, Ping):
            await self._heartbeat()
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
        held = self._hold(message.id, resumed)
        if message.resume is not None:
            message.resume.seen = {}  # the subscription has its own: of a flood nothing twice
        subscription.holds = lambda count: live.holdings.shrink(held, count)
        work = self._serve(message.id, wish, target, inlet, subscription)
        task = asyncio.create_task(work, name=f"subscription to {channel}")
        task.add_done_callback(lambda _: live.holdings.let_go(held))
        self._open[message.id] = _Open(subscription, task, target, held, checked)

    def _hold(self, name: str, count: int) -> Held:
        """Memory for a token with so many writers. Raises RefusedError."""
        holder = self._person or self
        try:
            return self._live.holdings.take(holder, count, lambda: self._give_up(name))
        except TooMuchHeldError as error:
            told = f"resume: {error.most:,} writers in all tokens of a person are most"
            raise RefusedError("bad-resume", f"{told}; begin anew with history") from error
        except AllHeldError as error:
            told = "resume: this gateway holds as many writers as it can; again soon"
            raise RefusedError("away", told) from error

    def _give_up(self, name: str) -> None:
        """End a subscription because others, who hold less, need its memory."""
        each = self._open.pop(name, None)
        if each is None:
            return
        each.task.cancel()
        told = "resume: others need what its writers hold; again soon, or begin anew with history"
        work = self._say_if_there(said("error", id=name, code="away", message=told))
        task = asyncio.create_task(work, name="a listener is told that it gives way")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _say_if_there(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self.say(message)

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
        if count + sum(each.held.count for each in self._open.values()) > most:
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
            await subscription.run(*attached.begin())


def _understood(text: str) -> FromClient:
    try:
        return decode_client(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise NotUnderstoodError(f"not understood: {str(error)[:300]}") from error


class LiveSockets:
    """The endpoint and its open connections."""

    def __init__(
        self,
        hub: Hub,
        statuses: Statuses,
        find: Find,
        check: Check,
        limits: SocketLimits | None = None,
        who: Who = lambda _: "",
    ) -> None:
        self.hub = hub
        self.statuses = statuses
        self.find = find
        self.check = check
        self.limits = limits or SocketLimits()
        self.counts = LiveCounts()
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._intake = Intake(self.limits)
        self.who = who
        self.holdings = Holdings(self.limits.resumed_of_person, self.limits.resumed_in_all)

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
        ws = Upgraded(heartbeat=limits.heartbeat, most_bytes=limits.message_bytes)
        if not ws.can_prepare(request).ok:
            return problem(426, "A WebSocket", "Connect to /ws with a WebSocket; see docs/live.md.")
        self.counts.connections += 1
        self._sockets[ws] = request
        try:
            await ws.prepare(request)
            async with self._intake.connection(self.who(request)) as inward:
                await _Connection(self, request, ws, inward).run()
        except ConnectionError:
            log.debug("a listener went away")
        finally:
            self._sockets.pop(ws, None)
            self.counts.connections -= 1
        return ws

    async def close(self, *_: Any) -> None:
        """Tell all to come again elsewhere: this gateway ends."""
        closing = [
            ws.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway ends; connect again")
            for ws in list(self._sockets)
        ]
        try:
            async with asyncio.timeout(self.limits.end_timeout):
                await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            for request in list(self._sockets.values()):
                if request.transport is not None:
                    request.transport.abort()
