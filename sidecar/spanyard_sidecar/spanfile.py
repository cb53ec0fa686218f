"""One span file as a source, by the contract in docs/span-files.md.

A file's lock says whether more may come: once it is free, the file has ended, and what stands
there to its end is all. It is deleted when all of it is stored.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from spanyard_core.chunks import Source as SourceRange
from spanyard_core.clock import Clock
from spanyard_core.faults import fault_point
from spanyard_core.files import Files, FileStat, ReadFile
from spanyard_core.records import Signal
from spanyard_sidecar.events import MAX_EVENT, EventLines
from spanyard_sidecar.fingerprint import HEAD_BYTES, fingerprint, head_of
from spanyard_sidecar.model import Block, End, Gap, Identity, State, Stored

KIND = "spanfile"
READ_SIZE = 128 * 1024
LOCK_INTERVAL = 0.25
"""Seconds between two looks at a file's lock."""
DELETED_QUIET = 60.0
"""Seconds after which a file that somebody deleted, so that its lock cannot be seen, has ended."""


class SpanFileState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the spool keeps of a SpanFileSource."""

    kind: str
    seq: int
    bytes: int
    offset: int
    fingerprint: str
    time_ns: int
    within: bool = False
    """The offset is inside a line that is longer than a line may be."""
    ended: bool = False


class OpenFiles:
    """Bounds how many span files are open at a time: the one opened longest ago gives way.

    A pod may have a thousand processes, each with a file per signal; a descriptor held for each
    would leave none for the spool.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._open: dict[SpanFileSource, None] = {}

    def opened(self, source: "SpanFileSource") -> None:
        """Note it, and close another if there are too many."""
        self._open[source] = None
        while len(self._open) > self._most:
            next(iter(self._open)).close()

    def closed(self, source: "SpanFileSource") -> None:
        """Forget it."""
        self._open.pop(source, None)


