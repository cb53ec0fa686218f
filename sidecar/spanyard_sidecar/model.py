"""What flows inside the collector: sources give blocks, blocks fill chunks, entries hold chunks.

A source is one writer's input: a container's run, a span file, or one OTLP signal. It numbers its
records itself, from the bytes alone, so that reading again after a crash gives the same records
the same ids. The pipeline asks it for blocks, cuts chunks, and makes chunk and state durable
together; a source is never asked again for what its stored state covers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from spanyard_core.chunks import ChunkFacts
from spanyard_core.chunks import Source as SourceRange
from spanyard_core.records import Signal

State = dict[str, Any]
"""JSON-able; what a source needs to go on after its last block."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the records belong to; stamped on every line by the collector, never by the tenant."""

    project: str
    uid: str = ""
    deployment: str = ""
    build: str = ""
    pod: str = ""
    pod_uid: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something of a writer was lost, or given up by a decision that bytes alone don't repeat."""

    cause: str
    message: str
    lines: int | None = None
    bytes: int | None = None
    from_time: str = ""
    to_time: str = ""
    source: str = ""
    from_offset: int | None = None
    to_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Some records of one source, encoded: `lines` are whole JSON lines with their seqs inside.

    With `cut`, the pipeline makes everything up to and including this block durable before it
    shows the block to anyone or asks the source again: decisions by time or circumstance, a gap,
    the change to another file.
    """

    lines: bytes
    records: int
    first: int
    """seq of the first record; first + records - 1 is the last's. Unused when records is 0."""
    time_ns: int
    """Time of the first record."""
    range: SourceRange | None = None
    """Which bytes of which file this block was made of. None for OTLP."""
    gaps: Sequence[Gap] = ()
    cut: bool = False
    new_file: bool = False
    """The block begins in another file than the one before: a chunk never spans two."""


@dataclass(frozen=True, slots=True)
class End:
    """What a source knows of itself when it has ended."""

    last_seq: int
    bytes_read: int


class Source(Protocol):
    """One writer's input. Not concurrent: the pipeline calls one method at a time."""

    @property
    def writer(self) -> str: ...

    @property
    def signal(self) -> Signal: ...

    @property
    def container(self) -> str:
        """Ring and filter key: the container's name, or `otlp`, or `files`."""
        ...

    def read(self, budget: int) -> Block | None:
        """The next records of at most about `budget` input bytes; None when there is nothing new.

        Never blocks longer than a read from the page cache. Raises OSError for a file that cannot
        be read (the pipeline reports it and comes back later).
        """
        ...

    def state(self) -> State:
        """State after all blocks returned so far."""
        ...

    @property
    def ended(self) -> bool:
        """The source is complete: nothing more will come, and everything was returned."""
        ...

    def finish(self) -> Block | None:
        """At the collector's end: give up what is pending (an unterminated last line) as records.

        Called until it gives None. Raises OSError like `read`; then its end is not known.
        """
        ...

    def end(self) -> End: ...

    def stored(self, state: State) -> None:
        """Everything up to `state` is durable in the spool: log segments may be given back."""
        ...

    def uploaded(self, state: State) -> None:
        """Everything up to `state` is in storage: a rotated span file may be deleted."""
        ...

    def close(self) -> None: ...


class Sources(Protocol):
    """A kind of sources: finds them. One each for CRI logs, span files, OTLP."""

    def scan(self, states: Mapping[str, State], epoch: str) -> list[Source]:
        """Sources that are new since the last call, opened at their state where there is one.

        `states` is writer → state as the spool recovered it (without those that are ended and
        gone).
        """
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """How far a source is stored by an earlier epoch, whose spool was lost."""

    writer: str
    last_seq: int
    to_offset: int
    pending: Sequence[tuple[int, int]] = ()


@runtime_checkable
class Continues(Protocol):
    """A source over files, which an earlier epoch may have read before its spool was lost.

    The pipeline asks about a source that the spool has no state for, before its first `read`.
    """

    def first_time_ns(self) -> int | None:
        """Time of the oldest record that is still there; None while there is none."""
        ...

    def fingerprints(self) -> Sequence[str]:
        """Of the writer's files that are still there, newest first; none while undefined."""
        ...

    def go_on_from(self, fingerprint: str, stored: Stored) -> None:
        """Begin after what `stored` covers of the file with this fingerprint, skipping older ones."""
        ...

    def begin_anew(self) -> None:
        """Begin with the oldest file: nothing of those that are there is known to be stored.

        Others may have come and gone before; what they held is told as a gap of unknown size.
        """
        ...


@runtime_checkable
class Forgets(Protocol):
    """Sources that can tell when a writer's state is of no use any more."""

    def forgotten(self, states: Mapping[str, State]) -> list[str]:
        """Writers among `states` that have ended and whose files are gone: forget them."""
        ...


@runtime_checkable
class Remote(Protocol):
    """Sources that come over a network: whether all is read, only they can tell."""

    def ending(self) -> None:
        """The collector ends: what is there now is to be read, and then no more."""
        ...

    @property
    def unsettled(self) -> Sequence[str]:
        """Writers, or what else, of which not all is read that was there when the end began."""
        ...


class SourceIndex(Protocol):
    """Asks the gateway what of a file is stored. Raises StorageError while it cannot answer."""

    async def stored_through(self, project: str, fingerprint: str) -> Stored | None: ...


@dataclass(frozen=True, slots=True)
class NewObject:
    """One object to be spooled: its name, its facts, its bytes in parts."""

    key: str
    facts: ChunkFacts
    parts: Sequence[bytes] = field(repr=False)
    container: str = ""
    """The source's ring key; empty for gap lines, which no ring shows."""
