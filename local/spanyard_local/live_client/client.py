"""One socket, many channels: what is heard, one event after the other, over every break."""

import asyncio
import random
import ssl
import time
from collections import deque
from types import TracebackType
from typing import Self

import msgspec

from spanyard_core.retry import Backoff
from spanyard_local.live_client.dial import Connection, Door, TokenSource, dial
from spanyard_local.live_client.errors import AwayError, LiveError, NoLiveError, ProtocolError
from spanyard_local.live_client.events import (
    Back,
    Event,
    Heartbeat,
    Hello,
    Lost,
    Message,
    Over,
    Resume,
    Subscribed,
)
from spanyard_local.live_client.place import Place, Wish

FIRST_S, LONGEST_S = 0.5, 15.0
"""Between two tries to connect."""
SILENT = 3
"""Heartbeats that may be missing before a connection counts as gone."""
DEFAULT_HEARTBEAT_S = 15.0
VERSION = 1
PASSING = frozenset({"away", "internal"})
"""Ends of a subscription that are not for good: it is asked for again."""
AGAIN_S = 5.0
NOT_SIGNED_IN = "not-signed-in"
"""The token of the connection has ended, or was taken back: another one may be had."""


class LiveClient:
    """A listener. `async with` connects and ends it; `async for` gives events until an error.

    One task listens. Whoever takes its time is not left behind silently: the gateway keeps 1 MiB per
    subscription and tells what it dropped, and a connection that it cut off is made again. Raises
    NoLiveError, NotAdmittedError, ProtocolError for what waiting won't mend, AwayError when the
    first connection fails, or after `patience` seconds without one.
    """

    def __init__(
        self,
        address: str,
        *,
        token: TokenSource | None = None,
        trust: ssl.SSLContext | None = None,
        patience: float | None = None,
    ) -> None:
        """`patience`: seconds without a connection after which it is given up; None: never."""
        self._door = Door(address.rstrip("/"), token, trust)
        self._patience = patience
        self._places: dict[str, Place] = {}
        self._events: deque[Event] = deque()
        self._connection: Connection | None = None
        self._dialing: asyncio.Task[Connection] | None = None
        self._backoff = Backoff(random.Random(), first=FIRST_S, most=LONGEST_S)
        self._again_at = 0.0
        self._lost_at: float | None = None
        self._heard_at = 0.0
        self._heartbeat = DEFAULT_HEARTBEAT_S
        self._ask_at: dict[str, float] = {}
        """Subscriptions that ended for a passing reason → when they are asked for again."""
        self._number = 0
        self._renew = False
        """Whether the token was refused in the middle of a stream."""
        self._reason = ""
        """Why there is no connection, as it was told last."""

    async def __aenter__(self) -> Self:
        self._take_over(await dial(self._door))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            [found] = await asyncio.gather(self._dialing, return_exceptions=True)
            if isinstance(found, Connection):
                await found.close()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    # --- what is wanted ----------------------------------------------------------------------

    async def subscribe(
        self,
        channel: str,
        *,
        history: int = 0,
        filter: dict[str, object] | None = None,  # noqa: A002 - the protocol's name
        resume: Resume | None = None,
        id: str = "",  # noqa: A002 - the protocol's name
    ) -> str:
        """Begin to listen; gives the subscription's id, chosen here where none is given.

        `history`: so many of the newest records first (0 to 10,000). `resume`: everything since then
        instead. What the gateway refuses comes as `Over`.
        """
        self._number += 1
        name = id or f"s{self._number}"
        if name in self._places:
            raise ValueError(f"{name!r} is subscribed already")
        place = Place(Wish(name, channel, history, filter or {}, resume))
        self._places[name] = place
        if self._connection is not None:
            await self._ask(self._connection, place)
        return name

    async def unsubscribe(self, subscription: str) -> None:
        """End it; what was heard of it already may still come."""
        self._forget(subscription)
        if self._connection is not None:
            await self._connection.say({"type": "unsubscribe", "id": subscription})

    def resume(self, subscription: str) -> Resume | None:
        """A token for what was given out up to now; None while history is told, or it is over."""
        place = self._places.get(subscription)
        return place.resume() if place is not None and not self._events else None

    @property
    def subscriptions(self) -> list[str]:
        """Ids of those that are not over."""
        return list(self._places)

    # --- what is heard -----------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self.next()
        assert event is not None
        return event

    async def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None after `timeout` seconds without one. Raises as the class says."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._events:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            if self._connection is None:
                await self._reconnect(left)
            else:
                await self._listen(self._connection, left)
        return self._events.popleft()

    async def _listen(self, connection: Connection, left: float | None) -> None:
        now = time.monotonic()
        until = self._heard_at + SILENT * self._heartbeat
        for moment in self._ask_at.values():
            until = min(until, moment)
        if left is not None:
            until = min(until, now + left)
        try:
            message = await connection.hear(max(0.001, until - now))
        except TimeoutError:
            await self._look_at_the_clock(connection)
            return
        except AwayError as error:
            await self._lose(str(error))
            return
        self._heard_at = time.monotonic()
        if message is not None:
            self._take(message)
        if self._renew:
            await self._lose("the gateway no longer takes the token")

    async def _look_at_the_clock(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._heard_at >= SILENT * self._heartbeat:
            # A connection may be gone without a word: a computer that slept, a network that changed.
            await self._lose(f"the gateway said nothing for {now - self._heard_at:.0f} s")
            return
        for name, moment in list(self._ask_at.items()):
            if moment <= now:
                del self._ask_at[name]
                await self._ask(connection, self._places[name])

    def _take(self, message: Message) -> None:
        if isinstance(message, Hello):
            self._heartbeat = message.heartbeat
            if message.version != VERSION:
                raise LiveError(
                    f"the gateway's live streams have version {message.version}, this client knows "
                    f"{VERSION}; use versions of the two that belong together"
                )
        elif isinstance(message, Heartbeat):
            for name, token in message.resume.items():
                if name in self._places:
                    self._places[name].beat(token)
        elif (place := self._places.get(message.id)) is not None:
            self._told(place, message)
        elif isinstance(message, Over) and not message.id:
            raise ProtocolError(f"the gateway does not understand this client: {message.message}")

    def _told(self, place: Place, event: Event) -> None:
        if isinstance(event, Subscribed):
            # Not when it connects: a gateway that closes at our first word would be asked at once.
            self._backoff.reset()
        if isinstance(event, Over):
            if event.code == NOT_SIGNED_IN and self._door.token is not None:
                self._renew = True
                return
            if event.code in PASSING:
                self._ask_at[event.id] = time.monotonic() + AGAIN_S
                return
            self._forget(event.id)
        self._events.extend(place.take(event))

    def _forget(self, name: str) -> None:
        self._places.pop(name, None)
        self._ask_at.pop(name, None)

    async def _ask(self, connection: Connection, place: Place) -> None:
        await connection.say(msgspec.to_builtins(place.request()))

    # --- the connection ----------------------------------------------------------------------

    def _take_over(self, connection: Connection) -> None:
        self._connection = connection
        self._heard_at = time.monotonic()

    async def _lose(self, reason: str) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        pause = self._backoff.next()
        now = time.monotonic()
        self._again_at = now + pause
        self._ask_at.clear()
        first, self._lost_at = self._lost_at is None, self._lost_at or now
        if first or (self._renew and reason != self._reason):
            self._reason = (
                reason  # without a token nobody comes back: why there is none is told too
            )
            self._events.append(Lost(reason=reason, again=pause))
        if self._patience is not None and now - self._lost_at > self._patience:
            raise AwayError(f"{reason}; given up after {now - self._lost_at:.0f} s")

    async def _reconnect(self, left: float | None) -> None:
        if self._dialing is None:
            pause = self._again_at - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause if left is None else min(pause, left))
                return
            self._dialing = asyncio.create_task(
                dial(self._door, renew=self._renew), name="connecting to the gateway"
            )
        done, _ = await asyncio.wait({self._dialing}, timeout=left)
        if not done:
            return
        dialing, self._dialing = self._dialing, None
        try:
            connection = dialing.result()
        except (AwayError, NoLiveError) as error:
            # There were live streams here: what answers now is a gateway that begins, or a proxy.
            await self._lose(str(error))
            return
        self._take_over(connection)
        self._renew = False
        self._lost_at = None
        self._events.append(Back())
        for place in self._places.values():
            await self._ask(connection, place)
