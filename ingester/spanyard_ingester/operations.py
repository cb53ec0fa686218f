"""Operations: what a ledger entry can say. One entry carries several, applied in order.

The forms are stored for ever (until compacted) and read by later versions: fields may be added
with a default, never renamed or given another meaning.
"""

import hashlib

import msgspec

from spanyard_core.chunks import Source
from spanyard_core.object_names import PENDING, PROCESSED, QUARANTINE, ChunkName, PlainName
from spanyard_core.records import Signal

Range = tuple[int, int]
"""First and last seq, both included."""


class _Operation(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    pass


class LoadedObject(_Operation):
    """One object of a plan: which of its seqs become rows."""

    key: str
    size: int
    """Bytes as stored."""
    sha256: str
    """Of a chunk the digest its frame declares; of a plain object that of all its bytes."""
    project: str
    writer: str
    first: int
    last: int
    load: list[Range] = []
    """What to load; empty means all of first…last."""
    absent: list[Range] = []
    """Seqs within first…last for which the object has no line at all."""
    source: Source | None = None

    @property
    def ranges(self) -> list[Range]:
        """What to load, spelled out."""
        return self.load or [(self.first, self.last)]

    @property
    def rows(self) -> int:
        """How many rows that makes."""
        return sum(last - first + 1 for first, last in self.ranges)


class Plan(_Operation, tag="plan"):
    """These objects are going to be inserted, under this attempt, into one part of one table."""

    attempt: int
    table: Signal
    day: str
    """Ingest day, `2026-11-21`: the partition, whenever the insert really runs."""
    objects: list[LoadedObject]


class Commit(_Operation, tag="commit"):
    """The attempt's rows were read back and are what its plan says."""

    attempt: int


class Abandon(_Operation, tag="abandon"):
    """The attempt is given up: its rows, should any ever land, are to be deleted."""

    attempt: int
    reason: str


class Close(_Operation, tag="close"):
    """Like abandon, because the data was refused; what is bad of it stands in the same entry."""

    attempt: int
    reason: str


class BadLine(_Operation):
    """One line that goes to quarantine."""

    id: str
    line: int
    """From 1, counting every line of the object."""
    offset: int
    """Of its first byte among the object's decoded bytes."""
    size: int
    """Bytes without the newline."""
    reason: str
    seq: int = 0
    """The seq it had or must have had; 0 where that cannot be told."""


class Bad(_Operation, tag="bad"):
    """Lines of one object that are never loaded from it."""

    key: str
    signal: str
    project: str
    writer: str
    lines: list[BadLine]


class Done(_Operation, tag="done"):
    """Objects of which nothing is left to load (every line is bad, or there is none)."""

    attempt: int
    """An id like that of a plan, though no row carries it: `Settled` names it."""
    table: Signal
    objects: list[LoadedObject]


class Reject(_Operation, tag="reject"):
    """A whole object goes to quarantine."""

    id: str
    key: str
    signal: str
    project: str
    size: int
    reason: str
    writer: str = ""
    first: int = 0
    last: int = 0


class Filed(_Operation, tag="filed"):
    """Rejected objects and bad lines have their quarantine rows (and rejected objects moved)."""

    ids: list[str]


class Settled(_Operation, tag="settled"):
    """All objects of these attempts are moved, deleted or kept, as configured."""

    attempts: list[int]


class Replay(_Operation, tag="replay"):
    """A quarantined line was written as an object of its own, or an object goes back to pending."""

    id: str
    key: str
    """The pending key under which it is loaded (again)."""


class Delete(_Operation, tag="delete"):
    """Quarantined things were deleted on demand."""

    ids: list[str]


class Forget(_Operation, tag="forget"):
    """Rows of these ranges are going to be deleted, and their objects loaded again."""

    id: str
    table: Signal
    ranges: dict[str, list[Range]]
    """By scope (`operations.scope_of`); of a plain object all that it has."""
    writers: dict[str, str]
    """Scope → the writer's name, which the rows carry."""
    keys: list[str]
    """The objects, wherever they lie."""
    before: int
    """Only rows of lesser attempts are deleted. Every later plan has a greater one, so that a
    deletion that runs late, or twice, never touches what was loaded again."""


class Forgotten(_Operation, tag="forgotten"):
    """The rows of that Forget are gone; its objects are to be loaded."""

    id: str


class Erase(_Operation, tag="erase"):
    """Data was deleted on demand (privacy): what, and how much of it."""

    id: str
    scope: str
    rows: int
    objects: int
    complete: bool = False
    """False in the entry before the deletion, true in the one after it."""


class Note(_Operation, tag="note"):
    """Nothing but a sign of life or an explanation."""

    text: str = ""


Operation = (
    Plan
    | Commit
    | Abandon
    | Close
    | Bad
    | Done
    | Reject
    | Filed
    | Settled
    | Replay
    | Delete
    | Forget
    | Forgotten
    | Erase
    | Note
)


class Entry(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One object of the log."""

    v: int = 1
    shard: int
    n: int
    owner: str
    """The name under which an ingester comes back after a restart."""
    instance: str
    """Random, new for every process."""
    nonce: str
    """Random, new for every append: tells one's own entry after a lost answer."""
    time: str
    operations: list[Operation]


_entry_decoder = msgspec.json.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """The bytes of a ledger object."""
    return msgspec.json.encode(entry) + b"\n"


def decode_entry(data: bytes) -> Entry:
    """The entry behind a ledger object's bytes. Raises msgspec.DecodeError."""
    return _entry_decoder.decode(data)


def scope_of(signal: str, project: str, writer_hash: str) -> str:
    """What seqs are counted under: a writer within one signal and project.

    The project is part of it because writers' names are the tenant's claim: an object under
    another project can never make this one's seqs look loaded.
    """
    return f"{signal}/{project}/{writer_hash}"


def scope_of_name(name: ChunkName | PlainName) -> str:
    """The scope of an object, from its name alone."""
    if isinstance(name, ChunkName):
        return scope_of(name.signal, name.project, name.writer_hash)
    digest = hashlib.sha256(name.writer.encode()).hexdigest()[:20]
    return scope_of(name.signal, name.project, digest)


def object_id(key: str) -> str:
    """The quarantine id of a whole object; the same each time it is rejected."""
    return hashlib.sha256(tail_of(key).encode()).hexdigest()[:24]


def line_id(key: str, line: int) -> str:
    """The quarantine id of a line; the same wherever the object was moved."""
    return hashlib.sha256(f"{tail_of(key)}\n{line}".encode()).hexdigest()[:24]


def tail_of(key: str) -> str:
    """The key without its root, which changes when an object is moved."""
    return key.partition("/")[2]


def processed_key(key: str) -> str:
    """Where a loaded object goes."""
    return f"{PROCESSED}/{tail_of(key)}"


def quarantine_key(key: str) -> str:
    """Where a rejected object goes."""
    return f"{QUARANTINE}/{tail_of(key)}"


def pending_key(key: str) -> str:
    """Where an object was when it was new."""
    return f"{PENDING}/{tail_of(key)}"
