"""The book: numbering of begin, end and gap lines, and what happens when a commit fails."""

import asyncio

import pytest

from spanyard_sidecar.budget import SpoolFullError
from spanyard_sidecar.gaps import Subject, begin, ended, gap, without_meta
from spanyard_sidecar.model import End, Gap, Stored
from tests.unit.sidecar.machine import Machine, virtual

W = Subject("w@e", "spans", "app")


@virtual
async def test_lines_carry_the_identity_and_the_subject() -> None:
    machine = await Machine().start()
    await machine.book.commit([], {}, [begin(W, stored=Stored("old", 7, 0), cause="continues")])
    (line,) = machine.spooled("w@e/meta")
    assert line["type"] == "gap"
    assert (line["project"], line["deployment"], line["pod"]) == ("ns.app", "app", "app-1")
    assert (line["subject"], line["signal"], line["container"]) == ("w@e", "spans", "app")
    assert (line["continues"], line["continuesSeq"]) == ("old", 7)
    assert line["timestamp"].startswith("2026-11-21T14:45:")


@virtual
async def test_numbers_go_on_over_commits_and_restarts() -> None:
    machine = await Machine().start()
    await machine.book.commit([], {}, [begin(W), gap(W, Gap("truncated", "x"), after_seq=3)])
    await machine.start()
    assert machine.book.is_open("w@e")
    await machine.book.commit([], {}, [ended(W, End(5, 100))])
    assert [line["seq"] for line in machine.spooled("w@e/meta")] == [1, 2, 3]
    assert not machine.book.is_open("w@e")
    assert machine.book.is_known("w@e")
    assert without_meta(machine.spool.states) == {}


@virtual
async def test_lines_of_a_commit_that_failed_leave_no_hole_in_the_numbers() -> None:
    machine = await Machine(limit=2 << 20).start()
    hog = machine.budget.free
    machine.budget.reserve(hog)
    with pytest.raises(SpoolFullError):
        await machine.book.commit([], {}, [begin(W)])
    assert not machine.book.is_known("w@e")
    machine.budget.release(hog)
    await machine.book.commit([], {}, [begin(W)])
    assert [line["seq"] for line in machine.spooled("w@e/meta")] == [1]


@virtual
async def test_two_commits_at_once_never_give_a_number_twice() -> None:
    machine = await Machine().start()
    lost = gap(W, Gap("truncated", "x"), after_seq=3)
    await asyncio.gather(*(machine.book.commit([], {}, [lost]) for _ in range(5)))
    assert [line["seq"] for line in machine.spooled("w@e/meta")] == [1, 2, 3, 4, 5]


@virtual
async def test_each_writer_has_its_own_book_keeping_in_one_entry() -> None:
    machine = await Machine().start()
    other = Subject("v@e", "logs")
    await machine.book.commit([], {"v@e": {}}, [begin(W), begin(other), ended(W, End(0, 0))])
    (head,) = machine.heads()
    assert [(o.facts.writer, o.facts.records) for o in head.objects] == [
        ("w@e/meta", 2),
        ("v@e/meta", 1),
    ]
    assert machine.book.is_open("v@e")
    assert not machine.book.is_open("w@e")
