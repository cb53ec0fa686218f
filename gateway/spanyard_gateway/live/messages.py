"""The messages of `/ws`; docs/live.md describes each. Version 1."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from spanyard_gateway.live.channels import Filter
from spanyard_gateway.live.records import MOST_SEQ

VERSION = 1
LATEST_MS = 1 << 43
"""A batch's number has its milliseconds in the upper 44 bits; the year 2248 is late enough."""


class Resume(msgspec.Struct, forbid_unknown_fields=True):
    """Where a listener was: its writers' last numbers, and when that was."""

    at: int
    """Milliseconds since the epoch, by the gateway's clock."""
    seen: dict[str, int]

    @property
    def possible(self) -> bool:
        """Whether there are such times and numbers."""
        numbers = self.seen.values()
        in_range = not numbers or (min(numbers) >= 0 and max(numbers) < MOST_SEQ)
        return in_range and 0 <= self.at < LATEST_MS


class Subscribe(msgspec.Struct, tag_field="type", tag="subscribe", forbid_unknown_fields=True):
    """Begin to listen to a channel, under an id that the client chooses."""

    id: str
    channel: str
    filter: Filter = msgspec.field(default_factory=Filter)
    history: int = 0
    """How many of the newest records to begin with."""
    resume: Resume | None = None
    """Instead of `history`: everything since then."""


class Unsubscribe(msgspec.Struct, tag_field="type", tag="unsubscribe", forbid_unknown_fields=True):
    """End it."""

    id: str


class Ping(msgspec.Struct, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """Is anybody there? Answered with a heartbeat."""


FromClient = Subscribe | Unsubscribe | Ping
decode_client: Callable[[str], FromClient] = msgspec.json.Decoder(FromClient).decode
encode = msgspec.json.Encoder().encode


def said(kind: str, **fields: Any) -> bytes:
    """A message without records."""
    return encode({"type": kind, **fields})


def said_again(id_: str, message: bytes) -> bytes:
    """A message, encoded once for all, with one subscription's id."""
    return b'{"id":%b,%b' % (encode(id_), message[1:])


def records(
    kind: str, head: Mapping[str, Any], first: int, last: int, left: int, items: bytes
) -> bytes:
    """A message with records `first…last` of a writer, of which `left` are not in it.

    `items`: JSON of the others with commas between.
    """
    fields = encode({"type": kind, **head, "first": first, "last": last, "left": left})
    return b'%b,"items":[%b]}' % (fields[:-1], items)
