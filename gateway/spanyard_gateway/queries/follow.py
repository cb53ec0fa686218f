"""Lines as they are stored, whatever their time says: what a follower asks again and again.

A page in the order of time cannot be followed: a line that comes late, because its collector was
away, would lie behind the cursor. But each attempt of the ingester is one part, visible whole or
not at all, and its number (milliseconds since the epoch and 20 random bits) only grows. So the
cursor is the set of attempts that were seen: all below a floor, and those listed above it. What a
follower has not seen is what lies in other attempts. An attempt that takes longer than `WINDOW_MS`
from its plan to its commit while others pass it would be missed; an insert takes a second or two.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from spanyard_core.errors import SettingError
from spanyard_gateway.cursors import scope_of
from spanyard_gateway.items import FollowPage
from spanyard_gateway.params import Query
from spanyard_gateway.queries.common import keyset_select
from spanyard_gateway.queries.logs import line_item, log_columns, logs_where
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

WINDOW_MS = 120_000
"""How long attempts are told apart one by one."""
MOST_SEEN = 600
"""In a cursor, which travels in the address: 5 bytes each before base64."""
MOST_AT_ONCE = 100
"""Attempts read in one page; they travel in the address too."""
_BITS = 20
_BYTES = 5
"""Enough for the difference of two attempts of one window."""


class _State(msgspec.Struct, array_like=True):
    scope: str
    floor: int
    """All attempts below it were seen."""
    seen: bytes
    """Attempts above it that were seen, five bytes of difference each."""
    reading: list[int]
    """Attempts of the page under way."""
    position: list[int | str]
    """Where in them the page before ended; empty: at their beginning."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    floor: int
    seen: frozenset[int]
    reading: tuple[int, ...] = ()
    position: tuple[int | str, ...] = ()

    def text(self, scope: str) -> str:
        """The text that a client sends back. Forgets what lies before the window."""
        newest = max(self.seen, default=self.floor)
        floor = max(self.floor, newest - (WINDOW_MS << _BITS))
        kept = sorted(n for n in self.seen if n >= floor)[-MOST_SEEN:]
        if len(kept) == MOST_SEEN:
            floor = kept[0]
        offsets = b"".join((n - floor).to_bytes(_BYTES, "big") for n in kept)
        state = _State(scope, floor, offsets, list(self.reading), list(self.position))
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(state)).decode().rstrip("=")

    @classmethod
    def of(cls, text: str, scope: str) -> "_Cursor":
        """Raises SettingError when it is not a cursor of this query."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            state = msgspec.msgpack.decode(raw, type=_State)
        except (binascii.Error, ValueError, msgspec.DecodeError) as error:
            raise SettingError("cursor: not one of this query; leave it out") from error
        numbers = [state.floor, *state.reading]
        good = (
            state.scope == scope
            and all(0 <= n < 2**63 for n in numbers)
            and len(state.seen) % _BYTES == 0
            and [type(p) for p in state.position] in ([], [int, str, int])
            and all(0 <= p < 2**63 for p in state.position if isinstance(p, int))
        )
        if not good:
            raise SettingError(
                "cursor: made by a query with other filters; leave it out to begin now"
            )
        offsets = [state.seen[i : i + _BYTES] for i in range(0, len(state.seen), _BYTES)]
        seen = frozenset(state.floor + int.from_bytes(o, "big") for o in offsets)
        return cls(state.floor, seen, tuple(state.reading), tuple(state.position))


async def follow_logs(reader: Reader, project: str, query: Query) -> FollowPage:
    """Lines that were stored since the cursor was made; without one, the cursor for now.

    Raises SettingError for a foreign cursor, SearchError, DatabaseError.
    """
    where = logs_where(project, query)  # first of all: a search may be wrong
    scope = scope_of("follow logs", project, *query.scope())
    if query["cursor"] is None:
        floor = max(0, await _newest(reader) - (WINDOW_MS << _BITS))
        order = f"DESC LIMIT {MOST_SEEN}"
        seen = frozenset(await _attempts(reader, project, floor, frozenset(), order=order))
        return FollowPage(items=[], next_cursor=_Cursor(floor, seen).text(scope), caught_up=True)
    cursor = _Cursor.of(query["cursor"], scope)
    reading: Sequence[int] = cursor.reading
    if not reading:
        reading = await _attempts(
            reader, project, cursor.floor, cursor.seen, order=f"ASC LIMIT {MOST_AT_ONCE}"
        )
    if not reading:
        return FollowPage(items=[], next_cursor=cursor.text(scope), caught_up=True)
    rows = await _lines(reader, where, query, reading, cursor.position)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    if more:
        last = rows[-1]
        position = (last["c_time"], last["writer"], last["seq"])
        after = _Cursor(cursor.floor, cursor.seen, tuple(reading), position)
    else:
        after = _Cursor(cursor.floor, cursor.seen | frozenset(reading))
    return FollowPage(
        items=[line_item(row) for row in rows],
        next_cursor=after.text(scope),
        caught_up=not more and len(reading) < MOST_AT_ONCE,
    )


async def _newest(reader: Reader) -> int:
    [row] = await reader.rows("SELECT max(batch) AS newest FROM logs")
    return int(row["newest"])


async def _attempts(
    reader: Reader, project: str, floor: int, seen: frozenset[int], *, order: str
) -> list[int]:
    """Attempts from the floor on that are not seen and may hold lines of the project."""
    # Answered by the projection: it knows of each attempt the least and the greatest project.
    rows = await reader.rows(
        "SELECT batch FROM logs WHERE batch >= {floor:UInt64}"
        " AND batch NOT IN {seen:Array(UInt64)} GROUP BY batch"
        " HAVING min(project) <= {project:String} AND max(project) >= {project:String}"
        f" ORDER BY batch {order}",
        {"floor": floor, "seen": sorted(seen), "project": project},
    )
    return [int(row["batch"]) for row in rows]


async def _lines(
    reader: Reader,
    where: Where,
    query: Query,
    attempts: Sequence[int],
    position: tuple[int | str, ...],
) -> list[dict[str, Any]]:
    where.add("batch IN {attempts:Array(UInt64)}", attempts=list(attempts))
    if position:
        where.add(
            "(timestamp, writer, seq) > (fromUnixTimestamp64Nano({c_time:Int64}, 'UTC'),"
            " {c_writer:String}, {c_seq:UInt64})",
            c_time=position[0],
            c_writer=position[1],
            c_seq=position[2],
        )
    columns = log_columns()
    ascending = Query({**query.values, "order": "asc"}, query.attributes)
    sql = keyset_select("logs", columns, where, ascending, "timestamp", query.limit + 1)
    return await reader.rows(sql, where.params)
