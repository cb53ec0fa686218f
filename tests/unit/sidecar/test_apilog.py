"""Capture `api`: everything a run said is stored once, or a gap says that something is not."""

import asyncio
import random

import pytest

from spanyard_sidecar.apilog.follower import LATE
from spanyard_sidecar.model import Stored
from tests.fakes.pod_logs import FakePodLogs
from tests.unit.sidecar.api_capture import (
    collecting,
    collector_of,
    facts_of,
    gaps,
    machine_lines,
    one_server,
    proven,
    stored,
    writer,
)
from tests.unit.sidecar.machine import Machine, messages, virtual


@virtual
async def test_lines_restarts_and_the_end_are_stored_once_and_in_order() -> None:
    machine = Machine()
    kube = FakePodLogs(machine.clock)
    async with collecting(machine, kube):
        await kube.start("server")
        await kube.say("server", "one", '{"msg": "two", "level": "error"}', "")
        await machine.clock.sleep(10)
        await kube.say("server", "last words")
        await kube.start("server")
        await kube.say("server", "again")
        await machine.clock.sleep(10)
        await kube.say("server", "end")
        await kube.stop("server")
    assert stored(machine, "server/0") == ["one", "two", "", "last words"]
    assert stored(machine, "server/1") == ["again", "end"]
    lines = machine.stored(writer(machine, "server/0"))
    assert [line["level"] for line in lines[:2]] == ["info", "error"]
    assert {line.get("stream", "") for line in lines} == {""}
    for run in ("server/0", "server/1"):
        events = machine.events(writer(machine, run), where="bucket")
        assert events == ["begin", "end"]


@virtual
async def test_the_last_words_before_the_end_are_stored_though_the_status_comes_later() -> None:
    machine = Machine()
    kube = FakePodLogs(machine.clock, lag=2.0)
    await kube.start("server")
    async with collecting(machine, kube) as collector:
        await machine.clock.sleep(20)
        await kube.say("server", *(f"line {n}" for n in range(5000)))
        await kube.stop("server")
    assert stored(machine, "server/0") == [f"line {n}" for n in range(5000)]
    assert not collector.leftover


@virtual
async def test_a_container_that_runs_on_is_read_to_where_it_is() -> None:
    """In a build pod the collector is told to end together with the builder."""
    machine = Machine()
    kube = FakePodLogs(machine.clock)
    await kube.start("build")
    async with collecting(machine, kube):
        await machine.clock.sleep(20)
        await kube.say("build", "before")

        async def go_on() -> None:
            await machine.clock.sleep(0.4)
            await kube.say("build", "meanwhile")

        later = asyncio.create_task(go_on())
    await later
    assert stored(machine, "build/0") == ["before", "meanwhile"]


@virtual
async def test_what_cannot_be_read_at_the_end_is_an_open_tail_and_named() -> None:
    machine = Machine()
    kube = FakePodLogs(machine.clock)
    await kube.start("server")
    async with collecting(machine, kube, grace=5) as collector:
        await kube.say("server", "seen")
        await machine.clock.sleep(10)
        kube.away = True
        await kube.say("server", "unseen")
    assert "not read to the end" in collector.leftover
    assert machine.events(writer(machine, "server/0"), where="bucket") == ["begin"]
    assert any("away" in trouble for trouble in collector.troubles())


@pytest.mark.parametrize("deaf", [False, True])
def test_an_answer_that_goes_silent_at_a_rotation_is_asked_for_again(*, deaf: bool) -> None:
    @virtual
    async def check() -> None:
        machine = Machine()
        kube = FakePodLogs(machine.clock)
        kube.deaf_at_rotation = deaf
        await kube.start("server")
        async with collecting(machine, kube):
            await kube.say("server", *"abc")
            await machine.clock.sleep(10)
            await kube.rotate("server")
            await machine.clock.sleep(0.1)
            await kube.say("server", *"def")
            await machine.clock.sleep(60)
            assert stored(machine, "server/0") == list("abcdef")
        # Nobody knows what else the old file held when the answer had to be asked for again.
        assert gaps(machine, "server/0") == (["gap rotated-away"] if deaf else [])

    check()


@virtual
async def test_lines_that_were_rotated_away_unread_are_a_told_gap() -> None:
    async with one_server() as (machine, kube):
        await kube.say("server", "a")
        await machine.clock.sleep(10)
        kube.away = True
        await kube.say("server", "lost")
        await machine.clock.sleep(10)
        await kube.rotate("server")
        await kube.say("server", "b")
        kube.away = False
        await machine.clock.sleep(60)
        assert stored(machine, "server/0") == ["a", "b"]
    assert gaps(machine, "server/0") == ["gap rotated-away"]


@pytest.mark.slow
@virtual
async def test_many_lines_of_one_second_are_neither_lost_nor_doubled_by_broken_connections() -> (
    None
):
    machine = Machine()
    kube = FakePodLogs(machine.clock, seed=7)
    kube.break_after = 0.02
    await kube.start("server")
    async with collecting(machine, kube):
        for n in range(40):
            await kube.say("server", *(f"{n}-{m}" for m in range(50)))
            await machine.clock.sleep(0.3)
        await machine.clock.sleep(120)
        kube.break_after = 0
    assert stored(machine, "server/0") == [f"{n}-{m}" for n in range(40) for m in range(50)]
    assert not gaps(machine, "server/0")


