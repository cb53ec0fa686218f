"""Archives of strangers: `tar.zst`, checked by digest, unpacked without leaving the folder.

Whatever the archive says, nothing is written outside of the target: no absolute name, no `..`, no
name through a link, no device, and links only to what lies inside. Sizes are bounded while they are
read, not by what a header claims.
"""

import hashlib
import os
import tarfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from spanyard_sidecar.sources.counting import Copied, counted, in_units, leads_out
from spanyard_sidecar.sources.errors import SourceError

MAX_FILES = 300_000
MAX_BYTES = 8 << 30
MAX_HEADER = 1 << 20
"""Bytes of a long name or of extended attributes: the reader holds them in memory."""
MAX_WINDOW = 1 << 27
"""Bytes that unpacking takes of memory; `zstd --ultra` uses as much."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Beyond these it is a bomb."""

    files: int = MAX_FILES
    size: int = MAX_BYTES


class _Refused(Exception):  # noqa: N818 - not for others
    pass


class _Member(tarfile.TarInfo):
    """A header whose extensions are bounded."""

    def _proc_gnulong(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        self._check_size()
        return super()._proc_gnulong(archive)  # type: ignore[misc,no-any-return]  # not in the stubs

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        self._check_size()
        return super()._proc_pax(archive)  # type: ignore[misc,no-any-return]  # not in the stubs

    def _check_size(self) -> None:
        if self.size > MAX_HEADER:
            raise _Refused(f"a header claims {self.size} bytes")


def check_digest(archive: Path, digest: str) -> None:
    """Raises SourceError unless the file has this digest, `sha256:…`."""
    with archive.open("rb") as file:
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if found != digest:
        raise SourceError(
            "ArchiveInvalid", where=digest[:19] + "…", detail=f"its bytes have the digest {found}"
        )


def unpack(
    archive: Path,
    target: Path,
    *,
    name: str,
    limits: Limits = Limits(),  # frozen
    say: Callable[[str], None] = lambda _: None,
) -> Copied:
    """Unpack into the existing, empty folder `target`; `name` is for messages.

    Raises SourceError (ArchiveInvalid) at the first thing that is wrong, OSError (ENOSPC).
    """
    try:
        with (
            archive.open("rb") as raw,
            zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
                raw, read_across_frames=True
            ) as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member) as members,
        ):
            unpacked = _Unpacking(target, limits)
            for member in members:
                unpacked.take(member, members)
    except _Refused as error:
        raise SourceError("ArchiveInvalid", where=name, detail=str(error)) from error
    except (tarfile.TarError, zstandard.ZstdError, EOFError, UnicodeError, ValueError) as error:
        detail = f"it is no tar.zst, or cut short: {error}"
        raise SourceError("ArchiveInvalid", where=name, detail=detail) from error
    unpacked.finish()
    say(f"unpacked {counted(unpacked.copied.files)}, {in_units(unpacked.copied.size)}")
    return unpacked.copied


class _Unpacking:
    def __init__(self, target: Path, limits: Limits) -> None:
        self._target = target
        self._limits = limits
        self._seen: dict[str, str] = {}
        """Name as a file system without cases has it → `folder`, `file` or `link`."""
        self._modes: list[tuple[Path, int]] = []
        self._entries = 0
        self.copied = Copied()

    def take(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        name = _checked_name(member.name)
        self._entries += 1
        if self._entries > self._limits.files:
            raise _Refused(f"it has more than {self._limits.files} entries")
        if not name:
            return  # the folder itself
        self._check_parents(name)
        if member.isdir():
            self._folder(name, member.mode)
        elif member.isreg():
            self._new(name, "file")
            self._file(name, member, archive)
        elif member.issym():
            if leads_out(name, member.linkname):
                raise _Refused(f"the link {name!r} leads out, to {member.linkname!r}")
            self._new(name, "link")
            os.symlink(member.linkname, self._target / name)
        elif member.islnk():
            leads = _checked_name(member.linkname)
            if self._seen.get(_folded(leads)) != "file":
                raise _Refused(f"{name!r} is the same file as {leads!r}, which is not before it")
            self._new(name, "file")
            os.link(self._target / leads, self._target / name, follow_symlinks=False)
            self.copied.files += 1
        else:
            raise _Refused(f"{name!r} is neither a file nor a folder nor a link")

    def _check_parents(self, name: str) -> None:
        """Parents are folders: made here when the archive does not name them, never links."""
        parts = name.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            parent = "/".join(parts[:end])
            kind = self._seen.get(_folded(parent))
            if kind is None:
                self._folder(parent, 0o755)
            elif kind != "folder":
                raise _Refused(f"{name!r} leads through the {kind} {parent!r}")

    def _folder(self, name: str, mode: int) -> None:
        if self._seen.get(_folded(name)) != "folder":
            self._new(name, "folder")
            (self._target / name).mkdir()
        self._modes.append((self._target / name, mode & 0o777 | 0o700))

    def _new(self, name: str, kind: str) -> None:
        if _folded(name) in self._seen:
            raise _Refused(f"{name!r} is there twice (perhaps in other letter case)")
        self._seen[_folded(name)] = kind

    def _file(self, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        content = archive.extractfile(member)
        assert content is not None
        path = self._target / name
        with content, path.open("xb") as file:
            self._copy(content, file)
        path.chmod(member.mode & 0o777 | 0o600)
        mtime = max(0, int(member.mtime))
        os.utime(path, (mtime, mtime))
        self.copied.files += 1

    def _copy(self, content: IO[bytes], file: IO[bytes]) -> None:
        while block := content.read(_BLOCK):
            self.copied.size += len(block)
            if self.copied.size > self._limits.size:
                raise _Refused(f"it unpacks to more than {in_units(self._limits.size)}")
            file.write(block)

    def finish(self) -> None:
        for path, mode in reversed(self._modes):
            path.chmod(mode)


def _checked_name(name: str) -> str:
    if name.startswith("/"):
        raise _Refused(f"{name[:200]!r} is an absolute name")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise _Refused(f"{name[:200]!r} leads out with `..`")
    if "\0" in name or any(len(os.fsencode(part)) > 255 for part in parts) or len(parts) > 100:
        raise _Refused(f"{name[:200]!r} is no possible name")
    return "/".join(parts)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
