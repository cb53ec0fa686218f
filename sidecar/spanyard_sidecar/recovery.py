"""What a spool's directory holds at the start: states folded, entries found, losses noticed.

The newest valid state file and the entries after it give every writer's state; entries up to it
only wait for their upload. A file that is not what was written is set aside, never deleted, and
what is missing because of it is told as holes. When that leaves states in doubt, names must not be
used again: a new epoch begins, and every source asks how far it is stored.
"""

import logging
from dataclasses import dataclass, field
from random import Random

import msgspec

from spanyard_core.clock import Clock
from spanyard_core.files import Files, write_durably
from spanyard_core.records import Signal
from spanyard_sidecar.budget import on_disk
from spanyard_sidecar.entries import (
    DamagedEntryError,
    EntryHead,
    Fold,
    encode_fold,
    file_name,
    parse_name,
    read_fold,
    read_head,
)

log = logging.getLogger("spanyard.sidecar")

EPOCH_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
EPOCH_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that were durable in the spool and are not there any more."""

    subject: str
    """The writer; empty when the damaged file cannot say whose it was."""
    signal: Signal
    message: str
    after_seq: int = 0
    lines: int | None = None
    bytes: int | None = None


@dataclass(slots=True)
class FoundSpool:
    """The directory's content, for `Spool.open`."""

    fold: Fold
    covered: int = 0
    """Number of the state file."""
    next: int = 1
    state_bytes: int = 0
    reserve_bytes: int = 0
    other_bytes: int = 0
    """Epoch file and damaged files."""
    entries: list[tuple[int, int, bool]] = field(default_factory=list)
    """Number, bytes on disk, done."""
    holes: list[Hole] = field(default_factory=list)
    last_entry: dict[str, int] = field(default_factory=dict)
    """Writer → the last entry with something of it that waits."""


class _Epoch(msgspec.Struct, rename="camel"):
    epoch: str
    born_ns: int


def new_epoch(rng: Random) -> str:
    """40 random bits: two collectors of one pod never meet by accident."""
    return "".join(rng.choice(EPOCH_ALPHABET) for _ in range(EPOCH_LENGTH))


async def read_spool(files: Files, directory: str, clock: Clock, rng: Random) -> FoundSpool:
    """Recover. Writes only the epoch of a new spool. Raises OSError."""
    files.mkdir(directory)
    # A rename that an earlier process died behind is seen by us and not durable yet: upload what
    # it shows, and a power cut could take the state back behind what is stored.
    await files.sync_dir(directory)
    names = files.listdir(directory)
    for name in names:
        if name.endswith(".tmp"):
            files.unlink(f"{directory}/{name}")
    numbered = sorted((*parsed, name) for name in names if (parsed := parse_name(name)))
    found = FoundSpool(Fold(n=0, epoch="", born_ns=0))
    newest = max((n for n, kind, _ in numbered if kind != "damaged"), default=0)
    if "reserve" in names:
        found.reserve_bytes = on_disk(files.stat(f"{directory}/reserve").size)
    _read_states(files, directory, [n for n, kind, _ in numbered if kind == "state"], found)
    for n, kind, name in numbered:
        size = on_disk(files.stat(f"{directory}/{name}").size) if kind != "state" else 0
        if kind == "damaged":
            found.other_bytes += size
        elif kind != "state":
            _read_entry(files, directory, n, kind, size, found)
        found.next = max(found.next, n + 1)
    after = [n for n, _, _ in found.entries if n > found.covered]
    whole = after == list(range(found.covered + 1, newest + 1)) and found.fold.n == newest
    await _settle_epoch(files, directory, clock, rng, found, keep=whole)
    if whole:
        found.holes = [hole for hole in found.holes if not hole.subject]  # told when they came
    else:
        await _begin_again(files, directory, newest, found)
    return found


