"""One writer while it is read: its source, its open chunk, and what must be committed of it."""

from spanyard_core.chunks import ChunkWriter
from spanyard_core.chunks import Source as SourceRange
from spanyard_sidecar.gaps import Note, Subject
from spanyard_sidecar.model import Block, NewObject, Source, State
from spanyard_sidecar.ring import Ring


class OpenWriter:
    """Fills chunks from blocks; a chunk is one run of seqs from one file."""

    __slots__ = (
        "_chunk",
        "_first",
        "_last",
        "_may_skip",
        "_range",
        "_ring",
        "_taken",
        "_time_ns",
        "begin",
        "behind",
        "changed",
        "ended",
        "finished",
        "last_entry",
        "last_seq",
        "next_read",
        "notes",
        "opened",
        "project",
        "source",
        "subject",
        "suspended",
        "uploaded",
    )

    def __init__(self, source: Source, project: str, ring: Ring, last_seq: int) -> None:
        self.source = source
        self._ring = ring
        self.project = project
        self.subject = Subject(source.writer, source.signal, source.container)
        self._chunk: ChunkWriter | None = None
        self._first = self._last = self._time_ns = 0
        self._range: SourceRange | None = None
        self._may_skip = False
        """A gap was told: numbers may be missing before the next record."""
        self._taken = False
        """Some of it is on its way into an entry."""
        self.last_seq = last_seq
        """Last seq that the source gave, in this run or, as far as durable, before it."""
        self.opened = 0.0
        """Monotonic time when the open chunk got its first block."""
        self.finished: list[NewObject] = []
        """Objects that wait for their commit, in order."""
        self.notes: list[Note] = []
        """Lines about this writer that wait for their commit; they go ahead of the objects."""
        self.begin: Note | None = None
        """Its begin line, until the first record or gap gives reason to write it."""
        self.last_entry = self.uploaded = 0
        """Last entry that holds something of it; last one known to be in storage."""
        self.changed = False
        """The source's state is newer than what is durable."""
        self.ended = False
        self.behind = False
        """The last read gave something, or failed: there may be more."""
        self.next_read = 0.0
        """Monotonic time before which a source that failed is left alone."""
        self.suspended = False
        """It failed in a way that leaves its state in doubt: not read until the next start."""
        ring.follow(source.container, source.writer, self, last_seq)

    @property
    def compresses(self) -> bool:
        """Whether a compressor is open for it, which costs up to 500 KB."""
        return self._chunk is not None and self._chunk.compresses

    @property
    def decoded(self) -> int:
        """Bytes of lines in the open chunk."""
        return self._chunk.decoded if self._chunk else 0

    @property
    def waiting(self) -> bool:
        """Whether there is anything to commit."""
        return self.changed or self._chunk is not None or bool(self.finished or self.notes)

    @property
    def is_over(self) -> bool:
        """Whether it has ended and all of it is in storage."""
        # While its last entry is being written, the one before may be uploaded: that is not all.
        done = not self.waiting and not self._taken and self.uploaded >= self.last_entry
        return self.ended and done

    @property
    def held_bytes(self) -> int:
        """Bytes in memory until their commit, of finished objects and of the open chunk."""
        finished = sum(len(part) for item in self.finished for part in item.parts)
        return finished + (self._chunk.held if self._chunk else 0)

    def add(self, block: Block, now: float) -> None:
        """Put the block's lines into the chunk."""
        if self._chunk is not None and (block.new_file or not self._continues(block)):
            self.finish_chunk()
        self.changed = True
        self._may_skip = self._may_skip or bool(block.gaps)
        if not block.records:
            if self._chunk is not None and block.range is not None:
                self._extend(block.range)
            return
        if block.first != self.last_seq + 1:
            if block.first <= self.last_seq or not self._may_skip:
                raise AssertionError(
                    f"{self.source.writer} gave seq {block.first} after {self.last_seq}"
                )
            self.finish_chunk()
        self._may_skip = False
        if self._chunk is None:
            self._chunk = ChunkWriter()
            self._first, self._time_ns, self.opened = block.first, block.time_ns, now
            self._range = block.range
        elif block.range is not None:
            self._extend(block.range)
        self._chunk.add(block.lines, block.records)
        self._last = self.last_seq = block.first + block.records - 1

    def _continues(self, block: Block) -> bool:
        old, new = self._range, block.range
        if old is None or new is None:
            return old is new
        return old.fingerprint == new.fingerprint

    def _extend(self, new: SourceRange) -> None:
        assert self._range is not None
        self._range = SourceRange(
            self._range.fingerprint, self._range.from_offset, new.to_offset, new.pending
        )

    def so_far(self) -> tuple[int, int, list[bytes]] | None:
        """The open chunk for live readers; see `ring.Growing`."""
        if self._chunk is None:
            return None
        return self._first, self._chunk.records, self._chunk.so_far()

    def rest(self) -> None:
        """Give the compressor back; the chunk goes on."""
        if self._chunk is not None:
            self._chunk.rest()

    def finish_chunk(self) -> None:
        """Make an object of the open chunk."""
        if self._chunk is None:
            return
        chunk, self._chunk = self._chunk, None
        facts, parts = chunk.finish(
            signal=self.source.signal,
            project=self.project,
            writer=self.source.writer,
            first=self._first,
            last=self._last,
            time_ns=self._time_ns,
            source=self._range,
        )
        self.finished.append(
            NewObject(facts.name.key(), facts, parts, container=self.source.container)
        )
        subject = self.subject
        self._ring.keep(subject.container, subject.writer, self._first, facts.records, parts[1:])

    def close(self) -> None:
        """Nothing comes of it any more."""
        self._ring.unfollow(self.subject.container, self.subject.writer)
        self.source.close()

    def drop(self) -> None:
        """Forget what is not committed: it is read again from the durable state."""
        self._chunk = None
        self.finished.clear()
        self.notes.clear()
        self.changed = False

    def announce(self) -> None:
        """Let the begin line go ahead of what comes now, if it is not written yet."""
        if self.begin is not None:
            self.notes.append(self.begin)
            self.begin = None

    def take(self) -> tuple[list[NewObject], list[Note], State]:
        """What a commit must hold of this writer; it is the committer's until `committed`."""
        self.finish_chunk()
        self._taken = True
        objects, self.finished = self.finished, []
        notes, self.notes = self.notes, []
        self.changed = False
        return objects, notes, self.source.state()

    def committed(self, n: int) -> None:
        """What was taken is durable, as entry n."""
        self._taken = False
        self.last_entry = n
