"""One container run's log as a source: blocks of records, through rotation and restarts.

Files are read in their order, each to its end, and the next one begins when it has content: the
runtime has changed over then. The old one is still polled for a minute, because it may grow after
the new one has appeared. All files that were read from stand in the state, so that none is read
twice, whatever name it comes back under. Bytes decide what a record is; what time or circumstance
decides (another file's turn, a line given up, a gap) comes in blocks of its own, marked `cut`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from spanyard_core.chunks import Source as SourceRange
from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError
from spanyard_core.files import Files
from spanyard_core.records import Signal
from spanyard_sidecar.cri import CriTransformer
from spanyard_sidecar.cri_state import MAX_LINE, MAX_PREFIX, UNKNOWN_TIME, Batch, CriState
from spanyard_sidecar.cri_time import cri_time, time_ns
from spanyard_sidecar.fingerprint import HEAD_BYTES, fingerprint, head_of
from spanyard_sidecar.holding import HoldSettings, LogFiles
from spanyard_sidecar.model import Block, End, Gap, Identity, State, Stored
from spanyard_sidecar.rotation import FileState, LogFile, LogFolder

KIND = "cri"
READ_SIZE = 128 * 1024
"""Most bytes per block; 64–128 KiB measured better than 1 MiB."""
_LOOKS = 5
"""Looks in a row while the file whose turn it is moves under our hands."""
_LONGEST = MAX_LINE + MAX_PREFIX + 1
"""So much of an unfinished line is enough to cut it."""


class CriSourceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the spool keeps of a CriSource."""

    kind: str
    seq: int
    time: str
    bytes: int
    last: str
    """Fingerprint of the file that the last block came from."""
    files: list[FileState]
    ended: bool = False


class TailSettings(msgspec.Struct, frozen=True):
    """Times in seconds, sizes in bytes."""

    look_interval: float = 1.0
    """Between two looks at the folder."""
    old_file: float = 60.0
    """A file with a successor is polled for so long after it grew last."""
    partial: float = 30.0
    """A line whose end does not come is given up after so long."""
    hold: HoldSettings = HoldSettings()


