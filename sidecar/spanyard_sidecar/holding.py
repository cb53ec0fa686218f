"""The files of one run as they are held: found, kept open through rotation, given up in the end.

An open file outlives its name, so what may vanish before it is read is kept open: a few files, and
bytes on the node's disk only up to a limit. Whoever holds more would fill the node.
"""

import contextlib

import msgspec

from spanyard_core.errors import BadRecordError
from spanyard_sidecar.fingerprint import HEAD_BYTES, fingerprint, head_of
from spanyard_sidecar.rotation import LogFile, LogFolder

_LOOKS = 5
"""Looks in a row while names vanish under our hands."""


class HoldSettings(msgspec.Struct, frozen=True):
    """How much is held."""

    held: int = 3
    """Most files kept open while nothing is read."""
    pinned: int = 100_000_000
    """Most bytes of deleted files that are kept on disk by being open."""
    kept: int = 2
    """Who rotates deletes none while there are fewer files of a run than so many. Of the kubelet's
    setting we know its least value alone."""


class LogFiles:
    """The files of one run, oldest first, those that matter."""

    def __init__(
        self, folder: LogFolder, salt: str, known: list[LogFile], settings: HoldSettings
    ) -> None:
        self._folder = folder
        self._salt = salt
        self._settings = settings
        self.files = known
        self.folder_gone = False
        self.stale = True
        """What was seen last is known to be wrong: look again before the next reading."""

    def look(self) -> None:
        """Find what is there, and hold what may vanish. Raises OSError: the folder cannot be read."""
        previous = self.files
        missing: list[LogFile] = []
        for _ in range(_LOOKS):
            self._settle_heads()
            try:
                found = self._folder.look(self.files)
            except FileNotFoundError:
                continue
            self.files, self.folder_gone = found.files, found.folder_gone
            # A name may be missing from one listing because it was just being changed.
            for file in found.missing:
                file.lost = file in missing
            missing = [file for file in found.missing if not file.lost]
            if not missing:
                break
        self.stale = bool(missing)
        self._keep_newest(previous)
        self._mark_hole(previous)
        for file in self.files:
            if file.complete and not file.packed and file.name and file.size > file.offset:
                file.complete, file.quiet_since = False, None  # it grew after all
            if file.handle is not None and not file.packed and not file.still_begins_so():
                file.replaced = True
        self._hold()

    def _settle_heads(self) -> None:
        # A file opened when it was empty must be known by the time it comes back as .gz.
        for file in self.files:
            if file.handle is not None and not file.fingerprint:
                with contextlib.suppress(BadRecordError):  # reading it will tell
                    self.settle_head(file)

    def _keep_newest(self, previous: list[LogFile]) -> None:
        """Without the newest file that was read from, nobody could tell that others followed it."""
        touched = [file for file in previous if file.touched]
        if touched and not any(file.touched for file in self.files):
            self.files.insert(0, touched[-1])

    def _mark_hole(self, previous: list[LogFile]) -> None:
        """The kubelet deletes the oldest first: while our newest is there, all after it are."""
        known = [file for file in previous if file.touched or file.fingerprint]
        if known and not known[-1].name and not known[-1].lost:
            oldest = next((file for file in self.files if file.name), None)
            if oldest is not None and oldest not in previous:
                oldest.after_hole = True

    def _hold(self) -> None:
        held = [file for file in self.files if file.handle is not None]
        for file in self.files:
            room = len(held) < self._settings.held
            if room and not file.complete and file not in held and self.open(file):
                held.append(file)
        pinned = [(f, f.handle.stat().size) for f in held if f.handle and not f.handle.links()]
        excess = sum(size for _, size in pinned) - self._settings.pinned
        for file, size in pinned:
            if excess <= 0:
                break
            excess -= size
            file.close()
            if file.name:
                continue  # it is there as .gz
            file.complete = not file.packed and file.offset >= size
            file.lost = not file.complete
            file.lost_bytes = None if file.packed else size - file.offset

    def nothing_left(self) -> bool:
        """Whether the folder has no file of the run any more."""
        return not self._folder.names()

    def open(self, file: LogFile) -> bool:
        """Whether the file is open now. Not when it is not where it was at the last look."""
        if file.handle is not None:
            return True
        if not file.name or file.lost:
            return False
        try:
            file.handle = self._folder.open(file.name)
        except FileNotFoundError:
            self.stale = True
            return False
        if file.handle.stat().inode != file.inode:
            file.close()
            self.stale = True
            return False
        return True

    def settle_head(self, file: LogFile, *, short: bool = False) -> bool:
        """Whether an open file still begins as it did; learns how, as soon as that is settled.

        With `short`, whatever is there counts as its head: the file will not grow any more.
        Raises BadRecordError for a damaged `.gz`.
        """
        assert file.handle is not None
        if file.head:
            return file.packed or file.still_begins_so()
        data = file.handle.pread(HEAD_BYTES, 0)
        if file.fingerprint:
            head = data[: int(file.fingerprint.partition(":")[0])]
        else:
            head = head_of(data) or (data if short else b"")
        if head:
            found = fingerprint(self._salt, head)
            if file.fingerprint and file.fingerprint != found:
                return False
            file.head, file.fingerprint = head, found
        return True

    def beginning(self, file: LogFile, length: int) -> bytes:
        """The first bytes of a file; b"" when they cannot be had."""
        try:
            if self.open(file) and file.handle is not None:
                return file.handle.pread(length, 0)
        except BadRecordError:
            pass  # reading it will tell
        return b""

    def replace(self, file: LogFile) -> None:
        """The same name and inode hold another content now: a new file."""
        fresh = LogFile(file.name, file.inode, handle=file.handle)
        file.handle = None
        self.files[self.files.index(file)] = fresh

    def shorten(self, file: LogFile) -> bool:
        """Whether a file that lost its end is still the same, as after a power cut of the node.

        Then all that is left was read before, and reading goes on at its new end.
        """
        assert file.handle is not None
        if file.packed or not file.fingerprint or not self.settle_head(file):
            return False
        file.offset = min(file.offset, file.handle.stat().size)
        file.seen, file.inside, file.replaced = -1, None, False
        return True

    def close(self) -> None:
        for file in self.files:
            file.close()
