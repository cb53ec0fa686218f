"""The spool: what is durable when, limits, recovery, damage."""

import errno
import random

import pytest

from spanyard_core.chunks import ChunkWriter
from spanyard_sidecar.budget import DiskBudget, SpoolFullError, on_disk
from spanyard_sidecar.entries import DamagedEntryError, parse_name
from spanyard_sidecar.model import NewObject
from spanyard_sidecar.spool import DiskFullError, SpoolSettings
from tests.unit.sidecar.machine import DIRECTORY, Machine, virtual

SMALL = SpoolSettings(ring_seconds=60, ring_bytes=1 << 20, reserve=16 * 1024)


def some_object(writer: str = "w@e", first: int = 1, size: int = 100) -> NewObject:
    chunk = ChunkWriter()
    chunk.add(random.Random(first).randbytes(size), 1)
    facts, parts = chunk.finish(
        signal="logs", project="ns.app", writer=writer, first=first, last=first, time_ns=0
    )
    return NewObject(facts.name.key(), facts, parts, container="app")


def used(machine: Machine) -> int:
    return sum(on_disk(len(inode.data)) for inode in machine.disk.files())


@virtual
async def test_a_commit_survives_a_power_cut_with_its_states() -> None:
    machine = await Machine().start()
    await machine.spool.commit([some_object()], {"w@e": {"seq": 1}})
    epoch = machine.spool.epoch
    machine.disk.power_loss(random.Random(5))
    await machine.start()
    assert machine.spool.states == {"w@e": {"seq": 1}}
    assert machine.spool.epoch == epoch
    assert list(machine.spool.pending) == [1]
    assert not machine.spool.holes


@virtual
async def test_an_object_read_back_is_the_one_that_was_written() -> None:
    machine = await Machine().start()
    item = some_object(size=5000)
    await machine.spool.commit([some_object("other@e"), item], {})
    with machine.spool.opened(1) as entry:
        assert entry.read(entry.head.objects[1]) == b"".join(item.parts)
        assert entry.head.objects[1].container == "app"


@virtual
async def test_a_full_spool_refuses_and_changes_nothing() -> None:
    machine = await Machine(limit=256 * 1024).start(spool=SMALL)
    await machine.spool.commit([some_object(size=100_000)], {"w@e": {"seq": 1}})
    before = used(machine)
    with pytest.raises(SpoolFullError, match="is full"):
        await machine.spool.commit([some_object(first=2, size=200_000)], {"w@e": {"seq": 2}})
    assert machine.spool.states == {"w@e": {"seq": 1}}
    assert used(machine) == before == machine.budget.used


@virtual
async def test_uploaded_entries_give_way_before_anything_is_refused() -> None:
    machine = await Machine(limit=400 * 1024).start(spool=SMALL)
    for n in range(1, 30):
        await machine.spool.commit([some_object(first=n, size=100_000)], {"w@e": {"seq": n}})
        machine.spool.mark_stored(n)
        assert used(machine) <= machine.limit
    assert machine.spool.states == {"w@e": {"seq": 29}}
    await machine.start(spool=SMALL)
    assert machine.spool.states == {"w@e": {"seq": 29}}


@virtual
async def test_the_reserve_lets_a_full_spool_say_that_it_is_full() -> None:
    machine = await Machine(limit=128 * 1024).start(spool=SMALL)
    await machine.spool.commit([some_object(size=103_000)], {})
    with pytest.raises(SpoolFullError):
        await machine.spool.commit([some_object(first=2, size=5000)], {})
    await machine.spool.commit([some_object("m@e", size=5000)], {}, last_resort=True)
    assert used(machine) <= machine.limit
    with pytest.raises(SpoolFullError):
        await machine.spool.commit([some_object("m@e", 2, 20_000)], {}, last_resort=True)
    machine.spool.mark_stored(1)
    await machine.spool.commit([some_object(first=3, size=60_000)], {})
    machine.spool.mark_stored(2)
    machine.spool.mark_stored(3)
    await machine.clock.sleep(100)
    for n in range(4, 14):  # enough for a state file, so that the ring can go
        await machine.spool.commit([], {"w@e": {"seq": n}})
        machine.spool.mark_stored(n)
    await machine.clock.sleep(100)
    await machine.spool.maintain()
    assert "reserve" in machine.spool.files.listdir(DIRECTORY)


