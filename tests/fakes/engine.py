"""The embedded ClickHouse for tests: one folder per test process, and databases in it.

The engine opens one folder per process; so a test that wants a ClickHouse asks for a database in
the common folder, fresh by `engine_url()`, or migrated and emptied by `migrated_database()`.
"""

import atexit
import itertools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import chdb

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate

_numbers = itertools.count(1)


_beginning = threading.Lock()


def engine_folder() -> Path:
    """The folder of this process's engine; gone when the process ends."""
    with _beginning:  # a server's first requests come side by side, and all mean one folder
        return _engine_folder()


@cache
def _engine_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="spanyard-engine-"))
    # Kept open, so that the engine (0.4 s) doesn't start anew for each test.
    engine = chdb.connect(str(folder))  # type: ignore[no-untyped-call]

    def end() -> None:
        engine.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder


def engine_url() -> str:
    """The URL of a database that nobody else uses (`create_database` or `migrate` makes it)."""
    return f"chdb://{engine_folder()}?database=test_{next(_numbers)}"


def migrated_url() -> str:
    """The URL of the database that `migrated_database` gives out."""
    return f"chdb://{engine_folder()}?database=migrated"


@asynccontextmanager
async def migrated_database(*, pool: int = 3) -> AsyncIterator[Database]:
    """A migrated database with empty tables: one and the same for all, so one at a time."""
    async with database(migrated_url(), pool=pool) as db:
        await migrate(db)
        filled = await db.rows(
            "SELECT name FROM system.tables WHERE database = currentDatabase()"
            " AND engine LIKE '%MergeTree' AND name != 'schema_versions' AND total_rows != 0"
        )
        for row in filled:
            await db.command(f"TRUNCATE TABLE {row['name']} SYNC")
        yield db
