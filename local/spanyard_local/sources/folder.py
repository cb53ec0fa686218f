"""A folder of this machine as source: copied, without what `ignoring` leaves out."""

import contextlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path

from spanyard_core.commits import Commit
from spanyard_local.sources.ignoring import Rules
from spanyard_sidecar.sources.counting import Copied, counted, in_units, leads_out
from spanyard_sidecar.sources.errors import SourceError
from spanyard_sidecar.sources.git import about_commit

PROGRESS_S = 2.0


def copy_folder(
    source: Path,
    target: Path,
    *,
    never: Collection[Path] = (),
    everything: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Copied:
    """Copy `source` into the existing folder `target`; `never` are left out wherever they lie.

    `everything` leaves out no more than `.git`: no ignore rules.
    Modes and times of modification are kept. Files that vanish meanwhile are left out. Raises
    SourceError, OSError (ENOSPC, EDQUOT and such of the target).
    """
    if not source.is_dir():
        raise SourceError("SourceNotFound", where=f"the folder {source}")
    root = Path(os.path.realpath(source))
    copied = Copied()
    refused = {os.path.realpath(path) for path in (*never, target)}
    pending: list[tuple[str, Rules]] = [("", Rules(()) if everything else Rules.at_root())]
    next_word = time.monotonic() + PROGRESS_S
    while pending:
        relative, rules = pending.pop()
        here = root / relative
        try:
            rules = rules if everything else rules.entered(here, relative)
            with os.scandir(here) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise _unreadable(error) from error
        for entry in entries:
            name = relative + entry.name
            if entry.is_symlink():
                if rules.leaves_out(name, is_folder=False):
                    copied.left_out[entry.name] += 1
                else:
                    _copy_link(root, name, target, copied)
            elif entry.is_dir():
                if rules.leaves_out(name, is_folder=True) or entry.path in refused:
                    copied.left_out[entry.name] += 1
                    continue
                (target / name).mkdir()
                pending.append((f"{name}/", rules))
            elif rules.leaves_out(name, is_folder=False) or entry.path in refused:
                copied.left_out[entry.name] += 1
            elif not entry.is_file():
                copied.special.append(name)
            else:
                _copy_file(entry.path, target / name, copied)
            if time.monotonic() >= next_word:
                say(f"copied {counted(copied.files)} so far, {in_units(copied.size)}")
                next_word = time.monotonic() + PROGRESS_S
    return copied


def _copy_file(source: str, target: Path, copied: Copied) -> None:
    try:
        with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as reads:
            known = os.fstat(reads.fileno())
            if not stat.S_ISREG(known.st_mode):
                return
            with target.open("xb") as writes:
                shutil.copyfileobj(reads, writes, 1 << 20)
                copied.size += writes.tell()
    except FileNotFoundError:  # an editor's temporary file
        return
    except PermissionError as error:
        raise _unreadable(error) from error
    target.chmod(stat.S_IMODE(known.st_mode) & 0o777 | stat.S_IWUSR)
    os.utime(target, ns=(known.st_atime_ns, known.st_mtime_ns))
    copied.files += 1


def _copy_link(root: Path, name: str, target: Path, copied: Copied) -> None:
    with contextlib.suppress(FileNotFoundError):
        leads = os.readlink(root / name)
        if leads_out(name, leads):
            copied.links.append(name)
            return
        os.symlink(leads, target / name)


def commit_of(folder: Path) -> Commit:
    """The commit that is checked out, its id with `-dirty` when files differ; without a repository
    all of it is empty."""

    def git(*arguments: str) -> str:
        try:
            found = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=10,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceError("SourceNotFound", where=str(folder)) from error
        if found.returncode:
            raise SourceError("SourceNotFound", where=str(folder))
        return found.stdout.decode("utf-8", "replace").strip()

    try:
        name = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*")
    except SourceError:
        return Commit()  # it is only told
    return about_commit(git, name.removesuffix("-dirty"), name)


def _unreadable(error: OSError) -> SourceError:
    return SourceError(
        "SourceNotFound",
        where=f"{error.filename} ({error.strerror}; what no build needs belongs into "
        ".spanyardignore)",
    )
