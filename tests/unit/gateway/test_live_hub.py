"""Feeds and their listeners when pods go, come back, or speak of others; what stays in memory."""

import asyncio
from collections.abc import Mapping

import pytest

from spanyard_gateway.live.channels import Filter, parse_channel
from spanyard_gateway.live.inlet import Inlet, Joined, Reached
from spanyard_gateway.live.messages import Resume
from spanyard_gateway.live.records import block_of_lines
from spanyard_gateway.live.subscription import Subscription, Wish
from spanyard_gateway.live.upstream import LivePod
from tests.fakes.live_scene import OTHER, TARGET, Scene, Untold, encode, encoded, play
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, line


def test_a_collector_that_was_away_for_a_while_is_heard_again() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            await it.world.end(pod)
            await asyncio.sleep(5)
            pod.there = True
            await it.world.print(pod, 3)
            await asyncio.sleep(5)
        assert it.lines() == ["line 11", "line 12", "line 13"]

    play(scene())


def test_who_begins_to_listen_while_pods_are_looked_for_is_no_sign_of_their_end() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        asking, go_on = asyncio.Event(), asyncio.Event()

        async def pods(namespace: str, **_: str) -> list[LivePod]:
            if namespace != "other":
                return [pod.live]
            asking.set()
            await go_on.wait()
            return []

        it.world.pods = pods  # type: ignore[method-assign]
        go_on.set()
        async with it.hub.attached(OTHER, Inlet(1)):
            asking.clear()
            go_on.clear()
            running = asyncio.create_task(it.hub.run())
            await asking.wait()
            async with it.hub.attached(TARGET, Inlet(1)) as attached:
                go_on.set()
                await asyncio.sleep(0.1)
                assert not attached.feeds[pod.live.uid].closing
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


def test_an_answer_that_nobody_expects_does_not_end_the_hub() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running():
            finder = it.world.pods
            it.world.pods = None  # type: ignore[assignment, method-assign]
            await asyncio.sleep(3)
            it.world.pods = finder  # type: ignore[method-assign]
            later = it.world.new_pod()
            await asyncio.sleep(3)
            await it.world.print(later, 2)
            await asyncio.sleep(3)
        assert it.lines() == ["line 1", "line 2"]

    play(scene())


def test_what_was_encoded_of_what_is_kept_is_forgotten_each_second() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            writer = pod.writers[0]
            for _ in range(3):
                writer.stored = writer.last
                page = await it.hub.stored.between(writer.id, "logs", 0, None)
                newest = it.hub._running[pod.live.uid].feed._blocks
                assert page
                assert newest
                kept = [*page, *newest]
                for block in kept:
                    encode(block)
                assert all(map(encoded, kept))
                await asyncio.sleep(1.1)
                assert not any(map(encoded, kept))

    play(scene())


def test_who_begins_to_listen_while_a_feed_is_put_away_keeps_the_new_one() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        before = it.hub._feed(pod.live)
        await asyncio.sleep(1)
        it.hub._running[pod.live.uid].task.cancel()
        await asyncio.sleep(0.1)
        tidying = asyncio.create_task(it.hub._tidy())
        await asyncio.sleep(0)
        after = it.hub._feed(pod.live)
        await tidying
        assert after is not before
        assert it.hub.connections == 1, "nobody would end it"
        assert it.hub._feed(pod.live) is after
        it.hub._running[pod.live.uid].task.cancel()

    play(scene())


def test_a_feed_that_takes_the_place_of_an_ended_one_while_others_are_put_away_stays() -> None:
    async def scene() -> None:
        it = Scene()
        pods = [it.world.new_pod(), it.world.new_pod()]
        for pod in pods:
            it.hub._feed(pod.live)
        await asyncio.sleep(1)
        for pod in pods:
            it.hub._running[pod.live.uid].task.cancel()
        await asyncio.sleep(0.1)
        tidying = asyncio.create_task(it.hub._tidy())
        await asyncio.sleep(0)  # it waits for the first one's end
        after = it.hub._feed(pods[1].live)
        await tidying
        assert it.hub.connections == 1, "nobody would end it"
        assert it.hub._feed(pods[1].live) is after
        it.hub._running[pods[1].live.uid].task.cancel()

    play(scene())


