"""The files of one container run in its folder, and the kubelet's hands on them.

The kubelet renames `0.log` to `0.log.20261121-144500`, has the runtime open a new one, compresses
older ones to `.gz` by way of `.tmp`, and deletes the oldest. In between, `.gz` and original stand
side by side, a rename is undone, names vanish between listing and opening. A file is therefore
known by its content's fingerprint; the inode only finds an open file again. Order is that of the
names; files that have none any more are older than those that have.
"""

import re
from dataclasses import dataclass, field

import msgspec

from spanyard_core.errors import BadRecordError
from spanyard_core.files import Files, ReadFile
from spanyard_sidecar.cri_state import Inside, Pending
from spanyard_sidecar.fingerprint import HEAD_BYTES, begins_as, fingerprint, head_of
from spanyard_sidecar.gzipped import GzippedFile

_STAMP = re.compile(r"\d{8}-\d{6}")
GZ = ".gz"
_LISTINGS = 5
"""Listings of a folder that changes all the time, before one is taken as it is."""


class FileState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept in the spool of one file that was read from."""

    fingerprint: str
    inode: int
    offset: int
    complete: bool = False
    pending: dict[str, Pending] = {}
    inside: Inside | None = None
    followed: bool = False


@dataclass(eq=False, slots=True)
class LogFile:
    """One file of the run, as far as it is read."""

    name: str
    """In the folder; "" when it is not there any more."""
    inode: int = 0
    fingerprint: str = ""
    """"" while there is too little of the file."""
    head: bytes = b""
    """What the fingerprint covers; b"" while that is undefined or the file was not opened yet."""
    offset: int = 0
    """Everything before it is in records or in `pending`."""
    pending: dict[str, Pending] = field(default_factory=dict)
    inside: Inside | None = None
    handle: ReadFile | GzippedFile | None = None
    size: int = 0
    """At the last look; of a `.gz`, packed."""
    seen: int = -1
    """The size at which nothing more could be read."""
    complete: bool = False
    """Read to its end, and quiet for so long that nothing more is expected."""
    quiet_since: float | None = None
    """Monotonic time since which a file that has a successor did not grow."""
    followed: bool = False
    """When last seen, it was read to its end and the next one had begun."""
    lost: bool = False
    """Gone before its end was read; to be told when its turn comes."""
    lost_bytes: int | None = None
    after_hole: bool = False
    """Files before it may have come and gone unseen."""
    replaced: bool = False
    """Its beginning is another than it was: truncated and written anew."""

    @classmethod
    def restored(cls, state: FileState) -> "LogFile":
        return cls(
            "",
            state.inode,
            state.fingerprint,
            offset=state.offset,
            complete=state.complete,
            pending=dict(state.pending),
            inside=state.inside,
            followed=state.followed,
        )

    def state(self) -> FileState:
        return FileState(
            self.fingerprint,
            self.inode,
            self.offset,
            self.complete,
            self.pending,
            self.inside,
            self.followed,
        )

    @property
    def packed(self) -> bool:
        return isinstance(self.handle, GzippedFile) if self.handle else self.name.endswith(GZ)

    @property
    def touched(self) -> bool:
        """Whether anything of it was read: only then it has a place in the state."""
        return self.offset > 0 or self.complete

    @property
    def has_content(self) -> bool:
        """Whether there is, or was, anything in it."""
        if self.touched or self.lost or self.size > 0:
            return True
        return self.handle is not None and self.handle.stat().size > 0

    def still_begins_so(self) -> bool:
        """Whether the open file begins as its fingerprint says."""
        if self.handle is None or not self.head:
            return True
        return self.handle.pread(len(self.head), 0) == self.head

    def close(self) -> None:
        if self.handle is not None:
            self.handle.close()
            self.handle = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the folder found."""

    files: list[LogFile]
    """All that matter, oldest first."""
    missing: list[LogFile]
    """Of these: known, not read to the end, and nowhere to be found."""
    folder_gone: bool


class LogFolder:
    """Finds the files of one run."""

    def __init__(self, files: Files, path: str, restart: int, salt: str) -> None:
        self._files = files
        self._path = path
        self._latest = f"{restart}.log"
        self._salt = salt
        self._heads: dict[tuple[str, int], bytes] = {}
        """(name, inode) of rotated files → their head. Not of the latest: its name stays, and a
        new one may have an old one's inode."""

    def names(self) -> list[str]:
        """Names of the run's files, oldest first; none without the folder."""
        rotated: dict[str, str] = {}
        latest = []
        for name in self._list():
            if name == self._latest:
                latest.append(name)
            elif name.startswith(self._latest + "."):
                stamp = name[len(self._latest) + 1 :].removesuffix(GZ)
                if _STAMP.fullmatch(stamp):
                    rotated.setdefault(stamp, name)  # the original sorts before its .gz
        return [rotated[stamp] for stamp in sorted(rotated)] + latest

    def _list(self) -> list[str]:
        """Two listings that agree: one alone may miss a name that is just being changed."""
        try:
            names = sorted(self._files.listdir(self._path))
            for _ in range(_LISTINGS):
                before, names = names, sorted(self._files.listdir(self._path))
                if names == before:
                    break
        except FileNotFoundError:
            return []
        return names

    def _exists(self) -> bool:
        try:
            return self._files.stat(self._path).is_dir
        except FileNotFoundError:
            return False

    def look(self, known: list[LogFile]) -> Look:
        """Match the folder's files with those known, by open inode, else by content.

        Raises FileNotFoundError when a name vanished meanwhile: look again.
        """
        names = self.names()
        gone = not names and not self._exists()
        rest = list(known)
        listed: list[LogFile] = []
        heads: dict[tuple[str, int], bytes] = {}
        for name in names:
            found = self._files.stat(f"{self._path}/{name}")
            key = (name, found.inode)
            file = next((f for f in rest if f.handle is not None and f.inode == found.inode), None)
            if file is None:
                head = self._heads.get(key) or self._head(name)
                if name != self._latest and head_of(head):
                    heads[key] = head
                file = self._match(rest, head, found.inode) or self._new(head)
                if file.handle is None:
                    file.inode, file.size = found.inode, found.size
            else:
                file.size = found.size
            if file in rest:
                rest.remove(file)
            file.name, file.lost = name, False
            listed.append(file)
        self._heads = heads
        for file in rest:
            file.name = ""
        missing = [
            f for f in rest if f.handle is None and f.fingerprint and not (f.lost or f.complete)
        ]
        kept = [f for f in rest if f.handle is not None or f.lost or f in missing]
        return Look(kept + listed, missing, gone)

    def _head(self, name: str) -> bytes:
        handle = self.open(name)
        try:
            return handle.pread(HEAD_BYTES, 0)
        except BadRecordError:
            return b""  # reading it will tell
        finally:
            handle.close()

    def _new(self, head: bytes) -> LogFile:
        head = head_of(head)
        return LogFile("", fingerprint=fingerprint(self._salt, head) if head else "")

    def _match(self, candidates: list[LogFile], head: bytes, inode: int) -> LogFile | None:
        same = [
            f
            for f in candidates
            if (begins_as(head, self._salt, f.fingerprint) if f.fingerprint else f.touched)
        ]
        # Those without a fingerprint could not be read at all; empty ones are nobody.
        exact = [f for f in same if f.inode == inode]
        return next(iter(exact or [f for f in same if f.fingerprint]), None)

    def open(self, name: str) -> ReadFile | GzippedFile:
        """Raises FileNotFoundError."""
        handle = self._files.open_read(f"{self._path}/{name}")
        return GzippedFile(handle) if name.endswith(GZ) else handle
