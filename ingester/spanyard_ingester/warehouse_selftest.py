"""The self-test at start: what the ingester relies on, tried on a scratch table of this engine.

A ClickHouse that behaves otherwise (an upgrade, a setting, a proxy that buffers) is said before a
single object is touched.
"""

import tempfile
import uuid
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zstandard

from spanyard_core.clickhouse import Database
from spanyard_core.clickhouse.hashes import city_hash64_sum
from spanyard_core.clickhouse.lines import LOGS
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from spanyard_core.records import LogLine

if TYPE_CHECKING:
    from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse

_DAY = date(2026, 11, 21)
_FILES = 3
_LINES = 200


async def run(database: Database, warehouse: "ClickHouseWarehouse") -> None:
    """Raises DatabaseError with every fact that doesn't hold; leaves nothing behind."""
    table = f"self_test_{uuid.uuid4().hex}"
    await database.command(f"CREATE TABLE {table} AS logs")
    try:
        with tempfile.TemporaryDirectory(prefix="spanyard-self-test-") as folder:
            wrong = await _findings(database, warehouse, table, Path(folder))
    finally:
        await database.command(f"DROP TABLE {table} SYNC")
    if wrong:
        raise DatabaseError(
            f"{database.url} (ClickHouse {database.version}) does not do what exactly-once rests "
            f"on: {'; '.join(wrong)}. Nothing was loaded. Use a version this release was tried "
            "on, or report this"
        )


async def _findings(
    database: Database, warehouse: "ClickHouseWarehouse", table: str, folder: Path
) -> list[str]:
    wrong = []
    good = [
        _write(folder / f"{n}.jsonl.zst", (_line(n * _LINES + i) for i in range(1, _LINES + 1)))
        for n in range(_FILES)
    ]
    await warehouse.insert_into(table, LOGS, 1, _DAY, good)
    await warehouse.insert_into(table, LOGS, 2, _DAY, good[:1])
    rows = await database.rows(
        "SELECT count() AS parts FROM system.parts WHERE database = currentDatabase()"
        " AND table = {table:String} AND level = 0",
        {"table": table},
    )
    if int(rows[0]["parts"]) > 2:  # active or already merged away: at most one per batch
        wrong.append(f"a batch became {rows[0]['parts']} parts instead of one")
    last = _FILES * _LINES
    sums = await warehouse.read_back_from(table, 1, _DAY)
    expected = (last, 1, last, last * (last + 1) // 2, city_hash64_sum([(1, last)]))
    found = sums.get("self-test")
    if found is None or expected != (
        found.count,
        found.min_seq,
        found.max_seq,
        found.seq_sum,
        found.hash_sum,
    ):
        wrong.append(f"reading back gave {found} instead of {expected}")
    for what, line in _BAD.items():
        path = _write(folder / "bad.jsonl.zst", [_line(1), line, _line(3)])
        try:
            await warehouse.insert_into(table, LOGS, 3, _DAY, [path])
        except DatabaseUnavailableError:
            raise
        except DatabaseError:
            pass
        else:
            wrong.append(f"{what} was accepted")
    if await warehouse.read_back_from(table, 3, _DAY):
        wrong.append("a refused batch left rows behind")
    await warehouse.delete_attempt_from(table, 1, _DAY)
    left = await warehouse.read_back_from(table, 2, _DAY)
    if not left or left["self-test"].count != _LINES:
        wrong.append("deleting one attempt touched another")
    return wrong


def _line(seq: int) -> bytes:
    return msgspec.json.encode(
        LogLine(
            project="self.test",
            writer="self-test",
            seq=seq,
            timestamp="2026-11-21T14:45:00.123456789Z",
            level="info",
            message="a line of the self-test",
        )
    )


_BAD = {
    "a seq beyond 64 bits": _line(1).replace(b'"seq":1', b'"seq":18446744073709551617'),
    "a line without a writer": _line(1).replace(b'"writer":"self-test",', b""),
    "an unknown field": _line(1).replace(b'"seq":1', b'"seq":1,"colour":"red"'),
    "the year 9999": _line(1).replace(b"2026-11-21T", b"9999-11-21T"),
    "an unknown level": _line(1).replace(b'"info"', b'"loud"'),
}


def _write(path: Path, lines: Iterable[bytes]) -> Path:
    path.write_bytes(zstandard.compress(b"".join(line + b"\n" for line in lines), 1))
    return path
