"""Loading again and deleting on demand while objects are moved, on the real engine."""

import asyncio
from typing import Any

import pytest

from spanyard_core.object_names import parse_key
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.operations import Forget, processed_key, scope_of_name
from spanyard_ingester.rebuild import Selection
from spanyard_ingester.stored_rows import Scope
from tests.contract.rebuilding import ALL, Acting, Chain, before_deleting, chain, user_line
from tests.fakes.objects import chunk

__all__ = ["chain"]

pytestmark = pytest.mark.engine


class TestRebuildWhileObjectsMove:
    """What is forgotten is found again, wherever it is by then."""

    async def test_what_was_just_committed_is_moved_first(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        await chain.committed(ingester)
        await chain.database.command("TRUNCATE TABLE logs SYNC")
        before_deleting(ingester, ingester.settler.run_once)
        await chain.rebuild(ingester)
        assert await chain.counts() == {**ALL, "m": 50}
        assert not ingester.ledger.state.reload

    async def test_what_another_ingester_committed_is_waited_for(self, chain: Chain) -> None:
        ingester, other = await chain.loaded(), chain.ingester("two")
        await other.start()
        await chain.committed(other)
        await chain.database.command("TRUNCATE TABLE logs SYNC")
        before_deleting(ingester, other.settler.run_once)

        async def settle_later() -> None:
            await asyncio.sleep(0.6)
            await other.settle_once()

        settling = asyncio.ensure_future(settle_later())
        await chain.rebuild(ingester)
        await settling
        assert await chain.counts() == {**ALL, "m": 50}

    async def test_what_was_committed_since_it_began_is_left_alone(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        wait = ingester.unsettled.wait

        async def wait_and_commit(keys: Any) -> None:
            await wait(keys)
            await chain.committed(ingester)

        ingester.unsettled.wait = wait_and_commit  # type: ignore[method-assign]
        before_deleting(ingester, ingester.settler.run_once)
        progress = await chain.rebuild(ingester)
        assert progress.rows_deleted == sum(ALL.values())
        assert await chain.counts() == {**ALL, "m": 50}

    @pytest.mark.parametrize("when", ["forgotten", "deleted"])
    async def test_an_object_on_its_way_to_be_settled(self, chain: Chain, when: str) -> None:
        """It was kept, the next ingester moves, and it is forgotten before it is moved."""
        await chain.loaded(after_load="keep")
        ingester = chain.ingester()
        await ingester.start()
        await chain.load(ingester)
        assert ingester.settler.waiting == 5
        assert ingester.rebuild is not None

        async def settle() -> None:
            await ingester.settler.run_once()
            assert [info.key async for info in chain.storage.list("processed/")] == []

        if when == "forgotten":
            before_deleting(ingester, settle)

        async def load() -> None:
            await ingester.settler.run_once()
            await ingester.drain()

        await ingester.rebuild.run(Selection(), load=load)
        assert await chain.counts() == ALL
        rows = await chain.database.rows("SELECT line FROM quarantine FINAL")
        assert [row["line"] for row in rows] == [10]

    async def test_an_object_that_was_moved_nevertheless(self, chain: Chain) -> None:
        """Somebody was about to move it when it was forgotten."""
        ingester = await chain.loaded(after_load="keep")
        keys = [info.key async for info in chain.storage.list("observability/")]

        async def move() -> None:
            for key in keys:
                await chain.storage.move(key, processed_key(key))

        before_deleting(ingester, move)
        await chain.rebuild(ingester)
        assert await chain.counts() == ALL

    async def test_one_that_is_fetched_back_is_never_its_last_copy(
        self, chain: Chain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a bucket a move is a copy and a DELETE, which may come when all is settled again."""
        ingester = await chain.loaded(after_load="keep")
        keys = [info.key async for info in chain.storage.list("observability/")]
        move, late = chain.storage.move, list[str]()

        async def move_all() -> None:
            for key in keys:
                await move(key, processed_key(key))

        async def copy(source: str, target: str) -> None:
            await chain.storage.write(target, await chain.storage.read(source))
            late.append(source)

        before_deleting(ingester, move_all)
        monkeypatch.setattr(chain.storage, "move", copy)
        await chain.rebuild(ingester)
        monkeypatch.undo()
        await ingester.settler.run_once()
        for key in late:
            await chain.storage.delete(key)
        assert await chain.counts() == ALL
        for key in keys:
            assert await chain.storage.exists(processed_key(key)), key

    async def test_an_object_that_moves_while_it_is_looked_for(self, chain: Chain) -> None:
        ingester = await chain.loaded(after_load="keep")
        assert ingester.rebuild is not None
        keys = [info.key async for info in chain.storage.list("observability/logs/team.zoo/")]

        async def move() -> None:
            for key in keys:
                await chain.storage.move(key, processed_key(key))

        ingester.rebuild._storage = Acting(chain.storage, "list", "processed/", move)
        progress = await chain.rebuild(ingester, Selection(project="team.zoo", signals=("logs",)))
        assert (progress.forgotten, progress.rows_deleted, progress.unreadable) == (1, 100, [])
        assert await chain.counts() == ALL

    async def test_a_crash_between_a_forget_and_the_move_of_its_object(self, chain: Chain) -> None:
        ingester = await chain.loaded()
        key = await chain.committed(ingester)
        name = parse_key(key)
        forget = Forget(
            id="f",
            table="logs",
            ranges={scope_of_name(name): [(1, 50)]},
            writers={scope_of_name(name): "m"},
            keys=[key],
            before=ingester.ledger.state.floor + 1,
        )
        await ingester.ledger.append(lambda _: [forget], subject="plan")
        again = chain.ingester()
        await again.start()
        again.pending.adopt(again.ledger.state.reload)
        await again.settler.run_once()
        assert again.pending.next_due is None, "it is looked at once, not twice"
        await again.drain()
        assert await chain.counts() == {**ALL, "m": 50}


class TestDelete:
    async def user(self, chain: Chain) -> tuple[Ingester, Scope]:
        """Two records in one object, committed and not moved; one of them is to go."""
        ingester = await chain.loaded()
        facts, data = chunk([user_line(1, "42"), user_line(2, "43")], writer="u", first=1, last=2)
        await chain.storage.write(facts.name.key(), data)
        await chain.load(ingester)
        assert facts.name.key() in ingester.ledger.state.digests
        return ingester, Scope("team.shop", attribute=("user", "42"))

    async def check(self, chain: Chain, ingester: Ingester) -> None:
        assert [info.key async for info in chain.storage.list("observability/")] == []
        await chain.rebuild(ingester)
        assert (await chain.counts())["u"] == 1, "a rebuild brings nothing back"
        rows = await chain.database.rows("SELECT reason FROM quarantine FINAL WHERE line = 0")
        assert rows == []

    @pytest.mark.parametrize("moment", ["list processed/", "read observability/"])
    async def test_an_object_that_is_moved_meanwhile(self, chain: Chain, moment: str) -> None:
        ingester, scope = await self.user(chain)
        eraser = chain.eraser(ingester)
        method, _, prefix = moment.partition(" ")
        eraser._storage = Acting(chain.storage, method, f"{prefix}logs/", ingester.settle_once)
        await eraser.run(scope)
        await ingester.drain()
        await self.check(chain, ingester)

    async def test_an_object_that_the_next_ingester_has_to_move(self, chain: Chain) -> None:
        """It compares the object with what was loaded: no other may lie there by then."""
        ingester, scope = await self.user(chain)
        await chain.eraser(ingester).run(scope)
        again = chain.ingester()
        await again.start()
        await again.drain()
        await self.check(chain, again)
