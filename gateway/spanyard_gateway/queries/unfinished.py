"""Spans and traces that have begun and not ended: starts whose end is not stored.

A start stays when its end arrives, so most starts are done, and which are not shows only by looking
for their ends. That is done window by window along the order of the page, so that neither memory
nor time grows with all that was ever stored: the starts of a window are compared with the ends of
the same time by hash (0.12 s for 250,000 of each; by the ids themselves 0.57 s). What is left is
looked up by its id, because an end may tell another start time, and because of several words on one
span the last one counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_gateway.params import Query
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

FIRST_WINDOW = 4_000
LARGEST_WINDOW = 256_000
"""Starts in a window; it grows fourfold from one to the next."""
FEW = 200
"""Starts that a search leaves: these are looked up by their ids, without windows (1 million starts, a
word that is nowhere: 0.2 s of CPU instead of 0.8)."""
_AT = "fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')"
_TYPES = {"writer": "String", "seq": "UInt64", "trace_id": "String", "id": "String"}

Row = dict[str, Any]
Position = Sequence[int | str]
"""Time in ns and values of the order's columns, or the first of these; exclusive."""


@dataclass(frozen=True, slots=True)
class Starts:
    """The starts of a table."""

    table: str
    key: tuple[str, ...]
    """What a start and its end have in common, `id` last."""
    halves: tuple[str, ...] = ("1",)
    """Conditions that divide them into parts that are stored in order of time."""
    aliases: str = ""
    """`WITH …` ahead of a SELECT of rows: columns that the table does not have by these names."""


SPANS = Starts("spans", ("trace_id", "id"), ("root = 1", "root = 0"))
ROOTS = Starts("spans", ("trace_id", "id"), ("root = 1",))
TRACES = Starts(
    "traces",
    ("id",),
    aliases="WITH id AS trace_id, toUInt64(greatest(0, toUnixTimestamp64Nano(end_time)"
    " - toUnixTimestamp64Nano(start_time))) AS duration_ns",
)