@virtual
async def test_a_full_spool_whose_reserve_is_spent_empties_all_the_same() -> None:
    """What the reserve gave for a gap line must not be filled by ordinary entries: then no state
    file could be written any more, and uploaded entries would stay for ever."""
    machine = await Machine(limit=256 * 1024).start(spool=SMALL)

    async def fill() -> None:
        size, n = 40_000, 1
        while size > 300:
            try:
                await machine.spool.commit([some_object(first=n, size=size)], {"w@e": {"seq": n}})
                n += 1
            except SpoolFullError:
                size //= 2

    await fill()
    await machine.spool.commit([some_object("m@e", size=100)], {}, last_resort=True)
    await fill()
    assert used(machine) <= machine.limit
    for n in list(machine.spool.pending):
        machine.spool.mark_stored(n)
    assert await machine.spool.commit([some_object(first=99, size=100_000)], {"w@e": {"seq": 99}})
    assert used(machine) <= machine.limit
    machine.disk.power_loss(random.Random(1))
    await machine.start(spool=SMALL)
    assert machine.spool.states["w@e"] == {"seq": 99}


@virtual
async def test_a_full_disk_is_told_apart_from_a_full_spool_and_leaves_no_litter() -> None:
    machine = await Machine().start()
    machine.disk.capacity["/pod"] = machine.disk.used("/pod") + 50_000
    with pytest.raises(DiskFullError, match="no room on the disk"):
        await machine.spool.commit([some_object(size=100_000)], {"w@e": {"seq": 1}})
    names = machine.spool.files.listdir(DIRECTORY)
    assert not [name for name in names if name.endswith((".tmp", ".entry"))]
    machine.disk.capacity.clear()
    assert await machine.spool.commit([some_object(size=100_000)], {"w@e": {"seq": 1}}) == 1


@virtual
async def test_on_a_full_disk_the_reserve_is_spent_for_gap_lines() -> None:
    machine = await Machine().start()
    machine.disk.capacity["/pod"] = machine.disk.used("/pod") + 100
    with pytest.raises(DiskFullError):
        await machine.spool.commit([some_object(size=5000)], {})
    await machine.spool.commit([some_object("m@e", size=5000)], {}, last_resort=True)
    assert len(machine.spool.pending) == 1


@virtual
async def test_a_failed_sync_is_no_commit_and_its_number_is_used_again() -> None:
    machine = await Machine().start()
    machine.disk.refuse = lambda operation, path: errno.EIO if operation == "sync_dir" else None
    with pytest.raises(OSError, match="Input/output"):
        await machine.spool.commit([some_object(size=5000)], {"w@e": {"seq": 1}})
    machine.disk.refuse = lambda operation, path: None
    await machine.start()
    assert machine.spool.states == {}
    assert await machine.spool.commit([some_object()], {"w@e": {"seq": 1}}) == 1


@virtual
async def test_states_outlive_the_entries_they_came_with() -> None:
    machine = await Machine().start(spool=SpoolSettings(ring_seconds=1))
    for n in range(1, 40):
        await machine.spool.commit([some_object(first=n)], {"w@e": {"seq": n}, f"x{n}@e": {}})
        machine.spool.mark_stored(n)
        await machine.clock.sleep(1)
        await machine.spool.maintain()
    files = [parse_name(name) for name in machine.spool.files.listdir(DIRECTORY)]
    assert len([f for f in files if f and f[1] == "done"]) < 20
    assert len([f for f in files if f and f[1] == "state"]) == 1
    machine.disk.power_loss(random.Random(1))
    await machine.start()
    assert machine.spool.states == {"w@e": {"seq": 39}, **{f"x{n}@e": {} for n in range(1, 40)}}
    assert await machine.spool.commit([], {}) == 40


@virtual
async def test_a_forgotten_writer_leaves_nothing() -> None:
    machine = await Machine().start()
    await machine.spool.commit([some_object()], {"w@e": {"seq": 1}})
    await machine.spool.commit([], {"w@e": None})
    assert dict(machine.spool.states) == {}
    assert machine.spool.fold.last == {}


