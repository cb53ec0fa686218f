"""The artifact: a folder as one `tar.zst`, the same bytes for the same files.

Names sorted, times 0, no owners; modes and links are kept. `.git` is left out, and so are links
that lead out of the folder (whoever unpacks elsewhere would refuse them) and what is no file.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from spanyard_sidecar.sources.counting import Copied, counted, in_units, leads_out

LEVEL = 3
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Packed:
    """What was made."""

    digest: str
    """`sha256:…` of the archive."""
    size: int
    """Its bytes."""
    files: int


class _Hashed:
    """Counts and hashes what is written through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


def pack(folder: Path, archive: Path, *, say: Callable[[str], None] = lambda _: None) -> Packed:
    """Pack `folder` into the file `archive`. Raises OSError (ENOSPC)."""
    packed = Copied()
    with archive.open("wb") as file:
        hashed = _Hashed(file)
        # One thread, no content size: else the bytes would depend on the machine.
        compressor = zstandard.ZstdCompressor(level=LEVEL)
        with (
            compressor.stream_writer(hashed, closefd=False) as writer,  # type: ignore[arg-type]  # it only writes
            tarfile.open(
                fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK
            ) as members,
        ):
            for name in _walk(folder, ""):
                _add(folder, name, members, packed)
    told = packed.told()
    say(
        f"packed {counted(packed.files)}, {in_units(packed.size)}; compressed {in_units(hashed.size)}"
    )
    for line in told[1:]:
        say(line.replace("copied", "packed"))
    return Packed(f"sha256:{hashed.digest.hexdigest()}", hashed.size, packed.files)


def _walk(root: Path, relative: str) -> Iterator[str]:
    with os.scandir(root / relative) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name == ".git":
            continue
        name = relative + entry.name
        yield name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, f"{name}/")


def _add(folder: Path, name: str, members: tarfile.TarFile, packed: Copied) -> None:
    path = folder / name
    known = path.lstat()
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(known.st_mode) & 0o777
    if stat.S_ISDIR(known.st_mode):
        info.type = tarfile.DIRTYPE
        members.addfile(info)
    elif stat.S_ISLNK(known.st_mode):
        info.type = tarfile.SYMTYPE
        info.mode = 0o777
        info.linkname = os.readlink(path)
        if leads_out(name, info.linkname):
            packed.links.append(name)
        else:
            members.addfile(info)
    elif stat.S_ISREG(known.st_mode):
        info.size = known.st_size
        with path.open("rb") as content:
            members.addfile(info, content)
        packed.files += 1
        packed.size += info.size
    else:
        packed.special.append(name)
