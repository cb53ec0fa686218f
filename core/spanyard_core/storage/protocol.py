"""The storage interface (T6) that every backend keeps, and what it promises.

One contract suite (`tests/contract/test_storage.py`) runs on a directory, on S3, on GCS and
on the simulator's storage.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One row of a listing."""

    key: str
    """Key relative to the storage's URL, without a leading slash."""
    size: int
    """Bytes as stored."""
    modified_ns: int
    """Last modification, nanoseconds since the epoch, as the server tells it.

    After a move a bucket tells the move's time, a directory the write's.
    """


class Storage(Protocol):
    """Objects under one URL. Keys are relative, `/`-separated, UTF-8, without `.` or `..` parts.

    Raises `ObjectNotFoundError`, `ObjectExistsError`, `StorageRefusedError` (waiting does not
    help) or `StorageError` (it may). No method retries for longer than a few seconds: back-off
    is the caller's, who knows what waits. A cancelled call may still take effect.
    """

    @property
    def url(self) -> str:
        """The URL without credentials; for messages."""
        ...

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Store `data` whole or not at all, durably before it returns.

        With `if_absent`, exactly one of several concurrent writers wins and the others get
        `ObjectExistsError`; after a lost answer a repeated call may get it for its own object,
        so callers compare `digest`. The backend repeats by itself too: even a first call may get
        it for its own object. What exists is durable when the error is raised; `digest` may
        still say `ObjectNotFoundError`, when somebody moved or deleted it in between.
        """
        ...

    async def write_file(self, key: str, path: Path) -> None:
        """Store the bytes of the file at `path`, replacing what is there; memory for a few parts
        of it at most. Else like `write`. A file that changes meanwhile is stored as anything.
        Raises OSError when the file cannot be read.
        """
        ...

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or `length` of them from `start` (fewer at its end, none past it)."""
        ...

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose key starts with `prefix`, in UTF-8 byte order, those after `after` only.

        Pages are fetched as they are consumed. Sees every object that was written before the
        listing began and not deleted since. An error may come after some objects; the listing is
        then continued with `after`.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; an absent one is a success."""
        ...

    async def move(self, source: str, target: str) -> None:
        """Copy, then delete: afterwards `target` holds the bytes and `source` is absent.

        May be repeated after a crash: an absent source with a present target is a success; both
        absent is `ObjectNotFoundError`. An existing target is overwritten.
        """
        ...

    async def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        ...

    async def digest(self, key: str) -> str:
        """sha256 of the object's bytes, hex."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The file behind the key where storage is a directory, else None."""
        ...

    async def close(self) -> None:
        """Give back connections. Further calls are errors."""
        ...
