"""Edits: whether a source or a manifest is another than it was.

By looking, not by being told: a watch on a folder fires for all that builds, editors and databases
do below it, on each system in another way, and has a limit on folders. A look costs a `stat` per
file that counts, those that ignore rules leave out are not even listed: 1,000 files take 10 ms.
"""

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from pathlib import Path

from spanyard_core.clock import Clock
from spanyard_local.sources.ignoring import Rules

EVERY_S = 0.5
SHARE = 0.05
"""Of a processor: after a look that took long, the next one waits long."""

Entries = Callable[[], Iterable[tuple[str, os.stat_result]]]
"""Names and what `lstat` says of all that counts."""


def digest(entries: Iterable[tuple[str, os.stat_result]]) -> str:
    """A digest of names, kinds, modes, sizes and times. Equal: nothing was edited."""
    lines = sorted(
        f"{name}\0{stat.S_IFMT(s.st_mode)}\0{s.st_mode & 0o111}\0{s.st_size}\0{s.st_mtime_ns}\n"
        for name, s in entries
        if not stat.S_ISDIR(s.st_mode)  # their times move when something ignored is made in them
    )
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def tree(root: Path, never: Collection[Path] = ()) -> Entries:
    """What a build of this folder would copy: without what ignore rules leave out, or `never`."""
    refused = {os.path.realpath(path) for path in never}

    def look() -> Iterable[tuple[str, os.stat_result]]:
        pending = [("", Rules.at_root())]
        while pending:
            relative, rules = pending.pop()
            here = root / relative
            try:
                rules = rules.entered(here, relative)
                with os.scandir(here) as scanned:
                    entries = list(scanned)
            except OSError:
                # Gone since it was listed, or not ours to read: the build that copies it says so.
                continue
            for entry in entries:
                name = relative + entry.name
                folder = entry.is_dir(follow_symlinks=False)
                if rules.leaves_out(name, is_folder=folder) or entry.path in refused:
                    continue
                if folder:
                    pending.append((f"{name}/", rules))
                else:
                    with contextlib.suppress(OSError):
                        yield name, entry.stat(follow_symlinks=False)

    return look


def files(paths: Iterable[Path]) -> Entries:
    """These files, as far as they are there."""

    def look() -> Iterable[tuple[str, os.stat_result]]:
        for path in paths:
            try:
                yield str(path), path.stat()
            except OSError:
                continue

    return look


async def edits(
    look: Callable[[], str], clock: Clock, *, last: str, every: float = EVERY_S
) -> AsyncGenerator[str, None]:
    """Each new digest, once it is the same for two looks: an editor or a checkout has finished.

    `look` runs in a thread; one that fails (a folder that is moved just now) is tried again.
    """
    seen = last
    while True:
        began = clock.monotonic()
        try:
            now = await asyncio.to_thread(look)
        except OSError:
            now = seen
        took = clock.monotonic() - began
        if now != last and now == seen:
            last = now
            yield now
        seen = now
        await clock.sleep(max(every, took / SHARE))