@virtual
async def test_recovery_does_not_take_states_from_entries_that_a_state_file_covers() -> None:
    machine = await Machine().start(spool=SpoolSettings(ring_seconds=0))
    await machine.spool.commit([some_object("slow@e")], {"slow@e": {"seq": 1}, "w@e": {"seq": 1}})
    for n in range(2, 12):
        await machine.spool.commit([some_object(first=n)], {"w@e": {"seq": n}})
        machine.spool.mark_stored(n)
    await machine.clock.sleep(1)
    await machine.spool.maintain()
    await machine.start()
    assert list(machine.spool.pending) == [1]
    assert machine.spool.states["w@e"] == {"seq": 11}
    assert machine.spool.is_uploaded("w@e") is False  # entry 1 has something of it
    machine.spool.mark_stored(1)
    assert machine.spool.is_uploaded("w@e")


@virtual
async def test_a_damaged_entry_is_set_aside_told_and_its_names_are_not_used_again() -> None:
    machine = await Machine().start()
    epoch = machine.spool.epoch
    for n in range(1, 4):
        await machine.spool.commit([some_object(first=n)], {"w@e": {"seq": n}})
    machine.disk.inode(f"{DIRECTORY}/{2:016d}.entry").data[20] ^= 1
    await machine.start()
    assert machine.spool.epoch != epoch
    assert machine.spool.states == {}
    assert list(machine.spool.pending) == [1, 3]
    told = {(hole.subject, hole.after_seq, hole.lines) for hole in machine.spool.holes}
    assert ("w@e", 1, 1) in told
    assert machine.spool.fold.unstored_before == 4
    again = machine.spool.epoch
    await machine.start()
    assert machine.spool.epoch == again
    assert machine.spool.states == {}
    assert machine.spool.fold.unstored_before == 4
    assert machine.spool.holes == []
    assert await machine.spool.commit([], {}) == 4


@virtual
async def test_a_damaged_state_file_alone_ends_the_epoch() -> None:
    machine = await Machine().start(spool=SpoolSettings(ring_seconds=0))
    for n in range(1, 12):
        await machine.spool.commit([some_object(first=n)], {"w@e": {"seq": n}})
        machine.spool.mark_stored(n)
    await machine.clock.sleep(1)
    await machine.spool.maintain()
    (state,) = [f for f in machine.spool.files.listdir(DIRECTORY) if f.endswith(".state")]
    epoch = machine.spool.epoch
    machine.disk.inode(f"{DIRECTORY}/{state}").data[30] ^= 1
    await machine.start()
    assert machine.spool.epoch != epoch
    assert machine.spool.states == {}


@virtual
async def test_changed_object_bytes_are_noticed_when_they_are_read() -> None:
    machine = await Machine().start()
    await machine.spool.commit([some_object(size=5000)], {})
    machine.disk.inode(f"{DIRECTORY}/{1:016d}.entry").data[-3] ^= 1
    with machine.spool.opened(1) as entry, pytest.raises(DamagedEntryError):
        entry.read(entry.head.objects[0])


@virtual
async def test_a_lost_epoch_file_is_made_again_from_what_the_entries_know() -> None:
    machine = await Machine().start()
    await machine.spool.commit([some_object()], {"w@e": {"seq": 1}})
    epoch, born = machine.spool.epoch, machine.spool.fold.born_ns
    machine.disk.unlink(f"{DIRECTORY}/epoch")
    await machine.clock.sleep(5)
    await machine.start()
    assert machine.spool.epoch == epoch
    assert machine.spool.states == {"w@e": {"seq": 1}}
    assert machine.spool.fold.born_ns > born  # more is asked about, never less


def test_a_share_of_the_budget_has_a_limit_of_its_own_and_counts_in_the_whole() -> None:
    whole = DiskBudget(100)
    part = whole.share(40, "part")
    part.reserve(30)
    with pytest.raises(SpoolFullError, match="part is full"):
        part.reserve(20)
    whole.reserve(65)
    with pytest.raises(SpoolFullError, match="spool is full"):
        part.reserve(8)
    part.release(30)
    assert (whole.used, part.used) == (65, 0)


def test_relief_is_asked_before_anything_is_refused() -> None:
    budget = DiskBudget(100)
    budget.reserve(90)
    asked: list[int] = []

    def give_way(short: int) -> None:
        asked.append(short)
        budget.release(50)

    budget.on_pressure(give_way)
    budget.reserve(30)
    assert asked == [20]
    assert budget.used == 70
