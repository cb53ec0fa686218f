"""Re-keying: what to do with an object whose name is taken by other bytes.

Names are made so that this cannot happen: an epoch is random, a number is given once, and nothing
is uploaded before it is durable. It happens all the same when a volume was copied or a disk lied.
From the disputed object on, the writer is stored under another epoch, numbered from 1 again; the
rename is durable before the first such object is stored, so that a restart makes the same bytes.
"""

from collections.abc import Iterator, Mapping

import msgspec

from spanyard_core.chunks import ChunkWriter, decode_facts, decoded_blocks
from spanyard_sidecar.entries import Rename
from spanyard_sidecar.gaps import META
from spanyard_sidecar.model import NewObject

CONFLICT = "name-conflict"
"""Cause of the begin line of the writer that goes on."""

_Fields = dict[str, msgspec.Raw]
_fields = msgspec.json.Decoder(_Fields)


def renamed(writer: str, epoch: str) -> str:
    """The writer's id in another epoch."""
    return f"{writer.rpartition('@')[0] or writer}@{epoch}"


def base_of(writer: str) -> str:
    """The writer that this one belongs to; lines about a writer keep its order."""
    return writer.removesuffix(META)


def needs_rekey(writer: str, first: int, entry: int, renames: Mapping[str, Rename]) -> bool:
    """Whether an object of `entry` that begins with `first` is not stored under its own name."""
    if not renames:
        return False
    own = renames.get(writer)
    if own is not None and first >= own.first:
        return True
    subject = renames.get(base_of(writer))
    return writer.endswith(META) and subject is not None and entry > subject.entry


def rekeyed(data: bytes, entry: int, renames: Mapping[str, Rename]) -> NewObject:
    """The object as it must be stored now: other names and numbers inside, same records."""
    facts, at = decode_facts(data)
    writer, first = facts.writer, facts.first
    shift = 0
    while (rename := renames.get(writer)) is not None and first >= rename.first:
        writer, shift, first = rename.to, shift + rename.first - 1, first - rename.first + 1
    chunk = ChunkWriter()
    for line in _lines(data[at:]):
        fields = _fields.decode(line)
        seq = msgspec.json.decode(fields["seq"], type=int)
        fields["writer"] = _raw(writer)
        fields["seq"] = _raw(seq - shift)
        if "subject" in fields:
            _follow_subject(fields, entry, renames)
        chunk.add(msgspec.json.encode(fields) + b"\n", 1)
    new, parts = chunk.finish(
        signal=facts.signal,
        project=facts.project,
        writer=writer,
        first=first,
        last=facts.last - shift,
        time_ns=facts.time_ns,
        source=facts.source,
    )
    return NewObject(new.name.key(), new, parts)


def _follow_subject(fields: _Fields, entry: int, renames: Mapping[str, Rename]) -> None:
    subject = msgspec.json.decode(fields["subject"], type=str)
    raw = fields.get("afterSeq")
    after = msgspec.json.decode(raw, type=int) if raw is not None else 0
    while (rename := renames.get(subject)) is not None and entry > rename.entry:
        subject, after = rename.to, max(0, after - rename.first + 1)
    fields["subject"] = _raw(subject)
    if raw is not None:
        fields["afterSeq"] = _raw(after)


def _raw(value: str | int) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _lines(frames: bytes) -> Iterator[bytes]:
    rest = b""
    for block in decoded_blocks(frames):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def last_end(data: bytes, subject: str) -> tuple[int, int] | None:
    """Last seq and bytes read in the object's last end line about `subject`, if it has one."""
    found = None
    _, at = decode_facts(data)
    for line in _lines(data[at:]):
        about = msgspec.json.decode(line, type=_About)
        if about.subject == subject and about.event in {"begin", "end"}:
            found = (about.after_seq, about.bytes or 0) if about.event == "end" else None
    return found


class _About(msgspec.Struct, rename="camel"):
    event: str
    subject: str
    after_seq: int = 0
    bytes: int | None = None
