"""A folder of this machine as source: copied, without what `ignoring` leaves out."""

import contextlib
import os
import shutil
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from spanyard_local.sources.errors import SourceError
from spanyard_local.sources.ignoring import Rules

PROGRESS_S = 2.0
SHOWN = 10
"""Names of one kind that are told; of the rest the number."""


@dataclass
class Copied:
    """What a copy did."""

    files: int = 0
    size: int = 0
    """Bytes."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Name of what ignore rules left out → how often."""
    links: list[str] = field(default_factory=list)
    """Symbolic links that lead out of the folder; not copied, they would lead nowhere elsewhere."""
    special: list[str] = field(default_factory=list)
    """Sockets, pipes, devices; not copied."""

    def told(self) -> list[str]:
        """For the log."""
        lines = [f"copied {counted(self.files)}, {in_units(self.size)}"]
        if self.left_out:
            names = [f"{n} ({c} times)" if c > 1 else n for n, c in self.left_out.most_common()]
            lines.append(f"left out by ignore rules: {_some(names)}")
        if self.links:
            lines.append(f"not copied, links that lead out of the folder: {_some(self.links)}")
        if self.special:
            lines.append(f"not copied, neither files nor folders: {_some(self.special)}")
        return lines


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


def leads_out(name: str, leads: str) -> bool:
    """Whether a link at `name`, relative to the root, leads out of the root by its text."""
    if leads.startswith("/"):
        return True
    path = os.path.normpath(os.path.join(os.path.dirname(name), leads))
    return path == ".." or path.startswith("../")


def commit_of(folder: Path) -> str:
    """The commit that is checked out, with `-dirty` when files differ; empty without a repository."""
    command = ("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40")
    try:
        found = subprocess.run(
            [*command, "--exclude", "*"],
            capture_output=True,
            check=False,
            timeout=10,
            text=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""  # it is only told
    return found.stdout.strip() if found.returncode == 0 else ""


def counted(files: int) -> str:
    """`3 files`."""
    return "1 file" if files == 1 else f"{files} files"


def in_units(size: int) -> str:
    """`3.2 MB`."""
    number = float(size)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _unreadable(error: OSError) -> SourceError:
    return SourceError(
        "SourceNotFound",
        where=f"{error.filename} ({error.strerror}; what no build needs belongs into "
        ".spanyardignore)",
    )


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