@pytest.mark.parametrize(
    ("wanted", "shown"), [(Filter(), 5), (Filter(text="nowhere"), 0)], ids=["all", "none"]
)
def test_looking_for_history_in_memory_holds_up_nobody(wanted: Filter, shown: int) -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            other = it.world.new_pod()
            for one in (pod, other, pod):
                await it.world.print(one, 2_000)
                await asyncio.sleep(5)
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            it.heard.clear()
            inlet = Inlet(1 << 20)
            async with it.hub.attached(TARGET, inlet) as attached:
                wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), wanted, 5)
                stored = Untold()
                mine = Subscription(wish, TARGET, inlet, stored, it.clock, it.say)
                joined, reached = attached.begin()
                blocks = sum(len(item.blocks) for item in joined if isinstance(item, Joined))
                task = asyncio.create_task(others())
                await mine._history(joined, reached)
                task.cancel()
            lines = it.lines()
        assert lines == [f"line {n}" for n in range(4_006, 4_011)][:shown]
        assert blocks >= 6
        # Who finds what it wants at the end does not look at the rest.
        assert turns >= blocks if not shown else turns <= 10

    play(scene())


def test_a_pod_speaks_for_itself_alone() -> None:
    async def scene() -> None:
        it = Scene()
        victim = it.world.new_pod()
        await it.world.print(victim, 20)
        while it.world.all[victim.writers[0].id].stored < 20:
            it.world.store()
        victim.there = False
        # Were it believed, numbers 1 to 29 of the other would be fetched for this listener.
        secret = victim.writers[0].id
        async with it.running() as pod:
            it.world.spoken = (block_of_lines(secret, 30, line(secret, 30, 1.0)),)
            await it.world.print(pod, 1)
            await asyncio.sleep(20)
        assert {m["writer"] for m in it.heard if "writer" in m} == {pod.writers[0].id}

    play(scene())


def test_ends_of_writers_are_not_asked_for_with_every_block() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            other = it.world.new_pod()
            await asyncio.sleep(3)
            await it.world.print(other, 1)
            await it.world.end(pod)
            await asyncio.sleep(3)
            before = it.world.questions
            for _ in range(200):
                await it.world.print(other, 1)
                await asyncio.sleep(0.02)
            asked = it.world.questions - before
        assert 1 <= asked <= 20, asked

    play(scene())


def test_what_was_stored_before_a_feed_began_is_heard_without_another_line() -> None:
    async def scene(ends: bool) -> None:
        it = Scene()
        async with it.running():
            late = it.world.new_pod()
            late.there = late.answers = False  # nobody finds it, and its collector refuses
            await it.world.print(late, 7)
            writer = it.world.all[late.writers[0].id]
            writer.stored = 7
            late.there = True
            await asyncio.sleep(2 if ends else 5)
            if ends:
                await it.world.end(late)
                await asyncio.sleep(10)
            heard = [m for m in it.heard if m.get("writer") == writer.id]
        assert [i["seq"] for m in heard for i in m.get("items", [])] == list(range(1, 8))

    play(scene(ends=False))
    play(scene(ends=True))


def test_what_was_stored_before_a_slow_database_answered_is_not_told_as_new() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        writer = it.world.all[pod.writers[0].id]
        await it.world.print(pod, 500)
        writer.stored, writer.ring_from = 500, 501
        ask = it.world.reached

        async def slowly(pod: LivePod) -> Mapping[str, Reached]:
            await asyncio.sleep(10)
            return await ask(pod)

        it.world.reached = slowly  # type: ignore[method-assign]
        task = asyncio.create_task(it.listen(Inlet(1 << 20)))
        await asyncio.sleep(15)
        await it.world.print(pod, 2)
        await asyncio.sleep(2)
        task.cancel()
        assert it.lines() == ["line 501", "line 502"]
        told = [m for m in it.heard if m.get("writer") == writer.id]
        assert sum(m["left"] for m in told) == 500, "each of its records is accounted for"

    play(scene())


