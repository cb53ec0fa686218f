"""The client of live streams: whatever breaks, each record is shown, left out or told as dropped, once."""

import ast
import asyncio
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spanyard_gateway.live import hub
from spanyard_gateway.live.socket import SocketLimits
from spanyard_local.live_client import (
    AwayError,
    Dropped,
    Event,
    Lines,
    Live,
    LiveClient,
    Lost,
    Over,
    Passed,
    Subscribed,
)
from tests.fakes.live_gateway import CHANNEL, LiveGateway, hurry
from tests.fakes.live_world import DEPLOYMENT, NAMESPACE, World


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


class Account:
    """What one subscription was told of each writer."""

    def __init__(self) -> None:
        self.shown: dict[str, list[int]] = {}
        self.left: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.reasons: set[str] = set()

    def take(self, event: Event) -> None:
        if isinstance(event, Lines):
            self.shown.setdefault(event.writer, []).extend(item.seq for item in event.items)
            self.left[event.writer] = self.left.get(event.writer, 0) + event.left
        elif isinstance(event, Passed):
            self.left[event.writer] = self.left.get(event.writer, 0) + event.left
        elif isinstance(event, Dropped):
            self.dropped[event.writer] = self.dropped.get(event.writer, 0) + event.count
            self.reasons.add(event.reason)

    def total(self, writer: str) -> int:
        return (
            len(self.shown.get(writer, [])) + self.left.get(writer, 0) + self.dropped.get(writer, 0)
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_shown_left_and_dropped_are_all_there_was_over_restarts_of_everything(
    seed: int,
) -> None:
    rng = random.Random(seed)
    world = World(rng)
    pods = [world.new_pod()]
    limits = SocketLimits(waiting_bytes=20_000)
    async with LiveGateway(world, limits) as gateway, LiveClient(gateway.url) as live:
        accounts = {"all": Account(), "errors": Account()}
        await live.subscribe(CHANNEL, id="all")
        await live.subscribe(CHANNEL, id="errors", filter={"level": ["error"]})
        lost = 0

        async def listen(until: Callable[[], bool]) -> None:
            nonlocal lost
            while not until():
                event = await live.next(0.1)
                if isinstance(event, Lost):
                    lost += 1
                elif event is not None and event.id:
                    accounts[event.id].take(event)

        async def storing() -> None:
            while True:
                await asyncio.sleep(0.03)
                world.store()

        lives: set[str] = set()
        while len(lives) < 2:
            event = await live.next(60)
            assert event is not None
            lives |= {event.id} if isinstance(event, Live) else set()
        store = asyncio.create_task(storing())
        # What is drawn depends on when stores happen: one restart of the gateway is sure.
        for what in (*(rng.randrange(10) for _ in range(40)), 7):
            if what < 5:
                await world.print(rng.choice(pods), rng.randint(1, 200))
            elif what == 5:
                await world.restart_collector(rng.choice(pods))
            elif what == 6:
                pods.append(world.new_pod())
            elif what == 7:
                await gateway.stop()
                await world.print(rng.choice(pods), rng.randint(1, 50))
                await asyncio.sleep(0.05)
                await gateway.start()
            else:
                ends = asyncio.get_running_loop().time() + 0.05
                await listen(lambda ends=ends: asyncio.get_running_loop().time() > ends)  # type: ignore[misc]
        writers = [w for w in world.all.values() if w.printed]

        def whole() -> bool:
            return all(a.total(w.id) >= w.last for a in accounts.values() for w in writers)

        ends = asyncio.get_running_loop().time() + 60
        await listen(lambda: whole() or asyncio.get_running_loop().time() > ends)
        store.cancel()
        await asyncio.gather(store, return_exceptions=True)
    assert lost, "nothing was tried"
    for account in accounts.values():
        assert account.reasons <= {"slow-client", "not-stored"}
        for writer in writers:
            shown = account.shown.get(writer.id, [])
            assert shown == sorted(set(shown)), "in order, none twice"
            assert account.total(writer.id) == writer.last
    for writer in writers:
        assert all(seq % 5 == 0 for seq in accounts["errors"].shown.get(writer.id, []))


async def test_history_comes_first_and_a_token_goes_on_in_another_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a machine that stands still for seconds it would begin without what its collector has.
    monkeypatch.setattr(hub, "READY_S", 60.0)
    world = World(random.Random(1))
    world.random_failures = False
    pod = world.new_pod()
    await world.print(pod, 30)
    async with LiveGateway(world) as gateway:
        async with LiveClient(gateway.url) as live:
            name = await live.subscribe(CHANNEL, history=10)
            seqs: list[int] = []
            async for event in live:
                if isinstance(event, Lines):
                    seqs += [item.seq for item in event.items]
                if isinstance(event, Live):
                    break
            assert seqs == list(range(21, 31))
            token = live.resume(name)
        await world.print(pod, 5)
        while pod.writers[0].stored < 35:
            world.store()
        async with LiveClient(gateway.url) as live:
            await live.subscribe(CHANNEL, resume=token)
            while len(seqs) < 15:
                event = await live.next(60)
                if isinstance(event, Lines):
                    seqs += [item.seq for item in event.items]
            assert seqs == list(range(21, 36))


async def test_what_is_refused_for_now_is_asked_again_and_what_is_refused_is_told() -> None:
    async with LiveGateway(World(random.Random(1))) as gateway, LiveClient(gateway.url) as live:
        gateway.away = 2
        await live.subscribe(CHANNEL, id="a")
        await live.subscribe("server:local.else", id="b")
        heard = [await live.next(60) for _ in range(3)]
        over = [event for event in heard if isinstance(event, Over)]
        assert [(event.id, event.code) for event in over] == [("b", "not-found")]
        assert any(isinstance(event, Subscribed) and event.id == "a" for event in heard)
        assert live.subscriptions == ["a"]
        await live.unsubscribe("a")
        assert await live.next(0.05) is None


async def test_a_gateway_that_stays_away_is_given_up_when_patience_ends() -> None:
    async with LiveGateway(World(random.Random(1))) as gateway:
        async with LiveClient(gateway.url, patience=0.3) as live:
            await live.subscribe(CHANNEL)
            await gateway.stop()
            with pytest.raises(AwayError, match="no gateway answers at .* given up after"):
                [_ async for _ in live]
        with pytest.raises(AwayError):
            async with LiveClient(gateway.url):
                pass


async def test_the_example_prints_what_goes_wrong_and_ends_with_the_deployment() -> None:
    world = World(random.Random(1))
    world.random_failures = False
    pod = world.new_pod()
    await world.print(pod, 10)
    root = Path(__file__).parents[3]
    page = (root / "docs" / "live.md").read_text("utf-8")
    shown = page.split("```python\n")[1].split("```")[0]
    assert compile(shown, "docs/live.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with LiveGateway(world) as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable, root / "examples" / "watch" / "watch.py", f"{NAMESPACE}.{DEPLOYMENT}",
            gateway.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                told = [await process.stdout.readline() for _ in range(2)]
                await world.print(pod, 5)
                told.append(await process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
    assert [text.split(b" ", 1)[1] for text in told] == [
        b"error line 5\n", b"error line 10\n", b"error line 15\n",
    ]  # fmt: skip
    assert process.returncode == 130
