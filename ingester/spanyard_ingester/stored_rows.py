"""Stored rows: counting and deleting them by what they are, for rebuilds and deletion on demand.

Loading never needs this: there, rows go by attempt. These deletions rewrite the parts they touch
(21 s for 10 million merged rows), so each is preceded by a look whether there is anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spanyard_core.clickhouse import Database
from spanyard_core.records import SIGNALS, Signal
from spanyard_ingester.operations import Range


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be deleted on demand, always within one project."""

    project: str
    trace: str = ""
    """One trace's id; empty: not by trace."""
    attribute: tuple[str, str] | None = None
    """Records that carry this attribute with this value (a user's id, say)."""

    def __str__(self) -> str:
        if self.trace:
            return f"trace {self.trace} of {self.project}"
        if self.attribute is not None:
            # The value may be what is to be forgotten: the ledger must not keep it.
            return f"an attribute {self.attribute[0]} of {self.project}"
        return f"project {self.project}"

    @property
    def is_whole_project(self) -> bool:
        """Whether everything of the project goes."""
        return not self.trace and self.attribute is None

    def holds(self, line: Mapping[str, Any]) -> bool:
        """Whether a record belongs to it, by its JSON."""
        if self.is_whole_project:
            return True
        if self.trace:
            return self.trace == line.get("id" if line.get("type") == "trace" else "traceId")
        attributes = line.get("attributes")
        if self.attribute is None or not isinstance(attributes, dict):
            return False
        name, value = self.attribute
        found = attributes.get(name)
        return found == value or (found is not None and json.dumps(found) == value)

    @property
    def patterns(self) -> list[str]:
        """Texts of which a quarantined line, which may not even be JSON, holds one."""
        if self.attribute is not None:
            name, value = self.attribute
            key = json.dumps(name, ensure_ascii=False)
            values = (json.dumps(value, ensure_ascii=False), value)
            return [f"{key}:{space}{text}" for space in ("", " ") for text in values]
        return [self.trace]


class StoredRows(Protocol):
    """Rows by what they are. Raises DatabaseError and DatabaseUnavailableError."""

    async def delete_ranges(
        self, table: Signal, project: str, ranges: Mapping[str, Sequence[Range]], before: int
    ) -> int:
        """Delete a project's rows of these writers (by name), seqs, and attempts before that one;
        how many there were.
        """
        ...

    async def find(self, table: Signal, scope: Scope) -> dict[str, list[int]]:
        """Writer → seqs of the rows in a scope."""
        ...

    async def count(self, scope: Scope) -> dict[str, int]:
        """Table → rows in a scope, tables without any left out; the quarantine among them."""
        ...

    async def delete(self, scope: Scope) -> None:
        """Delete the rows of a scope in every table, derived ones and the quarantine included."""
        ...


class ClickHouseRows:
    """`StoredRows` over an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_ranges(
        self, table: Signal, project: str, ranges: Mapping[str, Sequence[Range]], before: int
    ) -> int:
        # By writer first: the projection answers that in milliseconds, and after a loss of the
        # database there is nothing.
        rows = await self._database.rows(
            f"SELECT writer, count() AS n FROM {table}"  # noqa: S608 - a table's name of ours
            " WHERE writer IN {writers:Array(String)} GROUP BY writer",
            {"writers": list(ranges)},
        )
        present = {str(row["writer"]) for row in rows}
        wanted = [(writer, pairs) for writer, pairs in ranges.items() if writer in present]
        if not wanted:
            return 0
        where = (
            "project = {project:String} AND batch < {before:UInt64} AND arrayExists(range -> seq >= range.1 AND seq <= range.2,"
            " arrayElement({ranges:Array(Array(Tuple(UInt64, UInt64)))},"
            " indexOf({writers:Array(String)}, writer)))"
        )
        params = {
            "project": project,
            "before": before,
            "writers": [writer for writer, _ in wanted],
            "ranges": [list(pairs) for _, pairs in wanted],
        }
        return await self._delete(table, where, params)

    async def find(self, table: Signal, scope: Scope) -> dict[str, list[int]]:
        where, params = _condition(table, scope)
        if not where:
            return {}
        rows = await self._database.rows(
            f"SELECT writer, groupArray(seq) AS seqs FROM {table}"  # noqa: S608 - values are bound
            f" WHERE {where} GROUP BY writer",
            params,
        )
        return {str(row["writer"]): [int(seq) for seq in row["seqs"]] for row in rows}

    async def count(self, scope: Scope) -> dict[str, int]:
        counts: dict[str, int] = {}
        for table in (*SIGNALS, "quarantine"):
            where, params = _condition(table, scope)
            if where:
                final = " FINAL" if table == "quarantine" else ""
                [row] = await self._database.rows(
                    f"SELECT count() AS n FROM {table}{final}"  # noqa: S608 - values are bound
                    f" WHERE {where}",
                    params,
                )
                if int(row["n"]):
                    counts[table] = int(row["n"])
        return counts

    async def delete(self, scope: Scope) -> None:
        for table in (*SIGNALS, "trace_index", "quarantine", "ledger"):
            where, params = _condition(table, scope)
            if where:
                await self._delete(table, where, params)

    async def _delete(self, table: str, where: str, params: dict[str, Any]) -> int:
        [row] = await self._database.rows(
            f"SELECT count() AS n FROM {table} WHERE {where}",  # noqa: S608 - values are bound
            params,
        )
        if not int(row["n"]):
            return 0
        await self._database.command(
            f"DELETE FROM {table} WHERE {where}",  # noqa: S608 - values are bound
            params,
            {"lightweight_deletes_sync": 2},
        )
        return int(row["n"])


_TRACE_COLUMN = {
    "traces": "id",
    "spans": "trace_id",
    "logs": "trace_id",
    "metrics": "trace_id",
    "scores": "trace_id",
    "trace_index": "trace_id",
}
_WITH_ATTRIBUTES = ("spans", "logs", "metrics", "scores")


def _condition(table: str, scope: Scope) -> tuple[str, dict[str, Any]]:
    """The rows of a table in a scope, as a condition; empty when it has none of its kind."""
    params: dict[str, Any] = {"project": scope.project}
    where = "project = {project:String}"
    if scope.is_whole_project:
        return where, params
    if table == "quarantine":
        params["patterns"] = scope.patterns
        holds = "arrayExists(text -> position(bytes, text) > 0, {patterns:Array(String)})"
        return f"{where} AND {holds}", params
    if scope.trace:
        if table not in _TRACE_COLUMN:
            return "", {}
        params["trace"] = scope.trace
        return f"{where} AND {_TRACE_COLUMN[table]} = {{trace:String}}", params
    if table not in _WITH_ATTRIBUTES or scope.attribute is None:
        return "", {}
    params["name"], params["value"] = scope.attribute
    # Long values are not in the map; a number's text is its JSON.
    carries = "attribute_map[{name:String}] = {value:String}"
    says = "JSONExtractString(attributes, {name:String}) = {value:String}"
    return f"{where} AND ({carries} OR {says})", params
