"""Listing a directory tree as one sequence of keys in UTF-8 byte order, lazily.

Only directories that can hold wanted keys are opened, one level at a time. A level is sorted by
name, directories by name and `/`: that is the byte order of whole keys (`a-b` before `a/b`).
One level of 100,000 names takes about 10 MB while it is being walked.
"""

import os
import stat
from collections.abc import Iterator

from spanyard_core.storage.keys import TEMP_PART
from spanyard_core.storage.protocol import ObjectInfo

_TEMP = TEMP_PART.encode()


def walk(root: bytes, prefix: str, after: str) -> Iterator[ObjectInfo]:
    """The regular files under `root` as objects. A missing directory is an empty one.

    Files whose names are not UTF-8 are not objects (no key can name them), nor are symbolic links.
    """
    start = prefix.rpartition("/")[0].encode()
    below = start + b"/" if start else b""
    yield from _level(root, below, prefix.encode(), after.encode())


def _level(root: bytes, below: bytes, prefix: bytes, after: bytes) -> Iterator[ObjectInfo]:
    names = _wanted(root, below, prefix, after)
    names.sort(reverse=True)
    while names:
        key = names.pop()
        if key.endswith(b"/"):
            yield from _level(root, key, prefix, after)
        elif (info := _info(root, key)) is not None:
            yield info


def _wanted(root: bytes, below: bytes, prefix: bytes, after: bytes) -> list[bytes]:
    """Keys of one level, those of directories with a `/` at the end, unsorted."""
    found: list[bytes] = []
    try:
        entries = os.scandir(os.path.join(root, below))
    except (FileNotFoundError, NotADirectoryError):
        return found
    with entries:
        for entry in entries:
            if entry.name == _TEMP:
                continue
            key = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                key += b"/"
                relevant = key.startswith(prefix) or prefix.startswith(key)
                if relevant and (key > after or after.startswith(key)):
                    found.append(key)
            elif key > after and key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                found.append(key)
    return found


def _info(root: bytes, key: bytes) -> ObjectInfo | None:
    try:
        text = key.decode()
        status = os.lstat(os.path.join(root, key))
    except (UnicodeDecodeError, FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(text, status.st_size, status.st_mtime_ns)
