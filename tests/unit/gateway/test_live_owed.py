"""What a subscription still owes: tokens, writers that ended, the database that is away or slow."""

import asyncio
import gc
import json

import pytest

from spanyard_core.errors import DatabaseUnavailableError
from spanyard_gateway.live import errands, records, subscription
from spanyard_gateway.live.channels import Filter, parse_channel
from spanyard_gateway.live.inlet import Inlet, Joined
from spanyard_gateway.live.messages import Resume
from spanyard_gateway.live.records import Block, block_of_lines
from spanyard_gateway.live.subscription import Subscription, Wish
from tests.fakes.live_scene import TARGET, Scene, Task, play
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, Writer, line


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


def test_a_token_of_a_time_that_is_yet_to_come_hides_no_pod_that_began_meanwhile() -> None:
    async def scene() -> None:
        it = Scene()
        # The clock of the gateway that gave it was wrong by an hour, and was set right.
        at = it.clock.time_ns() // 1_000_000 + 3_600_000
        pod = it.world.new_pod()
        await it.world.print(pod, 20)
        await it.world.end(pod)
        while not it.world.all[pod.writers[0].id].end_stored:
            it.world.store()
        _, task = await _resumed(it, Resume(at, {}), Inlet(1 << 20))
        await asyncio.sleep(2)
        assert it.lines() == [f"line {n}" for n in range(1, 21)]
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


def test_what_an_errand_passes_on_while_a_message_is_written_is_not_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "MESSAGE_BYTES", 1_000)

    async def scene() -> None:
        it, said = Scene(), list[int]()

        async def slowly(message: bytes) -> None:
            said.extend(item["seq"] for item in json.loads(message)["items"])
            await asyncio.sleep(1)

        wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), Filter())
        here = Subscription(wish, TARGET, Inlet(1 << 20), it.world, it.clock, slowly)
        writer = "p/app/0@e"
        live, stored = (
            block_of_lines(writer, 1, b"".join(line(writer, n, 1.0) for n in range(1, last)))
            for last in (30, 41)
        )
        assert len(live.pieces()) > 3
        await asyncio.gather(here.pass_on(live), here.pass_on(stored))
        assert said == [*range(1, 41)]

    play(scene())


def test_a_page_that_is_passed_on_without_waiting_leaves_others_their_turns() -> None:
    async def scene() -> None:
        it, turns, writer = Scene(), 0, "p/app/0@e"

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        wish = Wish("s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), Filter())
        here = Subscription(wish, TARGET, Inlet(1 << 20), it.world, it.clock, it.say)
        lines = b"".join(line(writer, n, 1.0, "x" * 300) for n in range(1, 2_001))
        page = block_of_lines(writer, 1, lines)
        other = asyncio.create_task(others())
        await here.pass_on(page)
        assert len(it.lines()) == 2_000
        assert turns >= len(page.pieces()) > 2, "after each message, not after the page"
        other.cancel()

    play(scene())


def test_what_is_passed_on_while_a_count_is_told_is_not_dropped_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "MESSAGE_BYTES", 1_000)
    writer = "p/app/0@e"

    def lines(first: int, last: int) -> Block:
        made = b"".join(line(writer, n, 1.0) for n in range(first, last + 1))
        return block_of_lines(writer, first, made)

    async def scene() -> None:
        it, shown, dropped, left = Scene(), list[int](), list[int](), 0

        async def slowly(message: bytes) -> None:
            nonlocal left
            said = json.loads(message)
            shown.extend(item["seq"] for item in said.get("items", []))
            if said["type"] == "dropped":
                dropped.extend(range(said["first"], said["last"] + 1))
            left += said.get("left", 0)
            await asyncio.sleep(1)

        async def between(_: str, __: str, after: int, before: int | None) -> list[Block]:
            await asyncio.sleep(0.01)  # 10 to 39 are in quarantine
            return [rest for each in (lines(1, 9), lines(40, 70)) if (rest := each.after(after))]

        it.world.between = between  # type: ignore[method-assign, assignment]
        wish = Wish(
            "s", parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"), Filter(level=["error"]),
            resume=Resume(0, {}),
        )  # fmt: skip
        here = Subscription(wish, TARGET, Inlet(1 << 20), it.world, it.clock, slowly)

        async def errand() -> None:
            await asyncio.sleep(0.5)
            await here._errands._rest(writer, "logs", 70)

        await asyncio.gather(here.pass_on(lines(1, 59)), errand())
        await here._tell_left()
        assert len(set(shown)) == len(shown)
        assert not set(shown) & set(dropped)
        assert len(shown) + len(dropped) + left == 70

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
        questions = [stored.between(f"w{n % 40}", "logs", 0, 100) for n in range(400)]
        asks = asyncio.gather(*questions, return_exceptions=True)
        began = asyncio.get_running_loop().time()
        answers = await asks
        took = asyncio.get_running_loop().time() - began
        assert (most, round(took, 1)) == (4, 1.9), (
            "40 questions, however many asked them, and rests"
        )
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


