"""The spool on a full disk: what gives way first, and what the log says."""

import logging

import pytest

from spanyard_sidecar.committer import Committer
from spanyard_sidecar.gaps import Book
from spanyard_sidecar.metrics import CollectorMetrics
from spanyard_sidecar.model import Identity
from spanyard_sidecar.spool import DiskFullError
from tests.unit.sidecar.machine import DIRECTORY, Machine, virtual
from tests.unit.sidecar.test_spool import some_object

KEPT = 40_000
"""Bytes of an entry."""


def fill_disk(machine: Machine) -> None:
    machine.disk.capacity["/pod"] = machine.disk.used("/pod") + 4096


@virtual
async def test_on_a_full_disk_the_ring_gives_way_before_anything_is_refused() -> None:
    machine = await Machine().start()
    for n in range(1, 4):
        await machine.spool.commit([some_object(first=n, size=KEPT)], {"w@e": {"seq": n}})
        machine.spool.mark_stored(n)
    fill_disk(machine)
    for n in range(4, 10):
        await machine.spool.commit([some_object(first=n, size=KEPT)], {"w@e": {"seq": n}})
        machine.spool.mark_stored(n)
    assert machine.spool.states == {"w@e": {"seq": 9}}
    await machine.start()
    assert machine.spool.states == {"w@e": {"seq": 9}}


@virtual
async def test_without_a_ring_a_full_disk_refuses_and_what_waits_stays() -> None:
    machine = await Machine().start()
    for n in range(1, 4):
        await machine.spool.commit([some_object(first=n, size=KEPT)], {"w@e": {"seq": n}})
    fill_disk(machine)
    with pytest.raises(DiskFullError, match="no room on the disk"):
        await machine.spool.commit([some_object(first=4, size=KEPT)], {"w@e": {"seq": 4}})
    assert list(machine.spool.pending) == [1, 2, 3]


@virtual
async def test_housekeeping_on_a_full_disk_complains_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = await Machine().start()
    machine.disk.capacity["/pod"] = machine.disk.used("/pod")
    await machine.spool.commit([], {"w@e": {"seq": 1}}, last_resort=True)  # spends the reserve
    machine.disk.capacity["/pod"] = machine.disk.used("/pod")
    for _ in range(30):
        await machine.spool.maintain()
        await machine.clock.sleep(1)
    assert "reserve" not in machine.spool.files.listdir(DIRECTORY)
    complaints = [r for r in caplog.records if "housekeeping of the spool failed" in r.getMessage()]
    assert len(complaints) == 1


@virtual
async def test_the_log_says_that_the_spool_takes_entries_again_only_when_that_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "spanyard.sidecar")
    machine = await Machine().start()
    book = Book(machine.spool, Identity("ns.app"), machine.clock)
    committer = Committer(book, machine.clock, machine.rng, CollectorMetrics())

    def said() -> list[str]:
        texts = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return [text.partition(":")[0].partition(";")[0] for text in texts]

    for _ in range(3):  # room for a moment, then none again
        committer._stuck("reading stands still: no room")
        await machine.clock.sleep(0.1)
        await committer.put([], {"w@e": {"seq": 1}}, [])
        assert not committer.trouble
    assert said() == ["reading stands still"]
    await machine.clock.sleep(6)
    await committer.put([], {"w@e": {"seq": 2}}, [])
    assert said() == ["the spool takes entries again"]
    committer._stuck("reading stands still: no room")
    assert said() == ["reading stands still"]
