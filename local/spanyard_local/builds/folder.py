"""The folder in which a build works (B3), for one build at a time.

{root}/{build id}/
    src/             the source; install and build run here, the output is a folder in it
    observability    → the pod's folder of span files; beside the source, because build tools
                     empty their output folder
    meta.json        commit, hash of the environment, times, digest
    work/            our own: requests, results, the packed artifact
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from spanyard_core.errors import SpanyardError

_TRIES = 10
"""Each one lost means that another neighbour ended in just that moment."""


def default_root() -> Path:
    """`{system temp}/spanyard/builds`."""
    return Path(tempfile.gettempdir()) / "spanyard" / "builds"


class WorkFolder:
    """A folder that is ours until `close`, also against another `up` with a build of this name.

    The lock is on the folder itself. Processes that inherit `descriptor` hold it too, so that what
    a killed `up` left is ended before the folder is used again.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def take(cls, root: Path, build: str, uid: str) -> "WorkFolder":
        """The folder of `build`, or one with a part of the pod's `uid` in its name when another
        `up` works there. Emptied. Raises SpanyardError, OSError (ENOSPC)."""
        for name in (build, f"{build}-{uid[:8]}"):
            path = root / name
            try:
                descriptor = _locked(path)
            except (
                PermissionError,
                FileExistsError,
                FileNotFoundError,
                NotADirectoryError,
            ) as error:
                raise SpanyardError(
                    f"build folder: cannot use {str(path)!r}: {error.strerror or error}; give "
                    "another place with --build-dir"
                ) from error
            if descriptor is None:
                continue
            folder = cls(path, descriptor)
            try:
                folder._prepare()
            except BaseException:
                folder.close(keep=False)
                raise
            return folder
        raise SpanyardError(
            f"build folder: {str(root / build)!r} is in use; end what works there, or give another "
            "place with --build-dir"
        )

    def _prepare(self) -> None:
        for entry in os.scandir(self.path):
            _remove(Path(entry.path))
        for part in (self.source, self.work):
            part.mkdir(mode=0o700)

    @property
    def source(self) -> Path:
        return self.path / "src"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def artifact(self) -> Path:
        return self.work / "artifact.tar.zst"

    def link_observability(self, spans: Path) -> None:
        (self.path / "observability").symlink_to(spans, target_is_directory=True)

    def write_meta(self, meta: dict[str, Any]) -> bytes:
        """Write `meta.json`; returns its bytes."""
        data = msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n"
        (self.path / "meta.json").write_bytes(data)
        return data

    def close(self, *, keep: bool) -> None:
        """Give the folder back; removed, or kept without our own part. Raises nothing: what cannot
        be removed is emptied by the next build of this name."""
        with contextlib.suppress(OSError):
            _remove(self.work if keep else self.path)
        os.close(self.descriptor)


def _locked(path: Path) -> int | None:
    """The open folder with our lock on it, made when absent; None: somebody else has the lock.

    A neighbour that ends removes the folder before it gives the lock back, so it may go between
    any two steps here: then again. Raises OSError.
    """
    for left in reversed(range(_TRIES)):
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            _check_ours(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, FileNotFoundError):
            if not left:
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _leads_to(path, descriptor):
            return descriptor
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "it is removed again and again")


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _check_ours(path: Path) -> None:
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to somebody else")


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:  # a tool made folders read-only, as Go does
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)
