"""Channels and filters: what a listener asks for, as names and as a test of records."""

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from spanyard_core.errors import BadRecordError
from spanyard_gateway.live.records import Block, LiveSignal, LogRecord, Picks, Record
from spanyard_gateway.live.searching import search_test

Kind = Literal["build", "server", "deployment", "trace", "project"]
KINDS: tuple[Kind, ...] = ("build", "server", "deployment", "trace", "project")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TRACE = re.compile(r"[0-9a-zA-Z_.:-]{1,128}")
MAX_TEXT = 1_000
MAX_NAME = 253
"""Characters of a name, as in Kubernetes. What is asked for stays in memory while it is listened to:
unbounded, 121 MB of names that are nowhere took 820 MB."""
MAX_VALUES = 50
"""Of a list in a filter."""


class BadChannelError(BadRecordError):
    """There can be no such channel or filter; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Channel:
    """`{kind}:{namespace}.{name}`, of a trace `trace:{namespace}.{project}/{trace id}`."""

    kind: Kind
    namespace: str
    name: str
    """Of the build, deployment or project."""
    trace: str = ""

    @property
    def id(self) -> str:
        """`{namespace}.{name}`."""
        return f"{self.namespace}.{self.name}"

    def wants(self, block: Block) -> bool:
        """Whether records of this kind belong to the channel at all."""
        return block.signal in self.signals

    @property
    def signals(self) -> tuple[LiveSignal, ...]:
        """Of the records that it gives."""
        if self.kind == "deployment":
            return ()
        return ("logs",) if self.kind in {"build", "server"} else ("logs", "spans")

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}" + (f"/{self.trace}" if self.kind == "trace" else "")


def parse_channel(text: str) -> Channel:
    """Raises BadChannelError."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        raise BadChannelError(
            f"channel {text[:100]!r}: must begin with one of "
            + ", ".join(f"{known}:" for known in KINDS)
        )
    target, slash, trace = rest.partition("/")
    if kind == "trace" and not (slash and _TRACE.fullmatch(trace)):
        raise BadChannelError(
            f"channel {text[:100]!r}: a trace is named trace:{{namespace}}.{{project}}/{{trace id}}"
        )
    if kind != "trace" and slash:
        raise BadChannelError(f"channel {text[:100]!r}: only a trace has a part after `/`")
    namespace, dot, name = target.partition(".")
    if max(len(namespace), len(name)) > MAX_NAME:
        raise BadChannelError(f"channel {text[:100]!r}…: a name has at most {MAX_NAME} characters")
    if (
        not dot
        or not _NAME.fullmatch(namespace)
        or not all(_NAME.fullmatch(part) for part in name.split("."))
    ):
        raise BadChannelError(
            f"channel {text[:100]!r}: after `{kind}:` comes {{namespace}}.{{name}}, as in "
            f"{kind}:local.support"
        )
    return Channel(kind, namespace, name, trace)


class Filter(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Which records are wanted; what is not given leaves nothing out. But for `q` spans always come."""

    level: list[Literal["debug", "info", "warn", "error", "fatal"]] = []
    stream: list[str] = []
    container: list[str] = []
    text: str = ""
    """A part of the line, in any case."""
    q: str = ""
    """A search (docs/search.md), of lines and of spans."""


def picks_of(channel: Channel, filter_: Filter) -> Picks | None:
    """The test of a record; None when every record is wanted.

    Raises BadChannelError, SearchError.
    """
    search = search_test(filter_.q, channel.signals) if filter_.q else None
    if len(filter_.text) > MAX_TEXT:
        raise BadChannelError(f"filter.text: at most {MAX_TEXT} characters")
    for name, values in _lists(filter_):
        if len(values) > MAX_VALUES or any(len(value) > MAX_NAME for value in values):
            raise BadChannelError(
                f"filter.{name}: at most {MAX_VALUES} values of {MAX_NAME} characters; "
                "leave it out, and choose from what comes"
            )
    trace = channel.trace
    if not (trace or filter_.level or filter_.stream or filter_.container or filter_.text):
        return search
    levels, streams = frozenset(filter_.level), frozenset(filter_.stream)
    containers, text = frozenset(filter_.container), filter_.text.casefold()

    def picks(record: Record) -> bool:
        if trace and record.trace_id != trace:
            return False
        if search is not None and not search(record):
            return False
        if not isinstance(record, LogRecord):
            return True
        return (
            (not levels or record.level in levels)
            and (not streams or record.stream in streams)
            and (not containers or record.container in containers)
            and (not text or text in record.message.casefold())
        )

    return picks


def _lists(filter_: Filter) -> Iterator[tuple[str, Sequence[str]]]:
    yield "level", filter_.level
    yield "stream", filter_.stream
    yield "container", filter_.container


def key_of(channel: Channel, filter_: Filter) -> Hashable:
    """Stands for `picks_of(channel, filter_)`: whoever has the same key wants the same records."""
    return channel.trace, channel.signals, msgspec.json.encode(filter_)