@pytest.mark.parametrize("handed_on", [False, True])
@pytest.mark.parametrize("history", [0, 5, 100])
def test_what_a_feed_gets_while_one_is_told_to_be_subscribed_is_heard(
    history: int, handed_on: bool
) -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        await it.world.print(pod, 10)
        inlet = Inlet(2_000)
        wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), Filter(), history, None)
        async with it.hub.attached(TARGET, inlet) as attached:
            feed, writer = attached.feeds[pod.live.uid], pod.writers[0].id
            for seq in range(11, 41):
                feed._take(block_of_lines(writer, seq, line(writer, seq, 100.0 + seq)))
                if handed_on:  # more than the inlet has room for
                    await asyncio.sleep(0.01)
            subscription = Subscription(wish, TARGET, inlet, it.hub.stored, it.clock, it.say)
            listening = asyncio.create_task(subscription.run(*attached.begin()))
            await asyncio.sleep(5)
            feed._take(block_of_lines(writer, 41, line(writer, 41, 200.0)))
            await asyncio.sleep(5)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        assert it.lines() == [f"line {n}" for n in range(max(1, 41 - history), 42)]

    play(scene())


def test_the_past_of_a_pod_that_answers_late_needs_no_room_in_an_inlet() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        pod.answers, it.world.padding = False, "x" * 50_000
        await it.world.print(pod, 60)
        listening = asyncio.create_task(it.listen(Inlet(1 << 20), history=100))
        await asyncio.sleep(5)
        pod.answers = True
        await asyncio.sleep(10)
        await it.world.print(pod, 1)
        await asyncio.sleep(5)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert [line.rstrip("x") for line in it.lines()] == [f"line {n}" for n in range(1, 62)]
        assert not [m for m in it.heard if m["type"] == "dropped"]

    play(scene())


def test_the_log_of_a_pod_that_ended_before_a_listener_began_is_not_new_when_it_resumes() -> None:
    async def scene(history: int) -> None:
        it = Scene()
        gone, pod = it.world.new_pod(), it.world.new_pod()
        await it.world.print(gone, 50)
        writer = gone.writers[0]
        writer.stored, writer.stored_ms = 50, it.clock.time_ns() // 1_000_000
        await it.world.end(gone)
        await asyncio.sleep(5)
        listening = asyncio.create_task(it.listen(Inlet(1 << 20), history=history))
        await asyncio.sleep(5)
        await it.world.print(pod, 2)
        await asyncio.sleep(1)
        listening.cancel()
        [token] = [m["resume"] for m in it.heard if m["type"] == "live"]
        token["seen"][pod.writers[0].id] = 2
        shown = it.lines()
        assert shown[-2:] == ["line 1", "line 2"]
        assert shown[:-2] == [f"line {n}" for n in range(51 - history, 51)]
        it.heard.clear()
        resume = Resume(token["at"], token["seen"])
        listening = asyncio.create_task(it.listen(Inlet(1 << 20), resume=resume))
        await asyncio.sleep(5)
        await it.world.print(pod, 1)
        await asyncio.sleep(40)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert it.lines() == ["line 3"]

    play(scene(history=0))
    play(scene(history=3))


def test_a_pod_whose_collector_never_answered_is_heard_from_the_database() -> None:
    async def scene(*, away: bool) -> None:
        it = Scene()
        async with it.running():
            it.world.database_away = away
            unheard = it.world.new_pod()
            unheard.answers = False
            await it.world.print(unheard, 7)
            await asyncio.sleep(5)
            await it.world.end(unheard)
            await asyncio.sleep(20)
            it.world.database_away = False
            await asyncio.sleep(3)
            writer = unheard.writers[0]
            writer.stored = 4
            await asyncio.sleep(8)
            writer.stored, writer.end_stored = 7, True
            await asyncio.sleep(60)
            heard = [m for m in it.heard if m.get("writer") == writer.id]
            assert [i["seq"] for m in heard for i in m.get("items", [])] == list(range(1, 8))
            assert it.hub.connections == 1, "nobody looks after it for ever"

    play(scene(away=True))
    play(scene(away=False))
