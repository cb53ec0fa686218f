"""Where one subscription is: exact to the record, so that it goes on there after any break.

The gateway numbers a writer's records without holes and tells of each exactly once: shown, left out
or dropped. This is looked after here, because what is told must be true for people who rely on it:
a record that comes twice is passed over, and numbers that nobody told of become a `Dropped`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from spanyard_local.live_client.events import (
    Dropped,
    Event,
    Line,
    Lines,
    Live,
    Passed,
    Resume,
    Span,
    Spans,
    Subscribed,
)

MOST_RESUMED = 2_000
"""Writers of a resume: the gateway takes 4,000, in 256 KiB; of those long ended nothing comes."""
MOST_KNOWN = 50_000
"""Writers remembered here, 5 MB; beyond, the one that was silent for longest goes."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    id: str
    channel: str
    history: int = 0
    filter: dict[str, object] = field(default_factory=dict)
    resume: Resume | None = None


class Place:
    """The place of a subscription, and what it asks for from there."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.token = wish.resume
        self._seen: dict[str, int] = dict(wish.resume.seen) if wish.resume else {}
        self._live = wish.resume is not None
        """Whether numbers follow each other: in history they only grow."""
        self._broke: dict[str, int] = {}
        """Writers of a history that broke off → where, until they are told of again."""

    def request(self) -> dict[str, object]:
        """The message that asks for what was not heard yet."""
        wish = self.wish
        asked: dict[str, object] = {"type": "subscribe", "id": wish.id, "channel": wish.channel}
        if wish.filter:
            asked["filter"] = wish.filter
        if self.token is None:
            asked["history"] = wish.history
        else:
            asked["resume"] = self.resume()
        return asked

    def resume(self) -> Resume | None:
        """A token for now; None while history is being told."""
        if self.token is None:
            return None
        seen = list(self._seen.items())[-MOST_RESUMED:]
        return Resume(self.token.at, dict(seen))

    def beat(self, token: Resume) -> None:
        """A heartbeat tells the gateway's time: what is shown, is known from the messages."""
        if self.token is not None:
            self.token = Resume(token.at, {})

    def take(self, event: Event) -> Iterator[Event]:
        """What of an event is to be passed on."""
        if isinstance(event, Subscribed):
            # Asked again before history was over, it is told anew; what was shown is passed over.
            self._live = self.token is not None
            self._broke = {} if self._live else dict(self._seen)
            yield event
        elif isinstance(event, Live):
            for writer, seq in event.resume.seen.items():
                if seq > self._seen.get(writer, 0):
                    # The first time: what history left out before the stream begins.
                    yield from self._untold(writer, seq, 0)
                yield from self._moved_on(writer, seq + 1)
                self._reached(writer, seq)
            self._broke.clear()
            self.token, self._live = Resume(event.resume.at, {}), True
            yield event
        elif isinstance(event, Lines | Spans):
            yield from self._records(event)
        elif isinstance(event, Passed):
            yield from self._counted(event, event.writer, event.last, event.left)
        elif isinstance(event, Dropped):
            yield from self._counted(event, event.writer, event.last, event.count)
        else:
            yield event

    def _reached(self, writer: str, last: int) -> None:
        known = self._seen.pop(writer, 0)
        self._seen[writer] = max(last, known)  # whom we heard of last stands last
        if len(self._seen) > MOST_KNOWN:
            del self._seen[next(iter(self._seen))]

    def _counted(self, event: Event, writer: str, last: int, count: int) -> Iterator[Event]:
        self._broke.pop(writer, None)
        if last > self._seen.get(writer, 0):
            yield from self._untold(writer, last, count)
            self._reached(writer, last)
            yield event

    def _records(self, event: Lines | Spans) -> Iterator[Event]:
        seen = self._seen.get(event.writer, 0)
        yield from self._moved_on(event.writer, event.first)
        if event.last <= seen:
            return
        if event.first <= seen and event.items and event.items[0].seq <= seen:
            items: list[Line] | list[Span] = [i for i in event.items if i.seq > seen]  # type: ignore[assignment]
            event = msgspec.structs.replace(event, first=seen + 1, items=items)
        if not event.history:
            yield from self._untold(event.writer, event.last, len(event.items) + event.left)
        self._reached(event.writer, event.last)
        yield event

    def _moved_on(self, writer: str, first: int) -> Iterator[Event]:
        """The newest records that are told anew may all be later than those that were shown."""
        seen = self._broke.pop(writer, first)
        if (missing := first - seen - 1) > 0:
            yield Dropped(
                id=self.wish.id,
                writer=writer,
                first=seen + 1,
                last=first - 1,
                count=missing,
                reason="moved-on",
            )

    def _untold(self, writer: str, last: int, told: int) -> Iterator[Event]:
        if not self._live:
            return
        seen = self._seen.get(writer, 0)
        if (missing := last - seen - told) > 0:
            yield Dropped(
                id=self.wish.id,
                writer=writer,
                first=seen + 1,
                last=last,
                count=missing,
                reason="not-told",
            )
