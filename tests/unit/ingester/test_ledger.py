"""The ledger: a log that two can write and only one wins, under lost answers and compaction."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.errors import SettingError
from spanyard_core.object_names import ledger_key
from spanyard_core.storage import Storage, open_storage
from spanyard_core.storage.protocol import ObjectInfo
from spanyard_ingester.compaction import read_shards
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Abandon,
    Commit,
    Filed,
    Note,
    Operation,
    Settled,
    decode_entry,
    scope_of,
)
from tests.unit.ingester.bench import Bench
from tests.unit.ingester.ledgers import Losing, ledger, note, plan


@pytest.fixture
async def storage(bench: Bench) -> Losing:
    return Losing(bench.storage)


class TestAppend:
    async def test_entries_are_numbered_and_read_again(self, storage: Losing) -> None:
        one = ledger(storage)
        await one.load()
        for attempt in (1, 2):
            await one.append(lambda state, a=attempt: [plan(a, a * 100, a * 100)], subject="plan")  # type: ignore[misc]
        await one.append(lambda state: [Commit(attempt=1)], subject="a")
        again = await ledger(storage).load()
        assert again.n == 3
        assert list(again.open) == [2]
        assert again.is_handled(scope_of("logs", "a.b", "50e721e49c013f00c62c"), 100, 100)

    async def test_appends_that_wait_together_share_an_entry(self, storage: Losing) -> None:
        one = ledger(storage)
        await one.load()
        await asyncio.gather(
            *(one.append(lambda state: note(), subject=f"s{i}") for i in range(10))
        )
        # The first goes alone, the others wait for it and go together.
        assert one.state.n == 2

    async def test_builds_of_one_subject_see_each_other(self, storage: Losing) -> None:
        one = ledger(storage)
        await one.load()

        def once(state: LedgerState) -> list[Operation]:
            return [] if state.open else [plan(7)]

        await asyncio.gather(*(one.append(once, subject="plan") for _ in range(5)))
        assert list(one.state.open) == [7]

    async def test_what_a_build_raises_comes_back_and_nothing_is_appended(
        self, storage: Losing
    ) -> None:
        one = ledger(storage)
        await one.load()

        def refuse(state: LedgerState) -> list[Operation]:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await one.append(refuse, subject="a")
        assert one.state.n == 0

    @pytest.mark.parametrize("how", ["before", "after", "twice"])
    async def test_an_answer_lost_or_a_request_sent_twice_appends_once(
        self, storage: Losing, how: str
    ) -> None:
        one = ledger(storage)
        await one.load()
        storage.fail = [how, "before", how]
        await one.append(lambda state: [] if 5 in state.open else [plan(5)], subject="plan")
        again = await ledger(storage.inner).load()
        assert again.n == one.state.n == 1
        assert list(again.open) == [5]

    @pytest.mark.parametrize("how", ["after", "twice"])
    async def test_ones_own_entry_is_known_by_its_nonce(self, storage: Losing, how: str) -> None:
        """Also when what it says leaves no trace in the state that a build could see."""
        one = ledger(storage)
        await one.load()
        storage.fail = [how]
        await one.append(lambda state: note("said once"), subject="a")
        assert one.state.n == 1

    async def test_a_cancelled_append_is_found_again(self, storage: Losing) -> None:
        """Nobody knows whether the entry of a cancelled append landed: the log is looked at."""
        one = ledger(storage)
        await one.load()
        write = storage.write
        landed = asyncio.Event()

        async def slow(key: str, data: bytes, *, if_absent: bool = False) -> None:
            await write(key, data, if_absent=if_absent)
            landed.set()
            await asyncio.sleep(3600)

        storage.write = slow  # type: ignore[method-assign]
        leader = asyncio.ensure_future(one.append(lambda state: [plan(1)], subject="plan"))
        await landed.wait()
        follower = asyncio.ensure_future(
            one.append(
                lambda state: [] if 1 in state.dead else [Abandon(attempt=1, reason="")],
                subject="attempt 1",
            )
        )
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        storage.write = write  # type: ignore[method-assign]
        await follower
        assert (await ledger(storage).load()).n == 2

    async def test_riders_go_with_the_next_entry(self, storage: Losing) -> None:
        one = ledger(storage)
        await one.load()
        one.ride(Settled(attempts=[1]))
        one.ride(Settled(attempts=[2]))
        one.ride(Filed(ids=["x"]))
        await one.append(lambda state: note(), subject="a")
        assert (one.state.n, one.riders) == (1, 0)
        entry = decode_entry(await storage.inner.read(ledger_key(0, 1)))
        assert entry.operations == [Note(), Filed(ids=["x"]), Settled(attempts=[1, 2])]
        await one.flush_riders()
        assert one.state.n == 1

    async def test_who_gives_up_while_another_writes_for_both_harms_nobody(
        self, storage: Losing
    ) -> None:
        """As the word that an ingester is at work, when the work is done just then."""
        one = ledger(storage)
        await one.load()
        texts = ("first", "writes for both", "gives up")
        gates = [asyncio.Event(), asyncio.Event()]
        begun = [asyncio.Event(), asyncio.Event()]
        inner, writes = storage.inner.write, 0

        async def write(key: str, data: bytes, *, if_absent: bool = False) -> None:
            nonlocal writes
            writes += 1
            begun[writes - 1].set()
            await gates[writes - 1].wait()
            await inner(key, data, if_absent=if_absent)

        storage.write = write  # type: ignore[method-assign]
        first, second, third = (
            asyncio.create_task(one.append(lambda _, text=text: note(text), subject=text))  # type: ignore[misc]
            for text in texts
        )
        async with asyncio.timeout(60):
            await begun[0].wait()
            gates[0].set()
            await begun[1].wait()  # the second, with the third's in the same entry
            third.cancel()
            await asyncio.gather(third, return_exceptions=True)
            gates[1].set()
            await asyncio.gather(first, second)
        assert one.state.n == 2
        entry = decode_entry(await storage.inner.read(ledger_key(0, 2)))
        assert entry.operations == [Note(text=text) for text in texts[1:]]


class TestTwo:
    async def test_only_one_wins_a_number_and_the_other_thinks_again(self, storage: Losing) -> None:
        one, two = ledger(storage, "one"), ledger(storage, "two")
        await one.load()
        await two.load()
        seen: list[int] = []

        def build(state: LedgerState) -> list[Operation]:
            seen.append(state.n)
            return [] if state.open else [plan(2)]

        await one.append(lambda state: [plan(1)], subject="plan")
        await two.append(build, subject="plan")
        assert seen == [0, 1]
        assert list(two.state.open) == [1]
        assert two.conflicts == 1
        assert two.seen.keys() == {("one", one.instance)}

    async def test_many_at_once_make_one_log(self, storage: Losing) -> None:
        several = [ledger(storage, f"o{i}") for i in range(4)]
        for one in several:
            await one.load()

        async def work(one: Ledger, base: int) -> None:
            for i in range(8):
                attempt = base + i
                await one.append(
                    lambda state, a=attempt: [plan(a, a, a)],  # type: ignore[misc]
                    subject="plan",
                )

        await asyncio.gather(*(work(one, 100 * (i + 1)) for i, one in enumerate(several)))
        state = await ledger(storage).load()
        assert len(state.open) == 32
        assert state.n <= 32


class Blinking:
    """A storage whose listings may lack what is written while they run, as a directory's do."""

    def __init__(self, storage: Storage) -> None:
        self.inner = storage
        self.unseen: list[set[str]] = []
        """Keys that the next listings do not show."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        unseen = self.unseen.pop(0) if self.unseen else set()
        async for info in self.inner.list(prefix, after=after):
            if info.key not in unseen:
                yield info


class TestListing:
    @pytest.mark.parametrize("unseen", [{1}, {2}, {2, 4}, {3, 4}])
    async def test_a_listing_that_lacks_an_entry_is_looked_at_again(
        self, storage: Losing, unseen: set[int]
    ) -> None:
        """Of two entries written while a directory is read, it may show the second alone."""
        one, blinking = ledger(storage), Blinking(storage.inner)
        two = ledger(blinking, "two")
        await one.load()
        await two.load()
        for _ in range(4):
            await one.append(lambda state: note(), subject="a")
        keys = {ledger_key(0, n) for n in unseen}
        blinking.unseen = [keys, keys]
        await two.refresh()
        await two.refresh()
        await two.refresh()
        assert two.state.n == 4


async def test_the_number_of_shards_is_said_once(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    assert await read_shards(storage) == 1
    assert await read_shards(storage) == 1
    await storage.write("ledger/config.json", b'{"shards": 4}')
    assert await read_shards(storage) == 4
    await storage.close()


class Forgetful:
    """A store, or a proxy before it, that ignores `If-None-Match`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.url = storage.url

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        await self._storage.write(key, data)

    async def read(self, key: str) -> bytes:
        return await self._storage.read(key)


async def test_a_store_without_conditional_puts_is_refused_at_the_start(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    forgetful: Any = Forgetful(storage)
    with pytest.raises(SettingError, match="only if absent"):
        await read_shards(forgetful)
    await storage.close()
