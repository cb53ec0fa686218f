"""Feeds and their listeners when pods go, come back, or speak of others; what stays in memory."""

import asyncio
import contextlib
import gc
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from spanyard_core.errors import DatabaseUnavailableError
from spanyard_gateway.live import subscription
from spanyard_gateway.live.channels import Filter, parse_channel
from spanyard_gateway.live.hub import Hub
from spanyard_gateway.live.inlet import Inlet, Joined, Reached
from spanyard_gateway.live.messages import Resume
from spanyard_gateway.live.records import Block, block_of_lines
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.subscription import Subscription, Wish
from spanyard_gateway.live.upstream import LivePod, UpstreamEvent
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, PROJECT, Pod, World, line
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import SimLoop, abandon_all

Task = asyncio.Task[None]
TARGET = Target(NAMESPACE, PROJECT, deployment=DEPLOYMENT)
OTHER = Target("other", PROJECT, deployment=DEPLOYMENT)


class Counting(World):
    """Counts questions to the database; a pod may speak of writers that are not its own."""

    questions = 0
    spoken: tuple[Block, ...] = ()

    async def _asked(self) -> None:
        self.questions += 1
        await super()._asked()

    @contextlib.asynccontextmanager
    async def listen(
        self, pod: LivePod, after: Mapping[str, int]
    ) -> AsyncIterator[AsyncIterator[UpstreamEvent]]:
        async with super().listen(pod, after) as events:
            yield self._with_spoken(events)

    async def _with_spoken(
        self, events: AsyncIterator[UpstreamEvent]
    ) -> AsyncIterator[UpstreamEvent]:
        async for event in events:
            yield event
            for block in self.spoken:
                yield block
            self.spoken = ()


