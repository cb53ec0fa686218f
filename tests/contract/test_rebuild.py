"""Loading again and deleting on demand, on the real engine."""

import asyncio
import random
from typing import Any

import pytest

from spanyard_ingester.ingester import Ingester
from spanyard_ingester.jobs import Jobs
from spanyard_ingester.rebuild import Rebuild, Selection
from spanyard_ingester.stored_rows import ClickHouseRows, Scope
from tests.contract.rebuilding import ALL, Chain, chain, user_line
from tests.fakes.objects import chunk, log_chunk

__all__ = ["chain"]

pytestmark = pytest.mark.engine


class TestRebuild:
    @pytest.mark.parametrize("after_load", ["move", "keep"])
    async def test_a_lost_database_comes_back_from_the_bucket(
        self, chain: Chain, after_load: str
    ) -> None:
        ingester = await chain.loaded(after_load=after_load)
        for table in ("logs", "quarantine", "ledger", "trace_index"):
            await chain.database.command(f"TRUNCATE TABLE {table} SYNC")
        progress = await chain.rebuild(ingester)
        assert await chain.counts() == ALL
        assert (progress.found, progress.forgotten, progress.rows_deleted) == (5, 5, 0)
        rows = await chain.database.rows("SELECT line FROM quarantine FINAL")
        assert [row["line"] for row in rows] == [10]

    async def test_what_is_there_is_replaced_and_nothing_is_twice(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        for _ in range(2):
            progress = await chain.rebuild(ingester)
            assert progress.rows_deleted == sum(ALL.values())
            assert await chain.counts() == ALL
        assert not ingester.ledger.state.reload
        assert not ingester.ledger.state.busy

    async def test_a_project_or_a_time_range_leaves_the_rest_alone(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        progress = await chain.rebuild(ingester, Selection(project="team.zoo"))
        assert (progress.found, progress.rows_deleted) == (1, 100)
        progress = await chain.rebuild(ingester, Selection(start="20270101T000000Z"))
        assert progress.found == 1, "only the plain object, which has no time"
        assert await chain.counts() == ALL

    async def test_a_dry_run_changes_nothing(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        n = ingester.ledger.state.n
        progress = await chain.rebuild(ingester, dry_run=True)
        assert (progress.found, progress.forgotten) == (5, 0)
        assert ingester.ledger.state.n == n

    @pytest.mark.parametrize("when", ["forgotten", "deleted", "told"])
    async def test_a_crash_in_it_is_finished_at_the_next_start(
        self, chain: Chain, when: str
    ) -> None:
        ingester = await chain.loaded()
        rebuild = ingester.rebuild
        assert rebuild is not None

        class CrashError(Exception):
            pass

        async def crash(*_: object) -> None:
            raise CrashError

        if when == "forgotten":
            rebuild._finish = crash  # type: ignore[method-assign, assignment]
        elif when == "deleted":
            append = ingester.ledger.append

            async def die(build: Any, *, subject: str) -> None:
                if subject.startswith("forget"):
                    raise CrashError
                await append(build, subject=subject)

            ingester.ledger.append = die  # type: ignore[method-assign]
        with pytest.raises(CrashError):
            await rebuild.run(Selection(), load=crash)
        again = chain.ingester()
        await again.start()
        await again.drain()
        assert await chain.counts() == ALL

    async def test_a_deletion_that_runs_late_takes_nothing_of_what_was_loaded_again(
        self, chain: Chain
    ) -> None:
        """Two ingesters finish the same forget; the slower one deletes after the other's load."""
        ingester = await chain.loaded()
        rebuild = ingester.rebuild
        assert rebuild is not None
        finish = rebuild._finish
        forgets = []

        async def note(forget: Any) -> int:
            forgets.append(forget)
            return await finish(forget)

        rebuild._finish = note  # type: ignore[method-assign]
        await rebuild.run(Selection(), load=ingester.drain)
        assert await chain.counts() == ALL
        slow = Rebuild(
            chain.storage,
            ingester.ledger,
            ClickHouseRows(chain.database),
            random.Random(3),
            ingester.unsettled,
        )
        for forget in forgets:
            assert await slow._finish(forget) == 0
        assert await chain.counts() == ALL

    async def test_while_the_ingester_runs(self, chain: Chain) -> None:
        await chain.loaded()
        ingester = chain.ingester()
        stop = asyncio.Event()
        running = asyncio.ensure_future(ingester.run(stop))
        while not ingester.started:
            await asyncio.sleep(0.01)
        assert ingester.rebuild is not None
        jobs = Jobs(ingester, ingester.rebuild)
        assert jobs.begin(Selection(), dry_run=False)
        assert not jobs.begin(Selection(), dry_run=False), "one at a time"
        for number in range(5):
            await chain.storage.write(*log_chunk(f"new{number}", 1, 10))
            await asyncio.sleep(0.1)
        assert jobs.progress is not None
        async with asyncio.timeout(60):
            while not jobs.progress.finished or ingester.loader.counts.rows < 50 + 301:
                assert not jobs.progress.error
                await asyncio.sleep(0.05)
        stop.set()
        await running
        await jobs.stop()
        assert await chain.counts() == {**ALL, **{f"new{n}": 10 for n in range(5)}}


class TestDelete:
    async def users(self, chain: Chain) -> Ingester:
        ingester = await chain.loaded()
        lines = [user_line(1, "42", "t1"), user_line(2, "43", "t1"), user_line(3, "42", "t2")]
        lines.append(b'{"type":"log","attributes":{"user":"42"},\n')
        facts, data = chunk(lines, writer="u", first=1, last=4)
        await chain.storage.write(facts.name.key(), data)
        only, more = chunk([user_line(5, "42", "t3")], writer="u", first=5, last=5)
        await chain.storage.write(only.name.key(), more)
        await ingester.drain()
        assert (await chain.counts())["u"] == 4
        return ingester

    async def test_a_project_goes_whole_and_the_others_stay(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        eraser = chain.eraser(ingester)
        dry = await eraser.run(Scope("team.shop"), dry_run=True)
        assert (dry.rows, dry.objects) == ({"logs": 201, "quarantine": 1}, 4)
        assert await chain.counts() == ALL
        done = await eraser.run(Scope("team.shop"))
        assert (done.rows, done.objects) == (dry.rows, dry.objects)
        assert await chain.counts() == {"z": 100}
        left = [info.key async for info in chain.storage.list("")]
        assert not any("team.shop" in key for key in left)
        [row] = await chain.database.rows("SELECT count() AS n FROM quarantine FINAL")
        assert row["n"] == 0
        await chain.rebuild(ingester)
        assert await chain.counts() == {"z": 100}, "a rebuild brings nothing back"

    async def test_a_users_records_go_and_do_not_come_back(self, chain: Chain) -> None:
        ingester = await self.users(chain)
        eraser = chain.eraser(ingester)
        scope = Scope("team.shop", attribute=("user", "42"))
        dry = await eraser.run(scope, dry_run=True)
        assert dry.rows == {"logs": 4, "quarantine": 1}
        assert (dry.rewritten, dry.objects, dry.pending) == (2, 1, 0)
        done = await eraser.run(scope)
        assert (done.rewritten, done.objects) == (2, 1)
        assert (await chain.counts())["u"] == 1
        await chain.rebuild(ingester)
        counts = await chain.counts()
        assert (counts["u"], counts["plain"], counts["w"]) == (1, 1, 99)
        [row] = await chain.database.rows("SELECT count() AS n FROM quarantine FINAL")
        assert row["n"] == 1, "the other bad line"

    async def test_a_trace(self, chain: Chain) -> None:
        ingester = await self.users(chain)
        done = await chain.eraser(ingester).run(Scope("team.shop", trace="t1"))
        assert (done.rows, done.rewritten) == ({"logs": 2}, 1)
        assert (await chain.counts())["u"] == 2
        await chain.rebuild(ingester)
        assert (await chain.counts())["u"] == 2
        assert (await chain.eraser(ingester).run(Scope("team.shop", trace="t1"))).rows == {}