async def _begin_again(files: Files, directory: str, newest: int, found: FoundSpool) -> None:
    log.error(
        "what the spool knew of its writers is damaged; going on as epoch %s", found.fold.epoch
    )
    fold = Fold(
        n=newest,
        epoch=found.fold.epoch,
        born_ns=found.fold.born_ns,
        renames=found.fold.renames,
        unstored_before=newest + 1,
    )
    data = encode_fold(fold)
    # Durable at once: the entries still carry the old states, and the next start must not fold them.
    path = f"{directory}/{file_name(newest, 'state')}"
    await write_durably(files, path, [data])
    if found.covered:
        files.unlink(f"{directory}/{file_name(found.covered, 'state')}")
    found.fold, found.covered, found.state_bytes = fold, newest, on_disk(len(data))


def _read_states(files: Files, directory: str, numbers: list[int], found: FoundSpool) -> None:
    for n in sorted(numbers, reverse=True):
        path = f"{directory}/{file_name(n, 'state')}"
        if found.covered:
            files.unlink(path)  # an older one that a crash left
            continue
        file = files.open_read(path)
        try:
            found.fold = read_fold(file, f"spool state {n}")
            found.covered = n
            found.state_bytes = on_disk(file.stat().size)
        except DamagedEntryError as error:
            _set_aside(files, directory, n, "state", str(error), found)
        finally:
            file.close()


def _read_entry(
    files: Files, directory: str, n: int, kind: str, size: int, found: FoundSpool
) -> None:
    file = files.open_read(f"{directory}/{file_name(n, kind)}")
    try:
        head, _ = read_head(file, f"spool entry {n}")
    except DamagedEntryError as error:
        _set_aside(files, directory, n, kind, str(error), found)
        return  # the number is missing now, which is noticed at the end
    finally:
        file.close()
    found.entries.append((n, size, kind == "done"))
    if kind == "entry":
        found.last_entry.update(dict.fromkeys(head.writers, n))
    if not found.fold.epoch:
        found.fold.epoch = head.epoch
    if n > found.fold.n:
        _notice_holes(head, found)
        found.fold.apply(head)


def _notice_holes(head: EntryHead, found: FoundSpool) -> None:
    for item in head.objects:
        facts = item.facts
        last = found.fold.last.get(facts.writer, 0)
        if facts.first > last + 1:
            found.holes.append(
                Hole(
                    facts.writer,
                    facts.signal,
                    f"records {last + 1} to {facts.first - 1} were spooled, and the spool lost them",
                    after_seq=last,
                    lines=facts.first - 1 - last,
                )
            )


def _set_aside(
    files: Files, directory: str, n: int, kind: str, why: str, found: FoundSpool
) -> None:
    path = f"{directory}/{file_name(n, kind)}"
    aside = f"{directory}/{file_name(n, 'damaged')}"
    log.error("the spool is damaged: %s; set aside as %s", why, aside)
    size = files.stat(path).size
    files.rename(path, aside)
    found.other_bytes += on_disk(size)
    if kind != "done":
        found.holes.append(Hole("", "gaps", f"{why}; kept as {aside}", bytes=size))


async def _settle_epoch(
    files: Files, directory: str, clock: Clock, rng: Random, found: FoundSpool, *, keep: bool
) -> None:
    path = f"{directory}/epoch"
    fold = found.fold
    known = _read_epoch(files, path) if keep else None
    found.other_bytes += on_disk(1)
    if keep and fold.epoch:
        # States and entries know it, even when the file was lost; the birth is then "now", so
        # that every source without a state is asked about.
        same = known is not None and known.epoch == fold.epoch
        fold.born_ns = fold.born_ns or (known.born_ns if known and same else clock.time_ns())
        if same:
            return
    elif known is not None:
        fold.epoch, fold.born_ns = known.epoch, known.born_ns
        return
    else:
        fold.epoch, fold.born_ns = new_epoch(rng), clock.time_ns()
    await write_durably(files, path, [msgspec.json.encode(_Epoch(fold.epoch, fold.born_ns))])
    await files.sync_dir(directory.rpartition("/")[0] or "/")  # the directory itself may be new


def _read_epoch(files: Files, path: str) -> _Epoch | None:
    try:
        file = files.open_read(path)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(file.pread(4096, 0), type=_Epoch)
    except msgspec.DecodeError as error:
        log.error("the spool's epoch file is damaged (%s); it is made again", error)
        return None
    finally:
        file.close()