def test_a_writer_of_a_token_that_nobody_knows_is_forgotten_once_it_was_looked_for() -> None:
    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            own = pod.writers[0].id
            strange = {f"gone/{n}/0@e": 7 for n in range(5)} | {f"{pod.live.uid}/side/0@e": 7}
            at = it.clock.time_ns() // 1_000_000
            it.world.database_away = True
            inlet, held = Inlet(1 << 20), list[int]()
            async with it.hub.attached(TARGET, inlet) as attached:
                wish = Wish(
                    "r",
                    parse_channel(f"server:{NAMESPACE}.{DEPLOYMENT}"),
                    Filter(),
                    resume=Resume(at, {own: 10, **strange}),
                )
                here = Subscription(wish, TARGET, inlet, it.hub.stored, it.clock, it.say)
                here.holds = held.append
                running = here.run(*attached.begin())
                task = asyncio.create_task(running)
                await asyncio.sleep(60)
                assert held == [], "not as long as the database cannot be asked"
                it.world.database_away = False
                await asyncio.sleep(10)
                assert held == [6], "from now on only those count that nobody knows"
                assert len(here.resume().seen) == 7
                await asyncio.sleep(40)
                assert held == [6, 1], "but what its pod may still say is waited for"
                assert set(here.resume().seen) == {own, f"{pod.live.uid}/side/0@e"}
                await it.world.print(pod, 3)
                await asyncio.sleep(1)
                assert here.seen(own) == 13
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    play(scene())


def test_of_writers_without_end_those_are_remembered_that_spoke_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscription, "MOST_KNOWN", 4)

    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            for _ in range(10):
                it.world.new_writer(pod)
                await it.world.print(pod, 1)
                await asyncio.sleep(0.1)
            assert list(it.subscription._seen) == [writer.id for writer in pod.writers[-4:]]

    play(scene())


def test_of_holes_without_end_so_many_are_filled_and_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errands, "MOST_HOLES", 3)

    async def scene() -> None:
        it = Scene()
        async with it.running() as pod:
            names = [f"{pod.live.uid}/{n}/0@e" for n in range(5)]
            it.world.spoken = tuple(block_of_lines(n, 11, line(n, 11, 1.0)) for n in names)
            for name in names:
                it.world.all[name] = Writer(name)
            await it.world.print(pod, 1)
            await asyncio.sleep(1)
            told = [m for m in it.heard if m["type"] == "dropped"]
            assert [(m["reason"], m["count"]) for m in told] == [("too-many-holes", 10)] * 2
            await asyncio.sleep(30)
            told = [m for m in it.heard if m["type"] == "dropped"][2:]
            assert [(m["reason"], m["count"]) for m in told] == [("not-stored", 10)] * 3
            assert it.lines().count("line 11") == 6, "what came with them is shown"

    play(scene())
