"""Migrations: applied once, whole after any crash, and refused where versions don't fit."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import (
    MINIMUM_VERSION,
    Layout,
    Migration,
    check_version,
    migrate,
    migrations,
)
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError
from tests.fakes.engine import engine_url

pytestmark = pytest.mark.engine


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with database(engine_url(), pool=1) as opened:
        yield opened
        await opened.create_database()
        await opened.command(f"DROP DATABASE `{opened.database}`")


async def shape(db: Database) -> list[dict[str, Any]]:
    """Everything in the database but its history."""
    return await db.rows(
        "SELECT name, create_table_query FROM system.tables"
        " WHERE database = currentDatabase() AND name != 'schema_versions' ORDER BY name"
    )


async def history(db: Database) -> list[int]:
    rows = await db.rows("SELECT version FROM schema_versions ORDER BY version")
    return [int(row["version"]) for row in rows]


class CrashError(Exception):
    """The process ends here."""


class CrashingDatabase:
    """Carries out so many statements, then crashes before or after the next."""

    def __init__(self, database: Database, left: int, *, after: bool) -> None:
        self._database = database
        self._left = left
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def _step(self, call: Any) -> None:
        self._left -= 1
        if self._left < 0 and not self._after:
            call.close()
            raise CrashError
        await call
        if self._left < 0:
            raise CrashError

    async def command(self, sql: str, params: Mapping[str, Any] | None = None) -> None:
        await self._step(self._database.command(sql, params))

    async def insert(self, *arguments: Any) -> None:
        await self._step(self._database.insert(*arguments))


STEPS = (
    Migration(1, "one", "CREATE TABLE IF NOT EXISTS a (n UInt8)\nENGINE = MergeTree ORDER BY n;\n"
              "CREATE OR REPLACE VIEW v AS SELECT n FROM a;\n"),
    Migration(2, "two", "-- a comment; with a semicolon\n"
              "ALTER TABLE a ADD COLUMN IF NOT EXISTS s String DEFAULT ';';\n"
              "CREATE OR REPLACE VIEW v AS SELECT n, s FROM a;"),
)  # fmt: skip


async def test_a_new_database_gets_everything_and_a_second_time_changes_nothing(
    db: Database,
) -> None:
    wanted = len(migrations())
    assert await migrate(db) == wanted
    before = await shape(db)
    assert await migrate(db) == wanted
    assert await shape(db) == before
    assert await history(db) == list(range(1, wanted + 1))
    assert await check_version(db) == wanted
    tables = {row["name"] for row in before}
    assert tables >= {
        "traces", "spans", "logs", "metrics", "scores", "gaps", "quarantine", "ledger",
        "trace_index", "metric_points", "metric_histograms", "open_spans", "otel_logs",
        "otel_traces", "otel_traces_trace_id_ts", "otel_metrics_gauge", "otel_metrics_sum",
        "otel_metrics_histogram",
    }  # fmt: skip


async def test_every_statement_of_ours_may_run_again(db: Database) -> None:
    await migrate(db)
    before = await shape(db)
    for step in migrations():
        for statement in step.statements(Layout()):
            await db.command(statement)
    assert await shape(db) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("statements", range(7))
async def test_a_crash_anywhere_is_mended_by_the_next_start(
    db: Database, statements: int, after: bool
) -> None:
    crashing: Any = CrashingDatabase(db, statements, after=after)
    with pytest.raises(CrashError):
        await migrate(crashing, steps=STEPS)
    assert await migrate(db, steps=STEPS) == 2
    assert await history(db) == [1, 2]
    await db.command("INSERT INTO a (n) VALUES (1)")
    assert await db.rows("SELECT * FROM v") == [{"n": 1, "s": ";"}]


async def test_later_migrations_follow_earlier_ones(db: Database) -> None:
    await migrate(db, steps=STEPS[:1])
    await db.command("INSERT INTO a VALUES (1)")
    await migrate(db, steps=STEPS)
    assert await db.rows("SELECT * FROM v") == [{"n": 1, "s": ";"}]


async def test_a_changed_migration_is_refused(db: Database) -> None:
    await migrate(db, steps=STEPS)
    changed = Migration(1, "one", STEPS[0].text.replace("UInt8", "UInt16"))
    with pytest.raises(DatabaseError, match="another text"):
        await migrate(db, steps=[changed, STEPS[1]])


async def test_a_database_of_a_newer_version_is_refused(db: Database) -> None:
    await migrate(db)
    newer = len(migrations()) + 1
    await db.insert("schema_versions", ["version", "name", "sha256"], [(newer, "later", "x")])
    for call in (migrate, check_version):
        with pytest.raises(DatabaseError, match="knows only up") as refused:
            await call(db)
        assert not isinstance(refused.value, DatabaseUnavailableError)


async def test_who_does_not_migrate_is_told_to_wait(db: Database) -> None:
    with pytest.raises(DatabaseUnavailableError, match="start the ingester"):
        await check_version(db)
    await migrate(db, steps=migrations()[:1])
    with pytest.raises(DatabaseUnavailableError, match="start the ingester"):
        await check_version(db)


async def test_an_engine_that_is_too_old_is_refused(db: Database) -> None:
    db.version = f"{MINIMUM_VERSION[0]}.{MINIMUM_VERSION[1] - 1}.3.1"
    for call in (migrate, check_version):
        with pytest.raises(DatabaseError, match="Upgrade the server"):
            await call(db)


def test_a_cluster_layout_reaches_every_table() -> None:
    layout = Layout(replicated="Replicated", on_cluster="ON CLUSTER main")
    for step in migrations():
        for statement in step.statements(layout):
            assert "ON CLUSTER main" in statement
            if statement.startswith("CREATE TABLE"):
                assert "ENGINE = Replicated" in statement