class SpanFileSource:
    """See `model.Source` and `model.Continues`."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        identity: Identity,
        *,
        folder: str,
        signal: Signal,
        stem: str,
        epoch: str,
        service: str = "",
        state: State | None = None,
        open_files: OpenFiles | None = None,
    ) -> None:
        self._files = files
        self._open_files = open_files or OpenFiles()
        self._clock = clock
        self._salt = f"{identity.pod_uid}/{signal}/{stem}"
        self._writer = f"{self._salt}@{epoch}"
        self._signal = signal
        self._path = f"{folder}/{stem}"
        self._lines = EventLines(identity, self._writer, signal, service=service)
        self._start_ns = int(stem.partition("-")[0])
        self._state = SpanFileState(KIND, 0, 0, 0, "", self._start_ns)
        if state is not None:
            self._state = msgspec.convert(state, SpanFileState)
        self._handle: ReadFile | None = None
        self._head = b""
        self._seen = -1
        """The size at which nothing more could be read."""
        self._free = False
        """The lock was seen free: nothing more will be written."""
        self._next_lock = 0.0
        self._grown = clock.monotonic()
        self.dropped: int | None = None
        """Bytes it had when it was given up for the directory's limit."""
        self.durable = self._state.ended
        """All of it is in the spool."""

    @property
    def writer(self) -> str:
        return self._writer

    @property
    def signal(self) -> Signal:
        return self._signal

    @property
    def container(self) -> str:
        return "files"

    @property
    def ended(self) -> bool:
        return self._state.ended

    @property
    def finished(self) -> bool:
        """Whether its writer has ended, as far as was seen."""
        return self._free or self.ended

    def state(self) -> State:
        builtins: dict[str, Any] = msgspec.to_builtins(self._state)
        return builtins

    def end(self) -> End:
        return End(self._state.seq, self._state.bytes)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None
            self._open_files.closed(self)

    # -- reading -------------------------------------------------------------------------------

    def read(self, budget: int) -> Block | None:
        if self.ended:
            return None
        if self.dropped is not None:
            return self._tell_dropped(self.dropped)
        if not self._open():
            return self._tell_vanished()
        self.look_at_lock()
        assert self._handle is not None
        size = self._handle.stat().size
        if size < max(self._seen, self._state.offset):
            return self._tell_truncated()
        block = None
        if size not in (self._seen, self._state.offset):
            block = self._next_block(size, min(max(budget, 4096), READ_SIZE))
        if block is None and self._free:
            self._settle_head()
            block = self._end_with(self._rest())
        return block

    def _next_block(self, size: int, length: int) -> Block | None:
        assert self._handle is not None
        state = self._state
        while True:
            data = self._handle.pread(length, state.offset)
            if not self._settle_head():
                return self._tell_truncated()
            end = data.rfind(b"\n") + 1
            if end or len(data) < length or length > MAX_EVENT:
                break
            length = MAX_EVENT + 1
        if end:
            return self._took(data[: end - 1].split(b"\n"), end)
        if len(data) > MAX_EVENT:
            return self._took_part(data[:MAX_EVENT])
        self._seen = size
        return None

    def _took(self, lines: Sequence[bytes], size: int, *, cut: bool = False) -> Block:
        """Records of whole lines, `size` bytes in all."""
        state = self._state
        seq, time = state.seq, state.time_ns
        first_time = 0
        encoded = []
        for index, line in enumerate(lines):
            seq += 1
            if index == 0 and state.within:
                encoded.append(self._lines.refused(line, seq, "the end of a line over 1 MiB"))
            elif len(line) >= MAX_EVENT:
                encoded.append(self._lines.refused(line, seq, "the line is longer than 1 MiB"))
            else:
                text, ns = self._lines.stamped(line, seq)
                encoded.append(text)
                time = ns or time
            first_time = first_time or time
        return self._block(b"".join(encoded), seq, time, first_time, size, within=False, cut=cut)

    def _took_part(self, data: bytes) -> Block:
        """A part of a line that is too long to be one."""
        state = self._state
        text = self._lines.refused(data, state.seq + 1, "part of a line over 1 MiB")
        time = state.time_ns
        return self._block(text, state.seq + 1, time, time, len(data), within=True, cut=False)

    def _block(
        self,
        text: bytes,
        seq: int,
        time: int,
        first_time: int,
        size: int,
        *,
        within: bool,
        cut: bool,
    ) -> Block:
        before = self._state
        self._grown = self._clock.monotonic()
        self._state = msgspec.structs.replace(
            before,
            seq=seq,
            bytes=before.bytes + size,
            offset=before.offset + size,
            time_ns=time,
            within=within,
        )
        return Block(
            lines=text,
            records=seq - before.seq,
            first=before.seq + 1,
            time_ns=first_time,
            range=SourceRange(before.fingerprint, before.offset, self._state.offset),
            cut=cut,
        )

    def _settle_head(self) -> bool:
        """Whether the file still begins as it did; learns how, as soon as that is settled."""
        assert self._handle is not None
        if self._head:
            return self._handle.pread(len(self._head), 0) == self._head
        known = self._state.fingerprint
        data = self._handle.pread(HEAD_BYTES, 0)
        if known:
            head = data[: int(known.partition(":")[0])]
        else:
            head = head_of(data) or (data if self._free else b"")
        if head:
            found = fingerprint(self._salt, head)
            if known and known != found:
                return False
            self._head = head
            self._state = msgspec.structs.replace(self._state, fingerprint=found)
        return True

    def _rest(self) -> bytes:
        """What stands behind the last newline, at the end."""
        assert self._handle is not None
        return self._handle.pread(MAX_EVENT, self._state.offset)

    def _end_with(self, rest: bytes) -> Block | None:
        """The source has ended; `rest` is an unterminated last line, which counts."""
        block = self._took([rest], len(rest), cut=True) if rest else None
        self._state = msgspec.structs.replace(self._state, ended=True)
        self.close()
        return block

    def finish(self) -> Block | None:
        # The lock may have been freed since the last look at it, by a program that has just ended:
        # then what stands there is all. A process that lives will end its line.
        self._next_lock = 0.0
        self.look_at_lock()
        return self.read(READ_SIZE) if self._free else None

    # -- what is lost --------------------------------------------------------------------------

    def _tell(self, cause: str, message: str, size: int | None) -> Block:
        state = self._state
        gap = Gap(
            cause,
            message,
            bytes=size,
            source=state.fingerprint,
            from_offset=state.offset,
        )
        return Block(b"", 0, state.seq + 1, 0, gaps=(gap,), cut=True, new_file=True)

    def _tell_truncated(self) -> Block:
        offset = self._state.offset
        block = self._tell("truncated", f"{self._path} was cut short after {offset} bytes", None)
        self._seen = -1
        if self._handle is not None and self._state.fingerprint and self._settle_head():
            # It begins as before, as after a power cut of the node: what is left of it was read.
            left = min(offset, self._handle.stat().size)
            self._state = msgspec.structs.replace(self._state, offset=left, within=False)
        else:
            self._state = msgspec.structs.replace(
                self._state, offset=0, fingerprint="", within=False
            )
            self._head = b""
        return block

    def _tell_dropped(self, size: int) -> Block:
        lost = max(0, size - self._state.offset)
        block = self._tell("directory-limit", f"{self._path} was given up: too much is kept", lost)
        self._state = msgspec.structs.replace(self._state, ended=True)
        self.close()
        return block

    def _tell_vanished(self) -> Block | None:
        block = self._tell("deleted", f"{self._path} was deleted before all of it was read", None)
        self._state = msgspec.structs.replace(self._state, ended=True)
        return block

    # -- the file ------------------------------------------------------------------------------

    def _paths(self) -> tuple[str, str]:
        # In the order of their life, so that a rename in between cannot hide the file.
        return f"{self._path}.jsonl", f"{self._path}.closed.jsonl"

    def _open(self) -> bool:
        if self._handle is None:
            for path in self._paths():
                with contextlib.suppress(FileNotFoundError):
                    self._handle = self._files.open_read(path)
                    self._open_files.opened(self)
                    break
        return self._handle is not None

    def stat(self) -> FileStat | None:
        """Of the file under either name; None when it is gone."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                return self._files.stat(path)
        return None

    def look_at_lock(self) -> None:
        """See whether the writer has ended, if that was not seen just before."""
        now = self._clock.monotonic()
        if self._free or now < self._next_lock:
            return
        self._next_lock = now + LOCK_INTERVAL
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                self._free = not self._files.is_locked(path)
                return
        self._free = now - self._grown >= DELETED_QUIET

    def stored(self, state: State) -> None:
        self.durable = bool(state.get("ended"))

    def uploaded(self, state: State) -> None:
        """Deletes the file once all of it is in storage."""
        if not state.get("ended"):
            return
        fault_point("spanfile.stored")
        self.remove(state["offset"])

    def remove(self, size: int) -> None:
        """Delete the file, unless it holds more than `size` bytes after all."""
        found = self.stat()
        if found is not None and (found.size <= size or self.dropped is not None):
            for path in self._paths():
                self._files.unlink(path)
        if self.dropped is not None:
            self._files.unlink(f"{self._path}.{self.dropped}.dropped")

    def drop(self) -> None:
        """Give the file up, now: what is not read of it is lost, and told.

        An empty file with its size in its name takes its place first: if we die before the loss is
        told, the next start tells it.
        """
        found = self.stat()
        if found is None:
            return
        self._files.open_append(f"{self._path}.{found.size}.dropped").close()
        self.dropped = found.size
        for path in self._paths():
            self._files.unlink(path)
        self.close()

    # -- a new epoch ---------------------------------------------------------------------------

    def first_time_ns(self) -> int | None:
        """The writer's word for its start: nothing in the file is older. None while it is empty."""
        found = self.stat()
        if found is None:
            return self._start_ns  # reading tells that it is gone
        return min(self._start_ns, found.mtime_ns) if found.size else None

    def fingerprints(self) -> Sequence[str]:
        self.look_at_lock()
        if not self._open() or not self._settle_head():
            return ()
        return (self._state.fingerprint,) if self._head else ()

    def begin_anew(self) -> None:
        """One file is all there is of the writer: nothing came before it."""

    def go_on_from(self, fingerprint: str, stored: Stored) -> None:
        if self._state.fingerprint == fingerprint:
            self._state = msgspec.structs.replace(self._state, offset=stored.to_offset)
