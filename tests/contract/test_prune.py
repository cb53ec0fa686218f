"""Retention by age, on the real engine: a source goes whole or stays, and the proof stays true."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from spanyard_core.clickhouse import Database
from spanyard_core.clock import SystemClock, rfc3339
from spanyard_core.errors import BadRecordError, DatabaseError
from spanyard_core.files import SystemFiles
from spanyard_core.records import AnyLine, GapLine, LogLine, ScoreLine
from spanyard_core.serve import serving
from spanyard_core.storage import Storage, open_storage
from spanyard_gateway.ingester_client import HttpIngesterClient, IngesterRefusedError
from spanyard_gateway.items import Proof
from spanyard_gateway.queries.proof import prove
from spanyard_gateway.reader import Reader
from spanyard_gateway.settings import GatewaySettings
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.prune import ClickHouseWriterRows, Pruner, PruneScope
from spanyard_ingester.server import make_app
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.stored_rows import ClickHouseRows
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.engine import migrated_database
from tests.fakes.gateway_api import chunk

pytestmark = pytest.mark.engine
PROJECT = "team.shop"
DAY = 86_400 * 10**9
T0 = 1_795_000_000 * 10**9
OLD, NEW = T0 - 40 * DAY, T0 - DAY
SCOPE = PruneScope(PROJECT, T0 - 30 * DAY)


def logs(writer: str, when: int, *, project: str = PROJECT, written: int | None = None) -> list[AnyLine]:  # fmt: skip
    return [
        LogLine(project=project, writer=writer, seq=n, level="info", message=f"{writer} {n}",
                timestamp=rfc3339(when if written is None else written), recorded_at=rfc3339(when))
        for n in range(1, 6)
    ]  # fmt: skip


def life(writer: str, when: int, *events: str, project: str = PROJECT) -> list[AnyLine]:
    return [
        GapLine(project=project, writer=f"{writer}/meta", seq=n, event=event, subject=writer,
                timestamp=rfc3339(when), recorded_at=rfc3339(when), after_seq=5 if event == "end" else 0,
                cause="truncated" if event == "gap" else "", lines=1 if event == "gap" else None)
        for n, event in enumerate(events, start=1)
    ]  # fmt: skip


class Chain:
    """One bucket, one database, an ingester on both."""

    def __init__(self, database: Database, storage: Storage, folder: Path, after: str) -> None:
        self.database, self.storage = database, storage
        self.ingester = Ingester(
            IngesterSettings(storage="-", clickhouse="-", temp_dir=str(folder), owner="one",
                             list_interval=0.1, after_load=after),
            storage, ClickHouseWarehouse(database), SystemFiles(), SystemClock(),
            random.Random(1), rows=ClickHouseRows(database),
        )  # fmt: skip

    async def load(self, *parts: Sequence[AnyLine]) -> None:
        for lines in parts:
            signal = {LogLine: "logs", GapLine: "gaps", ScoreLine: "scores"}[type(lines[0])]
            await self.storage.write(*chunk(signal, list(lines)))  # type: ignore[arg-type]  # one of them
        await self.ingester.start()
        await self.ingester.drain()
        await self.ingester.settler.run_once()

    def pruner(self, rows: ClickHouseWriterRows | None = None) -> Pruner:
        return Pruner(
            self.storage, self.ingester.ledger, rows or ClickHouseWriterRows(self.database),
            random.Random(7),
        )  # fmt: skip

    async def proof(self) -> Proof:
        settings = GatewaySettings(storage="file:///x", clickhouse="chdb:///x")
        return await prove(Reader(settings, self.database), self.storage, PROJECT)

    async def writers(self) -> set[str]:
        rows = await self.database.rows("SELECT DISTINCT writer FROM logs")
        return {row["writer"].partition(":")[0] for row in rows}

    async def keys(self) -> set[str]:
        return {
            info.key
            for root in ("observability", "processed", "quarantine")
            async for info in self.storage.list(f"{root}/")
        }


@pytest.fixture(params=["move", "keep"])
async def chain(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Chain]:
    storage = open_storage(f"file://{tmp_path}/bucket")
    async with migrated_database() as database:
        yield Chain(database, storage, tmp_path, request.param)
    await storage.close()


async def filled(chain: Chain) -> None:
    await chain.load(
        logs("old", OLD), life("old", OLD, "begin", "gap", "end"),
        logs("open", OLD), life("open", OLD, "begin"),
        logs("again", OLD), life("again", OLD, "begin", "end", "begin"),
        logs("new", NEW), life("new", NEW, "begin", "end"),
        # An application's clock was wrong: collected yesterday all the same.
        logs("clock", NEW, written=OLD), life("clock", NEW, "begin", "end"),
        logs("other", OLD, project="team.zoo"), life("other", OLD, "begin", "end", project="team.zoo"),
        [ScoreLine(project=PROJECT, writer="score", seq=1, name="s", value=1.0, timestamp=rfc3339(OLD),
                   recorded_at=rfc3339(OLD))],
    )  # fmt: skip


STAY = {"open", "again", "new", "clock", "other"}


async def test_what_is_old_and_ended_goes_whole_and_the_proof_of_the_rest_stays(
    chain: Chain,
) -> None:
    await filled(chain)
    before, keys = await chain.proof(), await chain.keys()
    assert before.totals["gaps"] == 1
    dry = await chain.pruner().run(SCOPE, dry_run=True)
    assert (dry.writers, dry.rows, dry.objects) == (1, {"logs": 5, "gaps": 3}, 2)
    assert (dry.running, dry.waiting) == (3, 0)  # open, again, and the score's that never said
    assert dry.size > 0
    assert (await chain.proof(), await chain.keys()) == (before, keys), "a dry run changes nothing"
    done = await chain.pruner().run(SCOPE)
    assert done == dry
    assert await chain.writers() == STAY
    assert len(await chain.keys()) == len(keys) - 2
    after = await chain.proof()
    assert after.writers == [w for w in before.writers if w.writer != "old"]
    assert (after.totals["missing"], after.totals["gaps"]) == (0, 0)
    nothing = await chain.pruner().run(SCOPE)
    assert (nothing.writers, nothing.rows, nothing.objects) == (0, {}, 0)


async def test_a_rebuild_does_not_bring_it_back(chain: Chain) -> None:
    await filled(chain)
    await chain.pruner().run(SCOPE)
    await chain.ingester.drain()
    assert await chain.writers() == STAY


async def test_what_is_not_loaded_yet_stays(chain: Chain) -> None:
    await filled(chain)
    late = logs("old", OLD)[:1]
    for line in late:
        line.seq = 6
    key, data = chunk("logs", late)
    await chain.storage.write(key, data)
    found = await chain.pruner().run(SCOPE)
    assert (found.writers, found.waiting) == (0, 1)
    assert await chain.writers() == STAY | {"old"}


async def test_only_the_signals_that_are_named(chain: Chain) -> None:
    await filled(chain)
    found = await chain.pruner().run(PruneScope(PROJECT, SCOPE.before_ns, ("scores",)))
    assert found.writers == 0
    with pytest.raises(BadRecordError, match="'gaps' cannot be pruned"):
        await chain.pruner().run(PruneScope(PROJECT, 1, ("gaps",)))


class Failing(ClickHouseWriterRows):
    """Deletes until it comes to one table."""

    table = ""

    async def delete(self, table: str, project: str, writers: Sequence[str]) -> None:
        if table == self.table:
            raise DatabaseError("it is away")
        await super().delete(table, project, writers)


@pytest.mark.parametrize("table", ["logs", "quarantine", "gaps"])
async def test_an_interrupted_one_is_finished_by_the_next(chain: Chain, table: str) -> None:
    await filled(chain)
    rows = Failing(chain.database)
    rows.table = table
    with pytest.raises(DatabaseError, match="away"):
        await chain.pruner(rows).run(SCOPE)
    await chain.pruner().run(SCOPE)
    assert await chain.writers() == STAY
    after = await chain.proof()
    assert "old" not in {w.writer for w in after.writers}
    assert (after.totals["missing"], after.totals["gaps"]) == (0, 0)


async def test_the_gateway_asks_a_distant_ingester(chain: Chain) -> None:
    await filled(chain)
    quarantine: Any = None  # of no use here
    app = make_app(chain.ingester, quarantine, token="of-the-ingester", pruner=chain.pruner())
    body = {"project": PROJECT, "before": str(SCOPE.before_ns), "signals": [], "dryRun": True}
    async with serving(app, "127.0.0.1", 0) as address, aiohttp.ClientSession() as session:
        with pytest.raises(IngesterRefusedError) as refused:
            await HttpIngesterClient(session, address.url).prune(body)
        assert refused.value.status == 401
        client = HttpIngesterClient(session, address.url, "of-the-ingester")
        found = await client.prune(body)
        assert (found["writers"], found["rows"], found["running"]) == (1, {"logs": 5, "gaps": 3}, 3)
        for wrong in ({"project": "x"}, {"before": "-1"}, {"before": "9" * 30}, {"signals": ["gaps"]}):  # fmt: skip
            with pytest.raises(IngesterRefusedError) as refused:
                await client.prune(body | wrong)
            assert refused.value.status == 400
        await client.prune(body | {"dryRun": False, "signals": ["logs"]})
    assert await chain.writers() == STAY
