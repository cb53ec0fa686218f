"""Pages of stored records, over the real engine: all of a writer, in order, whoever asks from where."""

import gc
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.errors import DatabaseError
from spanyard_gateway.live import shared
from spanyard_gateway.live.channels import Filter
from spanyard_gateway.live.records import LogRecord
from spanyard_gateway.live.stored import Stored, Target
from spanyard_gateway.queries import live
from spanyard_gateway.queries.live import ClickHouseStored
from spanyard_gateway.reader import Reader
from spanyard_gateway.settings import GatewaySettings
from tests.fakes.engine import engine_url
from tests.fakes.stored_batches import store_batches

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
RNG = random.Random(11)
WRITERS: dict[str, list[list[int]]] = {
    "whole": [[*range(1, 101)]],
    "in batches": [[*range(n, n + 5)] for n in range(1, 101, 5)],
    "a hole between batches": [[*range(1, 50)], [*range(70, 101)]],
    "a hole of which another batch tells": [[1, 2, 3, 90, 91], [*range(4, 60)], [*range(60, 90)]],
    "twice in two batches": [[*range(1, 31)], [*range(1, 31)]],
    "batches that overlap": [[*range(1, 21)], [*range(15, 41)], [*range(33, 60)]],
    "begins late": [[*range(57, 90)]],
    "a batch whose holes were filled one by one": [
        [n for n in range(1, 101) if n % 3], *([n] for n in range(3, 101, 3))
    ],
    "more across one place than are looked at": [[1, n, 60] for n in range(2, 60)],
    "a hole that more have than are looked at": [
        *([*range(1, 51), *range(61, 101)] for _ in range(20)), [*range(60, 71)]
    ],
    "one by one": [[n] for n in range(1, 61)],
} | {
    f"random {n}": [RNG.sample(range(1, 80), RNG.randrange(1, 50)) for _ in range(RNG.randrange(1, 4))]
    for n in range(10)
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def db() -> AsyncIterator[Database]:
    async with database(engine_url()) as db:
        await migrate(db)
        await store_batches(db, WRITERS)
        yield db


@pytest.fixture
def stored(db: Database) -> ClickHouseStored:
    settings = GatewaySettings(storage="file:///unused", clickhouse="chdb:///unused")
    return ClickHouseStored(Reader(settings, db))


async def _all_of(stored: Stored, writer: str, after: int, before: int | None) -> list[int]:
    """As a subscription reads it: page after page, each from where the last one ended."""
    found: list[int] = []
    while blocks := await stored.between(writer, "logs", after, before):
        seqs = [record.seq for block in blocks for record in block.records]
        assert seqs, "else it would be asked without end"
        assert seqs[0] > after, "and none comes twice"
        found, after = found + seqs, seqs[-1]
    return found


@pytest.mark.parametrize("page", [7, 2_000])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
async def test_pages_are_all_of_a_writer_in_order(
    stored: ClickHouseStored, monkeypatch: pytest.MonkeyPatch, page: int, together: bool
) -> None:
    monkeypatch.setattr(live, "PAGE", page)
    monkeypatch.setattr(shared, "STEP", 30)  # more than the batches that one question reads
    monkeypatch.setattr(shared, "PAGE", 60)
    monkeypatch.setattr(shared, "MUCH", 10)
    for writer, batches in WRITERS.items():
        asked: Stored = shared.SharedStored(stored) if together else stored
        there = sorted({seq for batch in batches for seq in batch})
        for after, before in (
            (0, None),
            (3, None),
            (0, 150),
            (25, 150),
            (18, 61),
            (33, 40),
            (99, None),
            (100, None),
        ):
            wanted = [seq for seq in there if after < seq < (before or 1_000)]
            assert await _all_of(asked, writer, after, before) == wanted, (writer, after, before)


async def test_what_is_read_is_what_was_stored(
    stored: ClickHouseStored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SLICE_BYTES", 100)
    [block] = await stored.between("whole", "logs", 0, 8)
    [*records] = block.records
    assert all(isinstance(record, LogRecord) for record in records)
    assert [(r.message, bytes(r.attributes), r.marks) for r in records if isinstance(r, LogRecord)] == [
        (f'é "/\\\n\x07\ufffd {n}', b"" if n % 2 else b'{"a":[1,"\xc3\xa9"]}', () if n % 3 else ("split",))
        for n in range(1, 8)
    ]  # fmt: skip
    assert not any(gc.is_tracked(record) for record in records), (
        "a hundred listeners' pages are nothing that the garbage collector looks through"
    )
    rows = await stored.newest(Target("local", "a"), ("logs",), Filter(), 9, {"whole": 4})
    assert len(rows) == 9
    assert all(row.record.seq < 4 for row in rows if row.writer == "whole")


async def test_an_answer_that_is_cut_short_is_an_error_and_no_end(stored: ClickHouseStored) -> None:
    whole = stored._reader.lines

    async def cut(*args: object) -> bytes:
        return (await whole(*args))[:-20]  # type: ignore[arg-type]

    stored._reader.lines = cut  # type: ignore[method-assign]
    with pytest.raises(DatabaseError, match="not what was asked for"):
        await stored.between("whole", "logs", 0, None)