class Untold(World):
    """A database in which nothing is stored."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))

    async def _asked(self) -> None:
        """At once."""


class Scene:
    """A hub over a world, and one listener."""

    def __init__(self) -> None:
        self.clock = SimClock(WallClock())
        self.world = Counting(random.Random(1), self.clock)
        self.world.random_failures = False
        self.hub = Hub(self.world, self.world, self.world, self.clock, random.Random(1))
        self.heard: list[dict[str, Any]] = []

    async def say(self, data: bytes) -> None:
        self.heard.append(json.loads(data))

    async def listen(self, inlet: Inlet, *, history: int = 0, resume: Resume | None = None) -> None:
        channel = parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}")
        wish = Wish("s", channel, Filter(), history, resume)
        async with self.hub.attached(TARGET, inlet) as attached:
            stored = self.hub.stored
            self.subscription = Subscription(wish, TARGET, inlet, stored, self.clock, self.say)
            await self.subscription.run(inlet.waiting_now(), attached.reached())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Pod]:
        pod = self.world.new_pod()
        await self.world.print(pod, 10)
        tasks = [
            asyncio.create_task(self.hub.run()),
            asyncio.create_task(self.listen(Inlet(1 << 20))),
        ]
        try:
            await asyncio.sleep(4)
            yield pod
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def lines(self) -> list[str]:
        return [i["line"] for m in self.heard if m["type"] == "server:log" for i in m["items"]]


def play(scene: Any) -> None:
    loop = SimLoop()
    try:
        loop.run_until_complete(scene)
    finally:
        abandon_all(loop)
        loop.close()


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
                joined = inlet.waiting_now()
                blocks = sum(len(item.blocks) for item in joined if isinstance(item, Joined))
                task = asyncio.create_task(others())
                await mine._history(joined, attached.reached())
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


class Tracked(Block):
    """A block that can be looked for."""


def test_a_token_of_bounded_size_has_those_that_spoke_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscription, "MOST_RESUMED", 4)

    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            server = it.world.new_writer(pod)
            await it.world.print(pod, 1)
            await asyncio.sleep(1)
            for _ in range(10):
                it.world.new_writer(pod)
                await it.world.print(pod, 1)
            await asyncio.sleep(1)
            server.printed.append(line(server.id, 2, 1.0))
            async with pod.changed:
                pod.changed.notify_all()
            await asyncio.sleep(1)
            token = it.subscription.resume()
            last = [writer.id for writer in pod.writers[-3:]]
            assert token.seen == {**dict.fromkeys(last, 1), server.id: 2}

    play(scene())


def test_what_a_subscription_began_with_is_let_go() -> None:
    async def scene() -> None:
        it = Scene()
        wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), Filter())
        found = block_of_lines("p/app/0@e", 1, line("p/app/0@e", 1, 1.0))
        block = Tracked(found.writer, found.first, found.count, found.records, found.size)
        inlet = Inlet(1 << 20)
        inlet.offer(Joined("p", (block,)))
        del block
        subscription = Subscription(wish, TARGET, inlet, it.world, it.clock, it.say)
        task = asyncio.create_task(subscription.run(inlet.waiting_now(), {}))
        await asyncio.sleep(1)
        assert it.heard[-1]["type"] == "live"
        assert not [each for each in gc.get_objects() if type(each) is Tracked]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(scene())


async def _resumed(it: Scene, resume: Resume, inlet: Inlet) -> tuple[Subscription, Task]:
    """A listener that comes again, at this gateway."""
    wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), Filter(), resume=resume)
    subscription = Subscription(wish, TARGET, inlet, it.hub.stored, it.clock, it.say)
    return subscription, asyncio.create_task(subscription.run(inlet.waiting_now(), {}))


def test_a_token_does_not_pass_what_could_not_be_read_of_an_ended_writer() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        await it.world.print(pod, 20)
        await it.world.end(pod)
        while it.world.all[pod.writers[0].id].stored < 20:
            it.world.store()
        at = it.clock.time_ns() // 1_000_000
        await asyncio.sleep(100)  # longer than the margin: a later token would not ask for it
        it.world.database_away = True
        here, task = await _resumed(it, Resume(at, {pod.writers[0].id: 5}), Inlet(1 << 20))
        await asyncio.sleep(100)
        assert [m["type"] for m in it.heard] == ["partial", "live"]
        token = here.resume()
        assert token.at == it.heard[1]["resume"]["at"] == at, "it is still to be shown"
        task.cancel()
        # Whoever comes again with that token misses nothing; whoever stays gets it too.
        for wait in (False, True):
            it.heard.clear()
            it.world.database_away = wait
            again, task = await _resumed(it, token, Inlet(1 << 20))
            await asyncio.sleep(5)
            it.world.database_away = False
            await asyncio.sleep(60)
            assert it.lines() == [f"line {n}" for n in range(6, 21)]
            assert again.resume().at > at + 100_000
            task.cancel()

    play(scene())


def test_the_rest_of_a_writer_that_was_stored_long_before_the_token_is_not_forgotten() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        await it.world.print(pod, 20)
        await it.world.end(pod)
        while not it.world.all[pod.writers[0].id].end_stored:
            it.world.store()
        await asyncio.sleep(100)
        at = it.clock.time_ns() // 1_000_000
        _, task = await _resumed(it, Resume(at, {pod.writers[0].id: 15}), Inlet(1 << 20))
        await asyncio.sleep(2)
        assert it.lines() == [f"line {n}" for n in range(16, 21)]
        task.cancel()

    play(scene())


def test_what_an_ended_writer_did_not_get_stored_is_told_as_dropped() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            writer = it.world.all[pod.writers[0].id]
            pod.answers = False
            await it.world.restart_collector(pod)
            await it.world.print(pod, 5)
            await it.world.end(pod)
            writer.stored, writer.end_stored = 12, True
            await asyncio.sleep(60)
        told = [m for m in it.heard if m["type"] == "dropped"]
        assert it.lines() == ["line 11", "line 12"]
        assert [(m["first"], m["last"], m["reason"]) for m in told] == [(13, 15, "not-stored")]

    play(scene())


def test_a_writer_that_waits_for_the_database_holds_up_nobody_else() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            other = it.world.new_pod()
            await asyncio.sleep(3)
            writer = it.world.all[pod.writers[0].id]
            pod.answers = False
            await it.world.restart_collector(pod)
            await it.world.print(pod, 5)
            writer.ring_from = 14  # 11 to 13 are neither with the collector nor stored
            pod.answers = True
            await asyncio.sleep(7)
            began = it.clock.monotonic()
            for n in range(1, 4):
                await it.world.print(other, 1)
                await asyncio.sleep(0.5)
                assert it.lines()[-1] == f"line {n}", "it came at once"
            assert it.clock.monotonic() - began < 2
            assert [m for m in it.heard if m["type"] == "dropped"] == []
            await it.world.print(pod, 2)
            await asyncio.sleep(15)
        of = [m for m in it.heard if m.get("writer") == writer.id]
        assert (of[0]["type"], of[0]["first"], of[0]["last"]) == ("dropped", 11, 13)
        assert [i["seq"] for m in of[1:] for i in m["items"]] == [14, 15, 16, 17]

    play(scene())


def test_what_many_listeners_miss_is_asked_for_once() -> None:
    async def scene() -> None:
        it = Scene()
        pod = it.world.new_pod()
        await it.world.print(pod, 10)
        running = [asyncio.create_task(it.hub.run())]
        running += [asyncio.create_task(it.listen(Inlet(1 << 20))) for _ in range(50)]
        await asyncio.sleep(4)
        writer = it.world.all[pod.writers[0].id]
        pod.answers = False
        await it.world.restart_collector(pod)
        await it.world.print(pod, 20)
        writer.stored, writer.ring_from = 25, 26
        before = it.world.questions
        pod.answers = True
        await asyncio.sleep(8)
        assert len(it.lines()) == 50 * 20
        assert it.world.questions - before <= 5
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    play(scene())


def test_of_many_questions_few_are_asked_at_a_time_and_each_once() -> None:
    async def scene() -> None:
        it = Scene()
        asking: list[str] = []
        most = 0

        async def between(writer: str, *_: object) -> list[Block]:
            nonlocal most
            asking.append(writer)
            most = max(most, len(asking))
            await asyncio.sleep(0.1)
            asking.remove(writer)
            if writer == "w3":
                raise DatabaseUnavailableError("away")
            return []

        it.world.between = between  # type: ignore[method-assign]
        stored = it.hub.stored
        questions = [stored.between(f"w{n % 40}", "logs", 0, None) for n in range(400)]
        asks = asyncio.gather(*questions, return_exceptions=True)
        began = asyncio.get_running_loop().time()
        answers = await asks
        took = asyncio.get_running_loop().time() - began
        assert (most, round(took, 1)) == (4, 1.0), "40 questions, however many asked them"
        failed = [n for n, answer in enumerate(answers) if answer != []]
        assert failed == list(range(3, 400, 40)), "and a failure takes nobody's place for ever"

    play(scene())


def test_listeners_that_cannot_keep_up_get_fewer_and_larger_messages() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            before = len(it.heard)
            for n in range(200):
                await it.world.print(pod, 1)
                if n % 50 == 49:
                    await asyncio.sleep(1)
            said = [m for m in it.heard[before:] if m["type"] == "server:log"]
        assert sum(len(m["items"]) for m in said) == 200
        assert len(said) < 20, "what comes while others have their turn is one message"

    play(scene())
