"""The book of writers: their begin, end and gap lines, committed with what they speak of.

Each writer has a meta writer, `{writer}/meta` of signal `gaps`, numbered from 1 by a state in the
spool; the line that a chunk needs (its writer's begin) goes ahead of it in the same entry. The last
of begin and end says whether the writer is open.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from spanyard_core.chunks import ChunkWriter
from spanyard_core.clock import Clock, rfc3339
from spanyard_core.records import GapLine, Signal
from spanyard_sidecar.entries import Rename
from spanyard_sidecar.model import End, Gap, Identity, NewObject, State, Stored
from spanyard_sidecar.spool import Spool

META = "/meta"


@dataclass(frozen=True, slots=True)
class Subject:
    """The writer that notes are about."""

    writer: str
    signal: Signal
    container: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One line to be written about a writer: the fields of GapLine that differ."""

    subject: Subject
    fields: dict[str, object] = field(default_factory=dict)


def begin(
    subject: Subject, *, cause: str = "", message: str = "", stored: Stored | None = None
) -> Note:
    """The writer exists from here on; with `stored` it goes on for a writer of a lost spool."""
    fields: dict[str, object] = {"event": "begin", "cause": cause, "message": message}
    if stored is not None:
        fields |= {"continues": stored.writer, "continues_seq": stored.last_seq}
    return Note(subject, fields)


def ended(subject: Subject, end: End) -> Note:
    """The writer is complete: its last seq, and how much was read for it."""
    return Note(subject, {"event": "end", "after_seq": end.last_seq, "bytes": end.bytes_read})


def gap(subject: Subject, gap: Gap, *, after_seq: int) -> Note:
    """Something of the writer was lost after `after_seq`."""
    return Note(
        subject,
        {
            "event": "gap",
            "cause": gap.cause,
            "message": gap.message,
            "after_seq": after_seq,
            "lines": gap.lines,
            "bytes": gap.bytes,
            "from_time": gap.from_time,
            "to_time": gap.to_time,
            "source": gap.source,
            "from_offset": gap.from_offset,
            "to_offset": gap.to_offset,
        },
    )


class Book:
    """Commits objects, states and notes in one entry; numbers the notes."""

    def __init__(self, spool: Spool, identity: Identity, clock: Clock) -> None:
        self.spool = spool
        self.identity = identity
        self._clock = clock
        self._lock = asyncio.Lock()

    def is_known(self, writer: str) -> bool:
        """Whether a begin line of the writer is durable."""
        return writer + META in self.spool.states

    def is_open(self, writer: str) -> bool:
        """Whether the last of its begin and end lines is a begin."""
        state = self.spool.states.get(writer + META)
        return bool(state and state["open"])

    async def commit(
        self,
        objects: Sequence[NewObject],
        states: Mapping[str, State | None],
        notes: Iterable[Note] = (),
        *,
        renames: Mapping[str, Rename] | None = None,
        last_resort: bool = False,
    ) -> int:
        """One entry: the notes' lines first, then `objects`. Raises like `Spool.commit`."""
        async with self._lock:
            lines, meta_states = self._write(notes)
            return await self.spool.commit(
                [*lines, *objects],
                {**states, **meta_states},
                renames=renames,
                last_resort=last_resort,
            )

    def _write(self, notes: Iterable[Note]) -> tuple[list[NewObject], dict[str, State]]:
        by_subject: dict[str, list[Note]] = {}
        for note in notes:
            by_subject.setdefault(note.subject.writer, []).append(note)
        objects: list[NewObject] = []
        states: dict[str, State] = {}
        for subject, group in by_subject.items():
            writer = subject + META
            state = self.spool.states.get(writer) or {"seq": 0, "open": False}
            item, state = self._object(writer, group, state)
            objects.append(item)
            states[writer] = state
        return objects, states

    def _object(self, writer: str, notes: list[Note], state: State) -> tuple[NewObject, State]:
        now = self._clock.time_ns()
        chunk = ChunkWriter()
        first, is_open = int(state["seq"]) + 1, bool(state["open"])
        last = first + len(notes) - 1
        for seq, note in enumerate(notes, first):
            line = self._line(writer, seq, note, now)
            chunk.add(msgspec.json.encode(line) + b"\n", 1)
            if line.event != "gap":
                is_open = line.event == "begin"
        facts, parts = chunk.finish(
            signal="gaps",
            project=self.identity.project,
            writer=writer,
            first=first,
            last=last,
            time_ns=now,
        )
        return NewObject(facts.name.key(), facts, parts), {"seq": last, "open": is_open}

    def _line(self, writer: str, seq: int, note: Note, now: int) -> GapLine:
        identity = self.identity
        fields: dict[str, object] = {
            "project": identity.project,
            "writer": writer,
            "seq": seq,
            "uid": identity.uid,
            "deployment": identity.deployment,
            "build": identity.build,
            "pod": identity.pod,
            "container": note.subject.container,
            "timestamp": rfc3339(now),
            "subject": note.subject.writer,
            "signal": note.subject.signal,
            **note.fields,
        }
        return GapLine(**fields)  # type: ignore[arg-type]  # the functions above give its fields


def without_meta(states: Mapping[str, State]) -> dict[str, State]:
    """The states of sources alone."""
    return {writer: state for writer, state in states.items() if not writer.endswith(META)}