class CriSource:
    """See `model.Source` and `model.Continues`."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        identity: Identity,
        *,
        folder: str,
        container: str,
        restart: int,
        epoch: str,
        service: str = "",
        state: State | None = None,
        settings: TailSettings | None = None,
    ) -> None:
        self._clock = clock
        self._settings = settings or TailSettings()
        self._salt = salt_of(identity, container, restart)
        self._writer = f"{self._salt}@{epoch}"
        self._container = container
        self._transformer = CriTransformer(identity, self._writer, container, service=service)
        self.newer_restart = False
        """The container has been started again: when this run's files are quiet, it has ended."""
        self._seq = 0
        self._time = UNKNOWN_TIME
        self._bytes = 0
        self._last = ""
        self._ended = False
        self._next_look = 0.0
        now = clock.monotonic()
        self._grown = now
        """Monotonic time at which something was read last."""
        self._piece_came = now
        """Monotonic time at which the pending pieces changed last."""
        self._first_time: int | None = None
        known: list[LogFile] = []
        if state is not None:
            restored = msgspec.convert(state, CriSourceState)
            self._seq, self._time, self._bytes = restored.seq, restored.time, restored.bytes
            self._last, self._ended = restored.last, restored.ended
            known = [LogFile.restored(file) for file in restored.files]
        self._set = LogFiles(
            LogFolder(files, folder, restart, self._salt), self._salt, known, self._settings.hold
        )

    @property
    def writer(self) -> str:
        return self._writer

    @property
    def signal(self) -> Signal:
        return "logs"

    @property
    def container(self) -> str:
        return self._container

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self) -> End:
        return End(self._seq, self._bytes)

    def stored(self, state: State) -> None:
        """Nothing is kept for what is not durable: the kubelet keeps the files."""

    def uploaded(self, state: State) -> None:
        """The kubelet deletes its files."""

    def state(self) -> State:
        files = [file.state() for file in self._files if file.touched]
        state = CriSourceState(
            KIND, self._seq, self._time, self._bytes, self._last, files, self._ended
        )
        builtins: dict[str, Any] = msgspec.to_builtins(state)
        return builtins

    def close(self) -> None:
        self._set.close()

    def is_gone(self) -> bool:
        """Whether nothing of the run is left in its folder."""
        return self._set.nothing_left()

    @property
    def _files(self) -> list[LogFile]:
        return self._set.files

    def look(self) -> None:
        """Find the files, and hold those that may vanish before they are read.

        To be called every second, also while nothing is read because the spool is full.
        """
        self._next_look = self._clock.monotonic() + self._settings.look_interval
        self._set.look()

    # -- reading -------------------------------------------------------------------------------

    def read(self, budget: int) -> Block | None:
        if self._ended:
            return None
        now = self._clock.monotonic()
        for _ in range(_LOOKS):
            if now >= self._next_look or self._set.stale:
                self.look()
            block = self._in_order(now, budget)
            if block is not None or not self._set.stale:
                return block
        return None

    def _in_order(self, now: float, budget: int) -> Block | None:
        for index, file in enumerate(self._files):
            if file.complete:
                continue
            # Asked before this file's end is looked for: what came before is then in this file.
            has_successor = any(later.has_content for later in self._files[index + 1 :])
            block = self._from_file(file, index, budget)
            if block is not None:
                self._grown = now
                file.quiet_since, file.followed = None, False
                return block
            if self._set.stale:
                return None  # it is not where it was: its turn must not pass to the next one
            if not has_successor:
                break
            file.followed = True
            if file.quiet_since is None:
                file.quiet_since = now
        return self._by_time(now)

    def _from_file(self, file: LogFile, index: int, budget: int) -> Block | None:
        if file.after_hole:
            block = self._give_up_to(file)
            if block is not None:
                return block
            file.after_hole = False
            return self._tell(
                "rotated-away", f"files before {file.name} may have come and gone unseen"
            )
        if file.lost:
            return self._tell_lost(file)
        if file.replaced:
            return self._tell_truncated(file)
        if not self._set.open(file):
            return None
        assert file.handle is not None
        try:
            size = file.handle.stat().size
            if not file.packed:
                if size < max(file.seen, file.offset):
                    return self._tell_truncated(file)
                if size in (file.seen, file.offset):
                    return None
            return self._next_block(file, index, size, min(max(budget, 4096), READ_SIZE))
        except BadRecordError as error:
            return self._tell_unreadable(file, error)

    def _next_block(self, file: LogFile, index: int, size: int, length: int) -> Block | None:
        assert file.handle is not None
        before = self._files[index - 1] if index and not file.touched else None
        state = self._state_in(file)
        if before is not None and before.pending:
            # The file before ends within a line: the rest of it comes here.
            state = CriState(self._seq, self._time, before.pending).elsewhere()
        while True:
            data = file.handle.pread(length, file.offset)
            if data and not self._set.settle_head(file):
                return self._tell_truncated(file)
            batch = self._transformer.transform(data, state, file.offset)
            if batch.consumed or len(data) < length or length >= _LONGEST:
                break
            length = _LONGEST
        if not batch.consumed:
            file.seen = size
            return None
        if before is not None:
            before.pending = {}
        return self._took(file, batch)

    def _state_in(self, file: LogFile) -> CriState:
        return CriState(self._seq, self._time, file.pending, file.inside)

    def _took(self, file: LogFile, batch: Batch, *, cut: bool = False) -> Block:
        start = file.offset
        file.offset += batch.consumed
        if file.pending != batch.state.pending:
            file.pending = batch.state.pending
            self._piece_came = self._clock.monotonic()
        file.inside = batch.state.inside
        self._bytes += batch.consumed
        self._seq, self._time = batch.state.seq, batch.state.time
        changed = self._last not in ("", file.fingerprint)
        self._last = file.fingerprint
        return Block(
            lines=batch.lines,
            records=batch.records,
            first=batch.first,
            time_ns=batch.time_ns,
            range=SourceRange(file.fingerprint, start, file.offset, batch.state.pieces),
            cut=cut or changed,
            new_file=changed,
        )

    # -- what time decides ---------------------------------------------------------------------

    def _by_time(self, now: float) -> Block | None:
        polled = [f for f in self._files if f.quiet_since is not None and not f.complete]
        for older, file in enumerate(reversed(polled)):
            assert file.quiet_since is not None
            quiet = now - file.quiet_since
            if file.packed or quiet >= self._settings.old_file or older >= self._settings.hold.held:
                rest = self._rest_of(file)
                if rest is None:
                    continue
                block = self._give_up(file, rest)
                file.complete = True
                file.close()
                if block is not None:
                    return block
        if now - self._piece_came >= self._settings.partial:
            for file in self._files:
                block = self._give_up(file)
                if block is not None:
                    return block
        over = self.newer_restart or self._set.folder_gone
        if over and now - self._grown >= self._settings.old_file:
            block = self.finish()
            if block is not None:
                return block
            self._ended = True
            self.close()
        return None

    def _rest_of(self, file: LogFile) -> bytes | None:
        """The unfinished last line; None when there is more than that."""
        if file.handle is None:
            return b""
        try:
            rest = file.handle.pread(_LONGEST, file.offset)
            sound = not rest or self._set.settle_head(file, short=True)
        except BadRecordError:
            return None
        return rest if sound and b"\n" not in rest and len(rest) < _LONGEST else None

    def _give_up(self, file: LogFile, rest: bytes | None = None) -> Block | None:
        """Pieces that wait for their end, and the unfinished last line `rest`, as records."""
        state = self._state_in(file)
        if rest is None:
            batch = self._transformer.give_up(state)
        else:
            batch = self._transformer.last_line(rest, state, file.offset)
        if not batch.records and not batch.consumed:
            file.pending = batch.state.pending
            return None
        return self._took(file, batch, cut=True)

    def _give_up_to(self, file: LogFile) -> Block | None:
        """Pieces whose end is lost with this file: what comes after it is not their end."""
        for earlier in self._files[: self._files.index(file) + 1]:
            block = self._give_up(earlier)
            if block is not None:
                return block
        return None

    def finish(self) -> Block | None:
        blocks = []
        for file in self._files:
            rest = None if file.complete else self._rest_of(file)
            block = None if rest is None else self._give_up(file, rest)
            if block is not None:
                blocks.append(block)
        return _joined(blocks)

    # -- what is lost --------------------------------------------------------------------------

    def _tell(self, cause: str, message: str, file: LogFile | None = None) -> Block:
        known = self._time if self._seq else ""
        gap = Gap(cause, message, from_time=known)
        if file is not None:
            source, at = file.fingerprint, file.offset
            gap = replace(gap, bytes=file.lost_bytes, source=source, from_offset=at)
        self._last = ""
        return Block(b"", 0, self._seq + 1, 0, gaps=(gap,), cut=True, new_file=True)

    def _tell_lost(self, file: LogFile) -> Block:
        block = self._give_up_to(file)
        if block is not None:
            return block
        self._files.remove(file)
        text = f"a file was gone before all of it was read (from {file.offset})"
        if file.followed:
            text = f"a file was gone that was read to its end ({file.offset}); it may have grown"
        return self._tell("rotated-away", text, file)

    def _tell_truncated(self, file: LogFile) -> Block:
        block = self._give_up_to(file)
        if block is not None:
            return block
        told = self._tell(
            "truncated", f"{file.name} was cut short after {file.offset} bytes were read", file
        )
        if not self._set.shorten(file):
            self._set.replace(file)
        return told

    def _tell_unreadable(self, file: LogFile, error: BadRecordError) -> Block:
        block = self._give_up_to(file)
        if block is not None:
            return block
        file.complete = True
        file.close()
        return self._tell("unreadable", f"{file.name}: {error}", file)

    # -- a new epoch ---------------------------------------------------------------------------

    def first_time_ns(self) -> int | None:
        """Time of the oldest record that is still there; 0 when it cannot be told."""
        if self._first_time is None:
            self.look()
            for file in self._files:
                data = self._set.beginning(file, HEAD_BYTES)
                if head_of(data):  # a first line without end has a time, too
                    time = cri_time(data.partition(b" ")[0].decode(errors="replace"))
                    self._first_time = time_ns(time) if time else 0
                    break
        return self._first_time

    def fingerprints(self) -> Sequence[str]:
        """Of the files that are there, newest first."""
        self.look()
        heads = [head_of(self._set.beginning(f, HEAD_BYTES)) for f in reversed(self._files)]
        return [fingerprint(self._salt, head) for head in heads if head]

    def begin_anew(self) -> None:
        """As many files as are kept may be what is left of more."""
        if len(self._files) >= self._settings.hold.kept:
            self._files[0].after_hole = True

    def go_on_from(self, fingerprint: str, stored: Stored) -> None:
        """Begin after what `stored` covers of the file with this fingerprint, skipping older ones.

        Pieces that an earlier epoch had read but not stored are read again first.
        """
        for file in self._files:
            if self._set.open(file):
                self._set.settle_head(file)
        prints = [file.fingerprint for file in self._files]
        if fingerprint not in prints:
            self.begin_anew()  # gone since it was asked about: all that is there is newer
            return
        index = prints.index(fingerprint)
        for older in self._files[:index]:
            # Was read to its end, in its turn, before the one that is stored.
            older.complete = True
            older.offset = older.handle.stat().size if older.handle is not None else 0
            older.close()
        file = self._files[index]
        assert file.handle is not None
        state = self._state_in(file)
        for offset, length in stored.pending:
            piece = file.handle.pread(length, offset)
            state = self._transformer.transform(piece, state, offset).state
        file.offset, file.pending = stored.to_offset, dict(state.pending)
        self._last = fingerprint


def salt_of(identity: Identity, container: str, restart: int) -> str:
    """The writer's id without its epoch; keeps fingerprints of other writers' files apart."""
    return f"{identity.pod_uid}/{container}/{restart}"


def _joined(blocks: list[Block]) -> Block | None:
    """Blocks of several files as one; its range is the last one's, where a new epoch goes on."""
    if len(blocks) < 2:
        return blocks[0] if blocks else None
    given = [block for block in blocks if block.records]
    return Block(
        lines=b"".join(block.lines for block in blocks),
        records=sum(block.records for block in blocks),
        first=blocks[0].first,
        time_ns=given[0].time_ns if given else 0,
        range=blocks[-1].range,
        cut=True,
        new_file=True,
    )
