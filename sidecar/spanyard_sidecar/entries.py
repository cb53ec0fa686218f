"""The files of the spool as bytes: entries and state files. Format here, life cycle in `spool`.

An entry is one transaction: any number of objects and the new states of any number of writers.

    magic "SPANENT1" | length of head, u32 LE | crc32 of head, u32 LE | head, JSON | object bytes

A state file is the fold of all entries up to its number, in the same framing without bytes after.
"""

import re
import zlib
from typing import Any

import msgspec

from spanyard_core.chunks import ChunkFacts
from spanyard_core.errors import SpanyardError
from spanyard_core.files import ReadFile

ENTRY_MAGIC = b"SPANENT1"
STATE_MAGIC = b"SPANSTA1"
_FRAME = 16
MAX_HEAD = 256 << 20
"""A head that claims more is damaged. A thousand writers take about 1 MiB."""
_FIRST_READ = 16 * 1024

_NAME = re.compile(r"(\d{16})\.(entry|done|state|damaged)")


class DamagedEntryError(SpanyardError):
    """A file of the spool is not what was written: the disk, or a hand, changed it."""


class SpooledObject(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One object inside an entry."""

    key: str
    facts: ChunkFacts
    offset: int
    """From the end of the head."""
    length: int
    container: str = ""


class Rename(msgspec.Struct, frozen=True, rename="camel"):
    """A writer whose name turned out to be taken: from seq `first` on it is stored as `to`."""

    to: str
    first: int
    entry: int
    """Number of the entry whose upload found it out; the gap lines of later ones are re-keyed."""


class EntryHead(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What an entry says of itself."""

    n: int
    epoch: str
    objects: list[SpooledObject] = []
    states: dict[str, Any] = {}
    """Writer → state after this entry; null forgets the writer."""
    renames: dict[str, Rename] = {}

    @property
    def writers(self) -> set[str]:
        """Writers that the entry holds something of."""
        return {item.facts.writer for item in self.objects} | set(self.states)


class Fold(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """All states up to an entry."""

    n: int
    epoch: str
    born_ns: int
    """When the epoch began, wall time: no other collector read anything later than this."""
    states: dict[str, Any] = {}
    last: dict[str, int] = {}
    """Writer → last seq in any entry, to find out that one between was lost."""
    renames: dict[str, Rename] = {}
    unstored_before: int = 0
    """Entries below this number are of an epoch that was given up with the spool's states: what
    they hold must be in storage before anyone asks how far a source is stored."""

    def apply(self, head: EntryHead) -> None:
        """Go on to the next entry."""
        self.n = head.n
        for item in head.objects:
            self.last[item.facts.writer] = item.facts.last
        for writer, state in head.states.items():
            if state is None:
                for table in (self.states, self.last, self.renames):
                    table.pop(writer, None)
            else:
                self.states[writer] = state
        self.renames.update(head.renames)


_encoder = msgspec.json.Encoder()
_heads = msgspec.json.Decoder(EntryHead)
_folds = msgspec.json.Decoder(Fold)


def file_name(n: int, kind: str) -> str:
    """Name of the n-th entry or state file; sorts by number."""
    return f"{n:016d}.{kind}"


def parse_name(name: str) -> tuple[int, str] | None:
    """Number and kind of a file, None when the name is not one of ours."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def _framed(magic: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(payload)
    return magic + len(payload).to_bytes(4, "little") + crc.to_bytes(4, "little") + payload


def encode_head(head: EntryHead) -> bytes:
    """An entry up to its object bytes."""
    return _framed(ENTRY_MAGIC, _encoder.encode(head))


def encode_fold(fold: Fold) -> bytes:
    """A whole state file."""
    return _framed(STATE_MAGIC, _encoder.encode(fold))


def _read_framed(file: ReadFile, magic: bytes, what: str) -> tuple[bytes, int]:
    start = file.pread(_FIRST_READ, 0)
    if len(start) < _FRAME or start[:8] != magic:
        raise DamagedEntryError(f"{what} does not begin as it should")
    length = int.from_bytes(start[8:12], "little")
    crc = int.from_bytes(start[12:16], "little")
    if length > MAX_HEAD:
        raise DamagedEntryError(f"{what} claims a head of {length} bytes")
    payload = start[_FRAME : _FRAME + length]
    if len(payload) < length:
        payload += file.pread(length - len(payload), _FRAME + len(payload))
    if len(payload) < length or zlib.crc32(payload) != crc:
        raise DamagedEntryError(f"{what} is cut short or changed")
    return payload, _FRAME + length


def read_head(file: ReadFile, what: str) -> tuple[EntryHead, int]:
    """Head of an entry and the offset of its object bytes. Raises DamagedEntryError, OSError."""
    payload, at = _read_framed(file, ENTRY_MAGIC, what)
    try:
        head = _heads.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedEntryError(f"{what} is not readable: {error}") from error
    size = at + sum(item.length for item in head.objects)
    if file.stat().size != size:
        raise DamagedEntryError(f"{what} has {file.stat().size} bytes; its head says {size}")
    return head, at


def read_fold(file: ReadFile, what: str) -> Fold:
    """A state file. Raises DamagedEntryError, OSError."""
    payload, _ = _read_framed(file, STATE_MAGIC, what)
    try:
        return _folds.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedEntryError(f"{what} is not readable: {error}") from error
