"""Which of some unfinished spans hang or are lost: what was heard of their traces and pods."""

from collections.abc import Sequence
from dataclasses import dataclass

from spanyard_gateway.hanging import Heard, Life, Mark, Patience, is_gone, last_heard, pod_of
from spanyard_gateway.queries.common import together
from spanyard_gateway.reader import Reader

MOST_SPANS = 200_000
"""Looked at; a span below one of more would be missed, and the one above count as hung."""
_SKEW_NS = 60 * 10**9
"""Clocks of a trace's parts may differ so much: a child may begin before its parent."""


@dataclass(frozen=True, slots=True)
class Open:
    """An unfinished span, or an unfinished reported trace, whose id is that of the trace."""

    trace: str
    id: str
    writer: str
    start_ns: int
    heard_ns: int


async def marks(
    reader: Reader, project: str, opened: Sequence[Open], patience: Patience
) -> dict[tuple[str, str], Mark]:
    """By trace and id. Asks nothing when nothing is unfinished. Raises DatabaseError."""
    if not opened:
        return {}
    words, lives = await together(
        _words(reader, project, opened), _lives(reader, project, {pod_of(o.writer) for o in opened})
    )
    last = last_heard(words)
    newest: dict[str, int] = {}
    for (trace, _), at in last.items():
        newest[trace] = max(at, newest.get(trace, 0))
    found = {}
    for one in opened:
        known = newest if one.id == one.trace else {one.trace: last.get((one.trace, one.id), 0)}
        heard = max(one.heard_ns, known.get(one.trace, 0))
        found[one.trace, one.id] = Mark(
            hung=patience.now_ns - heard > patience.limit_ns,
            lost=is_gone(lives.get(pod_of(one.writer), []), one.start_ns, patience.now_ns),
        )
    return found


async def _words(reader: Reader, project: str, opened: Sequence[Open]) -> list[Heard]:
    rows = await reader.rows(
        "SELECT trace_id, id, argMax(parent_span_id, (recorded_at, seq)) AS parent,"
        " toUnixTimestamp64Nano(max(recorded_at)) AS heard FROM spans"
        " WHERE project = {project:String} AND trace_id IN {traces:Array(String)}"
        " AND start_time >= fromUnixTimestamp64Nano({low:Int64}, 'UTC')"
        f" GROUP BY trace_id, id LIMIT {MOST_SPANS}",
        {
            "project": project,
            "traces": sorted({one.trace for one in opened}),
            "low": max(0, min(one.start_ns for one in opened) - _SKEW_NS),
        },
    )
    return [Heard(row["trace_id"], row["id"], row["parent"], row["heard"]) for row in rows]


async def _lives(reader: Reader, project: str, pods: set[str]) -> dict[str, list[Life]]:
    rows = await reader.rows(
        "SELECT subject, any(signal) AS kind, argMax(event, (timestamp, seq)) AS last,"
        " toUnixTimestamp64Nano(min(timestamp)) AS begun,"
        " toUnixTimestamp64Nano(max(timestamp)) AS told FROM gaps"
        " WHERE project = {project:String} AND event IN ('begin', 'end')"
        " AND splitByChar('/', subject)[1] IN {pods:Array(String)} GROUP BY subject",
        {"project": project, "pods": sorted(pods)},
    )
    found: dict[str, list[Life]] = {}
    for row in rows:
        end = row["told"] if row["last"] == "end" else None
        life = Life(row["subject"], row["kind"], row["begun"], end)
        found.setdefault(pod_of(row["subject"]), []).append(life)
    return found
