"""The schema: migrations in numbered files, each applied once, and the versions that fit together.

A migration is a file `migrations/{number}_{name}.sql` of statements, each of which may run again;
so a crash in between costs nothing: the next start runs the whole file and then notes it. Only the
ingester migrates; the gateway waits by `check_version`.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from string import Template
from typing import Any

from spanyard_core.clickhouse.database import Database
from spanyard_core.errors import DatabaseError, DatabaseUnavailableError

log = logging.getLogger(__name__)

MINIMUM_VERSION = (26, 7)
"""Oldest engine on which the contract tests pass: 26.3 lacks a setting that inserts rely on, 26.5
hung in them, 26.7 and 26.9 pass."""

SIGNAL_SETTINGS = {
    # Objects may be deleted after loading, so an insert must survive a power cut: 3 ms for
    # 10,000 rows, 13 ms for 150,000. Merged files are synced only with the third.
    "fsync_after_insert": 1,
    "fsync_part_directory": 1,
    "min_rows_to_fsync_after_merge": 1,
    # Else DELETE of a batch is refused because of the projection by_batch.
    "lightweight_mutation_projection_mode": "'rebuild'",
}
"""Settings of every signal's table."""

OPTIONAL_SETTINGS = {
    # The default of 1 GiB let merges of 2 million log lines take 280 MB, this takes 100. 26.9 has
    # it, 26.7 has not.
    "text_index_max_memory_usage_before_flush": 32 * 1024 * 1024,
}
"""Further ones, where the engine knows them."""

_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_versions $on_cluster (
    version UInt32, name String, sha256 String, applied_at DateTime DEFAULT now()
) ENGINE = ${replicated}ReplacingMergeTree(applied_at) ORDER BY version
"""


@dataclass(frozen=True)
class Layout:
    """How tables are laid out over servers. One server is the default, and all that was tried."""

    replicated: str = ""
    """`Replicated` before the engines' names, on a server that gives them paths by default."""
    on_cluster: str = ""
    """`ON CLUSTER name` after the tables' names."""
    signal_settings: Mapping[str, Any] = field(default_factory=lambda: SIGNAL_SETTINGS)

    def render(self, text: str) -> str:
        settings = ", ".join(f"{name} = {value}" for name, value in self.signal_settings.items())
        return Template(text).substitute(
            replicated=self.replicated, on_cluster=self.on_cluster, signal_settings=settings
        )


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, layout: Layout) -> list[str]:
        """Its statements without comments, in order. A statement ends with `;` at a line's end."""
        plain = re.sub(r"^\s*--.*\n", "", self.text, flags=re.MULTILINE)
        pieces = re.split(r";[ \t]*(?:\n|$)", layout.render(plain))
        return [piece.strip() for piece in pieces if piece.strip()]


def migrations() -> tuple[Migration, ...]:
    """All migrations in order. Their numbers have no holes."""
    folder = resources.files("spanyard_core.clickhouse").joinpath("migrations")
    found = [
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    ]
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise AssertionError("migrations must be numbered 1, 2, 3, … without holes")
    return tuple(found)


async def migrate(
    database: Database,
    layout: Layout | None = None,
    steps: Sequence[Migration] | None = None,
) -> int:
    """Bring the database to this code's version; returns that. Safe to run again, and by two.

    Creates the database itself if needed. Raises DatabaseError for an engine that is too old, for
    a database that a newer Spanyard has migrated, and for a migration whose text has changed.
    """
    steps = migrations() if steps is None else steps
    check_engine(database)
    await database.create_database()
    layout = await _with_optional_settings(database, layout or Layout())
    await database.command(layout.render(_HISTORY))
    done = await _history(database)
    _refuse_newer(database, max(done, default=0), len(steps))
    for step in steps:
        if step.version in done:
            if done[step.version] != step.sha256:
                raise DatabaseError(
                    f"{database.url}: migration {step.version} ({step.name}) was applied with "
                    "another text than this version carries. Released migrations never change; "
                    "if this is a development database, drop it and start again"
                )
            continue
        for statement in step.statements(layout):
            await database.command(statement)
        await database.insert(
            "schema_versions",
            ["version", "name", "sha256"],
            [(step.version, step.name, step.sha256)],
        )
        log.info("migrated %s to version %d (%s)", database.url, step.version, step.name)
    return len(steps)


async def check_version(database: Database) -> int:
    """The schema's version, if it's the one that this code knows.

    Raises DatabaseUnavailableError while the ingester has still to migrate (wait and ask again),
    DatabaseError for an engine that is too old or a schema that is newer than this code.
    """
    check_engine(database)
    wanted = len(migrations())
    try:
        done = await _history(database)
    except DatabaseUnavailableError:
        raise
    except DatabaseError as error:
        if error.code not in {60, 81}:  # UNKNOWN_TABLE, UNKNOWN_DATABASE
            raise
        done = {}
    current = max(done, default=0)
    _refuse_newer(database, current, wanted)
    if current < wanted:
        raise DatabaseUnavailableError(
            f"{database.url} has schema version {current}, this version needs {wanted}: "
            "start the ingester, it migrates"
        )
    return current


def check_engine(database: Database) -> None:
    """Refuse an engine that is too old."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", database.version)[:2])
    if numbers < MINIMUM_VERSION:
        wanted = ".".join(str(n) for n in MINIMUM_VERSION)
        raise DatabaseError(
            f"{database.url} runs ClickHouse {database.version}; Spanyard needs {wanted} or newer. "
            "Upgrade the server"
        )


async def _with_optional_settings(database: Database, layout: Layout) -> Layout:
    rows = await database.rows(
        "SELECT name FROM system.merge_tree_settings WHERE name IN ({names:Array(String)})",
        {"names": list(OPTIONAL_SETTINGS)},
    )
    known = {row["name"]: OPTIONAL_SETTINGS[row["name"]] for row in rows}
    return replace(layout, signal_settings={**layout.signal_settings, **known})


async def _history(database: Database) -> dict[int, str]:
    rows = await database.rows("SELECT version, sha256 FROM schema_versions FINAL")
    return {int(row["version"]): str(row["sha256"]) for row in rows}


def _refuse_newer(database: Database, current: int, known: int) -> None:
    if current > known:
        raise DatabaseError(
            f"{database.url} has schema version {current}, this version of Spanyard knows only up "
            f"to {known}: it was migrated by a newer one. Upgrade this component"
        )