def behind(position: Position | None, order: Sequence[str], *, descending: bool) -> Where:
    """Rows behind a position in the order of `start_time` and these columns."""
    where = Where()
    if position is not None:
        sign = "<" if descending else ">"
        names = ("start_time", *order)[: len(position)]
        values = [_AT.format(name="p0")] + [
            f"{{p{i}:{_TYPES[name]}}}" for i, name in enumerate(names) if i
        ]
        # The plain comparison of the time is what lets the primary key skip.
        where.add(
            f"start_time {sign}= {values[0]} AND ({', '.join(names)}) {sign} ({', '.join(values)})",
            **{f"p{i}": value for i, value in enumerate(position)},
        )
    return where


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A search for unfinished rows in one order."""

    reader: Reader
    starts: Starts
    project: str
    query: Query
    order: tuple[str, ...]
    """Columns behind the start time that make the order total."""
    columns: str
    """What rows hold: `c_time` and all of the order and of the key among it."""

    async def rows(
        self, where: Where, limit: int, *, position: Position | None, until: int | None = None
    ) -> list[Row]:
        """The first `limit` rows behind `position` that match `where`, none beyond time `until`."""
        if self.query.search:
            rows = await self._window(where, FEW + 1, position, until, by_hash=False)
            if len(rows) <= FEW:
                return (await self._not_ended(rows))[:limit]
        found: list[Row] = []
        size = FIRST_WINDOW
        while True:
            far = await self._far(position, size)
            last = far is None or (until is not None and self._beyond(far, until))
            if last:
                far = until
            rows = await self._window(where, limit, position, far)
            found += await self._not_ended(rows)
            if len(found) >= limit:
                return found[:limit]
            if len(rows) == limit:
                position = [rows[-1]["c_time"], *(rows[-1][name] for name in self.order)]
                continue
            if last or far is None:
                return found
            position = [far]
            size = min(size * 4, LARGEST_WINDOW)

    async def _not_ended(self, rows: list[Row]) -> list[Row]:
        latest = await self._latest(rows)
        return [row for row in rows if latest.get(self._key(row)) == self._word(row)]

    def _beyond(self, time: int, until: int) -> bool:
        return time < until if self.query.descending else time > until

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.starts.key)

    def _word(self, row: Row) -> tuple[str, int]:
        return str(row["writer"]), int(row["seq"])

    def _bounds(self, far: int | None, position: Position | None) -> Where:
        """The project, the query's own times, and the window, whose ends belong to it."""
        where = Where()
        where.add("project = {project:String}", project=self.project)
        near = position[0] if position else None
        low, high = (far, near) if self.query.descending else (near, far)
        for name, sign, time in (
            ("from", ">=", self.query["from"]),
            ("to", "<", self.query["to"]),
            ("low", ">=", low),
            ("high", "<=", high),
        ):
            if time is not None:
                where.add(f"start_time {sign} {_AT.format(name=name)}", **{name: time})
        return where

    async def _far(self, position: Position | None, size: int) -> int | None:
        """The time at which `size` starts lie behind the position; None when there are fewer."""
        way, nearest = ("DESC", "max") if self.query.descending else ("ASC", "min")
        where = self._bounds(None, position)
        if position is not None and len(position) == 1:
            where.extend(behind(position, self.order, descending=self.query.descending))
        parts = " UNION ALL ".join(
            f"SELECT start_time FROM {self.starts.table} WHERE ended = 0 AND {half}"
            f" AND {where.sql()} ORDER BY start_time {way} LIMIT 1 OFFSET {size - 1}"
            for half in self.starts.halves
        )
        [row] = await self.reader.rows(
            f"SELECT count() AS n, toUnixTimestamp64Nano({nearest}(start_time)) AS far"
            f" FROM ({parts})",
            where.params,
        )
        return int(row["far"]) if row["n"] else None

    async def _window(
        self,
        where: Where,
        limit: int,
        position: Position | None,
        far: int | None,
        *,
        by_hash: bool = True,
    ) -> list[Row]:
        """Starts up to `far`; `by_hash`: without those whose end lies there too."""
        way = "DESC" if self.query.descending else "ASC"
        bounds = self._bounds(far, position)
        rest = behind(position, self.order, descending=self.query.descending)
        hashed = f"cityHash64({', '.join(self.starts.key)})"
        without = (
            f"{hashed} NOT IN (SELECT {hashed} FROM {self.starts.table}"
            f" WHERE ended = 1 AND {bounds.sql()})"
            if by_hash
            else "1"
        )
        order = ", ".join(f"{name} {way}" for name in ("start_time", *self.order))
        return await self.reader.rows(
            f"{self.starts.aliases} SELECT {self.columns} FROM {self.starts.table}"
            f" WHERE ended = 0 AND ({' OR '.join(self.starts.halves)}) AND {where.sql()}"
            f" AND {bounds.sql()} AND {rest.sql()} AND {without}"
            f" ORDER BY {order} LIMIT {limit}",
            {**where.params, **bounds.params, **rest.params},
        )

    async def _latest(self, rows: list[Row]) -> dict[tuple[Any, ...], tuple[str, int]]:
        """Of each that has not ended: writer and seq of the last word on it."""
        if not rows:
            return {}
        key = ", ".join(self.starts.key)
        found = await self.reader.rows(
            f"SELECT {key}, max(ended) AS done,"
            " argMax((writer, seq), (recorded_at, seq)) AS word"
            f" FROM {self.starts.table}"
            f" WHERE project = {{project:String}} AND id IN {{ids:Array(String)}} GROUP BY {key}",
            {"project": self.project, "ids": sorted({row["id"] for row in rows})},
        )
        return {
            self._key(row): (str(row["word"][0]), int(row["word"][1]))
            for row in found
            if not row["done"]
        }
