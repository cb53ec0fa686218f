"""Names of objects in the bucket: made here, parsed here, nowhere else (contracts, "Objects").

A name says what listing needs (signal, project, time, writer, range); the object's frame says the
rest. Parsing is strict: what does not parse is a foreign file, which is never loaded or deleted.
"""

import hashlib
import re
from dataclasses import dataclass

from spanyard_core.clock import compact_utc
from spanyard_core.errors import BadRecordError
from spanyard_core.records import SIGNALS, Signal

PENDING = "observability"
PROCESSED = "processed"
QUARANTINE = "quarantine"
LEDGER = "ledger"

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,48}[a-z0-9])?"
"""A DNS label of at most 50 characters, so that no name contains `{` or `/`."""
_LABEL_RE = re.compile(_LABEL)
PROJECT_PATTERN = rf"{_LABEL}\.{_LABEL}"
_PROJECT_RE = re.compile(PROJECT_PATTERN)
_TAIL = rf"(?P<signal>{'|'.join(SIGNALS)})/(?P<project>{_LABEL}\.{_LABEL})"
_CHUNK_RE = re.compile(
    rf"(?P<root>{PENDING}|{PROCESSED}|{QUARANTINE})/{_TAIL}"
    r"/(?P<time>\d{8}T\d{6}Z)_(?P<writer>[0-9a-f]{20})-(?P<first>[1-9]\d{0,18})-(?P<last>[1-9]\d{0,18})"
    r"\.jsonl\.zst",
    re.ASCII,  # other scripts' digits are numbers too, and would make two keys of one name
)
_PLAIN_RE = re.compile(
    rf"(?P<root>{PENDING}|{PROCESSED}|{QUARANTINE})/{_TAIL}"
    r"/(?P<name>[A-Za-z0-9][A-Za-z0-9_.:+-]{0,150})\.jsonl"
)

_MOST_SEQ = 2**63 - 1
"""As the schema of lines says; cursors of the gateway and live streams have no larger one either."""


def writer_hash(writer: str) -> str:
    """The writer's part of an object name: 80 bits of sha256, hex, 20 characters."""
    return hashlib.sha256(writer.encode()).hexdigest()[:20]


def check_label(text: str, what: str) -> str:
    """A namespace or name: a DNS label of at most 50 characters. Raises BadRecordError."""
    if not _LABEL_RE.fullmatch(text):
        raise BadRecordError(
            f"{what} {text[:80]!r} is not a name: at most 50 lower-case letters, digits and dashes, "
            "beginning and ending with a letter or digit"
        )
    return text


def check_project(text: str) -> str:
    """A project id, `{namespace}.{name}`. Raises BadRecordError."""
    if not _PROJECT_RE.fullmatch(text):
        raise BadRecordError(
            f"project {text[:120]!r} is not of the form namespace.name (each at most 50 lower-case "
            "letters, digits and dashes)"
        )
    return text


@dataclass(frozen=True, slots=True)
class ChunkName:
    """Name of an object that a collector wrote: seqs first…last of one writer."""

    signal: Signal
    project: str
    time: str
    """First record's time, `20261121T144500Z`."""
    writer_hash: str
    first: int
    last: int
    root: str = PENDING

    def key(self, root: str | None = None) -> str:
        """The object's key, under another root when given."""
        return (
            f"{root or self.root}/{self.signal}/{self.project}/"
            f"{self.time}_{self.writer_hash}-{self.first}-{self.last}.jsonl.zst"
        )

    @classmethod
    def of(
        cls, signal: Signal, project: str, time_ns: int, writer: str, first: int, last: int
    ) -> "ChunkName":
        """The name for a chunk of `writer`, whose first record has the time `time_ns`."""
        return cls(
            signal, check_project(project), compact_utc(time_ns), writer_hash(writer), first, last
        )


@dataclass(frozen=True, slots=True)
class PlainName:
    """Name of a plain `.jsonl` object in the layout of T5: writer = sha256 of the pending key."""

    signal: Signal
    project: str
    name: str
    root: str = PENDING

    def key(self, root: str | None = None) -> str:
        """The object's key, under another root when given."""
        return f"{root or self.root}/{self.signal}/{self.project}/{self.name}.jsonl"

    @property
    def writer(self) -> str:
        """The id of the writer whose only object this is; the same wherever it was moved."""
        return "plain:" + hashlib.sha256(self.key(PENDING).encode()).hexdigest()


def parse_key(key: str) -> ChunkName | PlainName:
    """The name behind a key. Raises BadRecordError, which says what about it is foreign."""
    match = _CHUNK_RE.fullmatch(key)
    if match:
        first, last = int(match["first"]), int(match["last"])
        if first > last:
            raise BadRecordError(f"object {key!r} names an empty range {first}-{last}")
        if last > _MOST_SEQ:
            raise BadRecordError(f"object {key!r} names a seq larger than {_MOST_SEQ}")
        signal: Signal = match["signal"]  # type: ignore[assignment]  # the pattern allows no other
        return ChunkName(
            signal, match["project"], match["time"], match["writer"], first, last, match["root"]
        )
    match = _PLAIN_RE.fullmatch(key)
    if match:
        signal = match["signal"]  # type: ignore[assignment]  # the pattern allows no other
        return PlainName(signal, match["project"], match["name"], match["root"])
    parts = key.split("/")
    if len(parts) > 1 and parts[1] not in SIGNALS:
        raise BadRecordError(
            f"object {key[:200]!r} names the unknown signal {parts[1][:40]!r}; known are "
            + ", ".join(SIGNALS)
        )
    raise BadRecordError(
        f"object {key[:200]!r} is not named {{signal}}/{{namespace.project}}/"
        "{time}_{writer hash}-{first}-{last}.jsonl.zst nor …/{name}.jsonl: a foreign file"
    )


def ledger_key(shard: int, n: int) -> str:
    """Key of the n-th entry of a shard's ledger; sorts by number."""
    return f"{LEDGER}/{shard}/{n:012d}.json"