@virtual
async def test_a_collector_that_is_killed_goes_on_where_it_was_durable() -> None:
    machine = Machine()
    kube = FakePodLogs(machine.clock)
    await kube.start("server")
    for n in range(6):
        collector = collector_of(machine, kube)
        await collector.open()
        running = asyncio.create_task(collector.run(asyncio.Event()))
        await kube.say("server", *(f"{n}-{m}" for m in range(5)))
        await machine.clock.sleep(4 + n)
        await kube.say("server", f"{n}-end")
        await machine.clock.sleep(0.2 * n)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        machine.disk.settle()
    async with collecting(machine, kube):
        await machine.clock.sleep(10)
    expected = [line for n in range(6) for line in [*(f"{n}-{m}" for m in range(5)), f"{n}-end"]]
    assert stored(machine, "server/0") == expected
    assert not gaps(machine, "server/0")


@pytest.mark.slow
@virtual
async def test_a_line_longer_than_a_record_may_be_is_split_and_one_that_breaks_off_is_told() -> (
    None
):
    machine = Machine()
    kube = FakePodLogs(machine.clock)
    await kube.start("server")
    long = "x" * 2_500_000
    async with collecting(machine, kube):
        await kube.say("server", "before", long, "after")
        await machine.clock.sleep(20)
        found = stored(machine, "server/0")
        assert [found[0], "".join(found[1:-1]), found[-1]] == ["before", long, "after"]
        kube.break_after = 0.3
        await kube.say("server", "y" * 3_000_000, "the end")
        await machine.clock.sleep(30)
        kube.break_after = 0
        await machine.clock.sleep(200)
    assert stored(machine, "server/0")[-1] == "the end"


@virtual
async def test_a_lost_spool_goes_on_after_the_last_line_that_is_stored() -> None:
    async with one_server() as (machine, kube):
        await kube.say("server", *"abc")
        await machine.clock.sleep(10)
    old = writer(machine, "server/0")
    to = next(
        facts
        for key in machine.bucket.objects
        if "/logs/" in key
        for facts in [facts_of(machine, key)]
    )

    class Gateway:
        async def stored_through(self, project: str, fingerprint: str) -> Stored | None:
            assert fingerprint == to.source.fingerprint
            return Stored(old, to.last, to.source.to_offset)

    anew = Machine(seed=2)
    anew.wall, anew.clock, anew.bucket = machine.wall, machine.clock, machine.bucket
    async with collecting(anew, kube, index=Gateway()):
        await kube.say("server", *"de")
        await machine.clock.sleep(30)
    new = {
        line["writer"]: None
        for key in machine.bucket.objects
        if "/logs/" in key
        for line in machine_lines(machine, key)
    }
    (other,) = set(new) - {old}
    assert messages(machine.stored(other)) == list("de")
    assert machine.events(other, where="bucket")[0] == "begin continues"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_nothing_is_twice_and_what_is_missing_is_told(seed: int) -> None:
    @virtual
    async def check() -> None:
        machine = Machine(seed=seed)
        rng = random.Random(seed)
        kube = FakePodLogs(machine.clock, seed=seed, lag=rng.choice((0.1, 0.8, 4.0)))
        kube.deaf_at_rotation = rng.random() < 0.5
        rotates = seed % 3 > 0
        await kube.start("server")
        said = 0
        for _ in range(rng.randint(1, 3)):
            collector = collector_of(machine, kube)
            await collector.open()
            stop = asyncio.Event()
            running = asyncio.create_task(collector.run(stop))
            for _ in range(40):
                what = rng.random()
                if what < 0.1 and rotates:
                    if kube.age("server") > LATE:  # docs/capture.md: before, nobody can tell
                        await kube.rotate("server")
                elif what < 0.15:
                    if rng.random() < 0.5:
                        await kube.stop("server", backing_off=True)
                        await machine.clock.sleep(12)
                    await kube.start("server")
                    await machine.clock.sleep(rng.uniform(5, 40))
                elif what < 0.2:
                    kube.away = True
                    await machine.clock.sleep(rng.uniform(0.1, 20))
                    kube.away = False
                elif what < 0.3:
                    kube.break_after = rng.choice((0.0, 0.1))
                else:
                    for _ in range(rng.choice((1, 1, 5, 60))):
                        await kube.say("server", f"line {said}")
                        said += 1
                await machine.clock.sleep(rng.choice((0, 0.01, 0.3, 3)))
            if rng.random() < 0.5:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                machine.disk.settle()
            else:
                stop.set()
                await running
        kube.break_after = 0
        async with collecting(machine, kube):
            await machine.clock.sleep(30)
        for restart, run in enumerate(kube.runs["server"]):
            proven(machine, f"server/{restart}", run)

    check()
