"""The ledger over time: snapshots take the place of entries, and nothing of the state is lost."""

import time

import pytest

from spanyard_core.object_names import ledger_key
from spanyard_ingester.compaction import KEEP_ENTRIES, Compactor, prune
from spanyard_ingester.ledger import STALE_AFTER, Ledger
from spanyard_ingester.ledger_state import LedgerBrokenError, LedgerState
from spanyard_ingester.operations import (
    Abandon,
    Bad,
    BadLine,
    Commit,
    Done,
    Forget,
    Operation,
    Reject,
    Replay,
    scope_of,
)
from spanyard_ingester.snapshots import decode_snapshot, encode_snapshot, snapshot_key
from tests.unit.ingester.bench import Bench, JumpingClock
from tests.unit.ingester.ledgers import Losing, ledger, note, plan


@pytest.fixture
async def storage(bench: Bench) -> Losing:
    return Losing(bench.storage)


class TestCompaction:
    async def filled(self, storage: Losing, clock: JumpingClock, entries: int = 5) -> Ledger:
        one = ledger(storage, clock=clock)
        await one.load()
        for _ in range(entries):
            await one.append(lambda state: note(), subject="a")
        return one

    def compactor(self, storage: Losing, one: Ledger, clock: JumpingClock) -> Compactor:
        return Compactor(storage, one, clock, every=5, dead_for=100)  # type: ignore[arg-type]

    async def test_a_start_needs_only_the_snapshot_and_what_follows(self, storage: Losing) -> None:
        clock = JumpingClock()
        one = await self.filled(storage, clock)
        compactor = self.compactor(storage, one, clock)
        assert compactor.is_due
        await compactor.run_once()
        assert not compactor.is_due
        await one.append(lambda state: [plan(9)], subject="plan")
        for n in range(1, 6):
            await storage.inner.delete(ledger_key(0, n))
        two = ledger(storage)
        await two.load()
        assert (two.state.n, list(two.state.open), two.snapshot_n) == (6, [9], 5)

    async def test_entries_go_only_when_old_and_behind_the_older_snapshot(
        self, storage: Losing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The files' times are real ones.
        clock = JumpingClock()
        clock.now += (time.time_ns() - clock.time_ns()) / 1e9
        one = await self.filled(storage, clock)
        compactor = self.compactor(storage, one, clock)
        await compactor.run_once()
        for _ in range(5):
            await one.append(lambda state: note(), subject="a")
        await compactor.run_once()
        assert await self.numbers(storage) == list(range(1, 11)), "young entries stay"
        clock.now += (time.time_ns() - clock.time_ns()) / 1e9 + KEEP_ENTRIES + 60
        for _ in range(5):
            await one.append(lambda state: note(), subject="a")
        await compactor.run_once()
        # 15 is the newest snapshot, 10 the older one; entries of the last hour are the clock's.
        assert await self.numbers(storage) == list(range(11, 16))
        snapshots = [info.key async for info in storage.inner.list("ledger/0/snapshot-")]
        assert snapshots == [snapshot_key(0, 10), snapshot_key(0, 15)]

    async def numbers(self, storage: Losing) -> list[int]:
        keys = [info.key async for info in storage.inner.list("ledger/0/0")]
        return [int(key[-17:-5]) for key in keys]

    async def test_a_sleeper_never_fills_a_hole(self, storage: Losing) -> None:
        """One that was asleep while its next number was written and compacted away must not
        believe that it won that number."""
        clock = JumpingClock()
        sleeper = ledger(storage, "sleeper", clock=clock)
        await sleeper.load()
        one = await self.filled(storage, clock)
        await self.compactor(storage, one, clock).run_once()
        await one.append(lambda state: [plan(1)], subject="plan")
        for n in range(1, 6):
            await storage.inner.delete(ledger_key(0, n))
        clock.now += STALE_AFTER + 1
        seen: list[int] = []

        def build(state: LedgerState) -> list[Operation]:
            seen.append(state.n)
            return [] if state.open else [plan(2)]

        await sleeper.append(build, subject="plan")
        assert seen == [6]
        assert not await storage.inner.exists(ledger_key(0, 1))

    async def test_a_put_that_took_ages_is_not_believed(self, storage: Losing) -> None:
        clock = JumpingClock()
        sleeper = ledger(storage, "sleeper", clock=clock)
        await sleeper.load()
        one = await self.filled(storage, clock)
        await self.compactor(storage, one, clock).run_once()
        await one.append(lambda state: [plan(1)], subject="plan")
        for n in range(1, 6):
            await storage.inner.delete(ledger_key(0, n))
        write = storage.write

        async def slow(key: str, data: bytes, *, if_absent: bool = False) -> None:
            clock.now += STALE_AFTER + 1
            storage.write = write  # type: ignore[method-assign]
            await write(key, data, if_absent=if_absent)

        storage.write = slow  # type: ignore[method-assign]
        sleeper._fresh_at = sleeper._now()
        await sleeper.append(lambda s: [] if s.open else [plan(2)], subject="plan")
        assert list(sleeper.state.open) == [1]

    async def test_a_damaged_snapshot_is_passed_over(self, storage: Losing) -> None:
        clock = JumpingClock()
        one = await self.filled(storage, clock)
        await self.compactor(storage, one, clock).run_once()
        data = await storage.inner.read(snapshot_key(0, 5))
        await storage.inner.write(snapshot_key(0, 5), data.replace(b'"n":5', b'"n":4'))
        assert (await ledger(storage).load()).n == 5

    async def test_two_damaged_snapshots_are_an_error_that_says_what_to_do(
        self, storage: Losing
    ) -> None:
        clock = JumpingClock()
        one = await self.filled(storage, clock)
        await self.compactor(storage, one, clock).run_once()
        await storage.inner.write(snapshot_key(0, 5), b"{}")
        await storage.inner.delete(ledger_key(0, 1))
        with pytest.raises(LedgerBrokenError, match="entry 1 is missing before 2"):
            await ledger(storage).load()

    async def test_a_missing_entry_is_an_error_that_says_which(self, storage: Losing) -> None:
        await self.filled(storage, JumpingClock())
        await storage.inner.delete(ledger_key(0, 1))
        with pytest.raises(LedgerBrokenError, match="entry 1 is missing before 2"):
            await ledger(storage).load()

    async def test_something_else_in_the_log_is_an_error_that_names_it(
        self, storage: Losing
    ) -> None:
        await storage.inner.write(ledger_key(0, 1), b"hello")
        with pytest.raises(LedgerBrokenError, match="000000000001"):
            await ledger(storage).load()


def test_a_snapshot_holds_all_of_the_state() -> None:
    state = LedgerState()
    bad = BadLine(id="b1", line=3, offset=9, size=4, reason="r", seq=23)
    operations: list[Operation] = [
        plan(1, 1, 10),
        plan(2, 11, 20, writer="v"),
        plan(3, 21, 30),
        Commit(attempt=1),
        Abandon(attempt=2, reason="x"),
        Bad(key="observability/logs/a.b/k", signal="logs", project="a.b", writer="w", lines=[bad]),
        Reject(
            id="r1",
            key="observability/logs/a.b/q",
            signal="logs",
            project="a.b",
            size=1,
            reason="y",
        ),
        Replay(id="z", key="k"),
        Done(attempt=4, table="logs", objects=plan(4, 1, 0, writer="plain").objects),
        Forget(
            id="f",
            table="logs",
            ranges={scope_of("logs", "a.b", "50e721e49c013f00c62c"): [(2, 3)]},
            writers={},
            keys=["processed/logs/a.b/k"],
            before=9,
        ),
    ]
    from spanyard_ingester.operations import Entry

    for n, operation in enumerate(operations, 1):
        state.apply(
            Entry(
                shard=0,
                n=n,
                owner="o",
                instance="i",
                nonce="x",
                time="2026",
                operations=[operation],
            )
        )
    again = decode_snapshot(encode_snapshot(state))
    assert again == state
    assert again.handled.keys() == state.handled.keys()
    assert not again.is_handled(scope_of("logs", "a.b", "50e721e49c013f00c62c"), 1, 10)
    assert again.floor == 9
    assert again.is_busy(scope_of("logs", "a.b", "50e721e49c013f00c62c"), 3, 3)


def test_attempts_given_up_long_ago_are_forgotten() -> None:
    from spanyard_ingester.ledger_state import Dead

    state = LedgerState()
    state.dead = {
        1: Dead("logs", "2026-11-01", "2026-11-01T00:00:00.000000000Z"),
        2: Dead("logs", "2026-11-20", "2026-11-20T00:00:00.000000000Z"),
    }
    prune(state, before="2026-11-10T00:00:00.000000000Z")
    assert list(state.dead) == [2]
