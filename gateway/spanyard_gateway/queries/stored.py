"""What is stored of each writer: rows, different numbers, the highest one.

The projection `by_batch` answers it with a few rows per part. Only where its sums do not describe
one run without a hole is more asked, and as little as possible: first the runs of the single
batches, and of those that have holes in them (bad lines were taken out) the numbers themselves.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from spanyard_gateway.proof import StoredRows
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

AT_ONCE = 500
"""Writers in one question."""
_SUMS = "count() AS rows, min(seq) AS first, max(seq) AS last, sum(seq) AS total"

Row = dict[str, Any]


async def stored_rows(reader: Reader, signal: str, where: Where) -> dict[str, StoredRows]:
    """By writer, of the projects that `where` is true of. Raises DatabaseError."""
    # A writer belongs to one project, so its rows' smallest project is that one; only so the
    # projection answers.
    rows = await reader.rows(
        f"SELECT * FROM (SELECT writer, min(project) AS project, {_SUMS} FROM {signal}"
        f" GROUP BY writer) WHERE {where.sql()}",
        where.params,
    )
    broken = sorted(row["writer"] for row in rows if not _is_run(row))
    distinct: dict[str, int] = {}
    for writers in _pieces(broken):
        distinct |= await _distinct(reader, signal, writers)
    return {
        row["writer"]: StoredRows(
            signal, row["rows"], distinct.get(row["writer"], row["rows"]), row["last"]
        )
        for row in rows
    }


async def _distinct(reader: Reader, signal: str, writers: list[str]) -> dict[str, int]:
    """How many different numbers there are of each of these writers."""
    rows = await reader.rows(
        f"SELECT writer, batch, {_SUMS} FROM {signal} WHERE writer IN {{writers:Array(String)}}"
        " GROUP BY ingest_day, batch, writer",
        {"writers": writers},
    )
    batches: dict[str, list[Row]] = {}
    for row in rows:
        batches.setdefault(row["writer"], []).append(row)
    overlapping = [name for name, own in batches.items() if _overlap(own)]
    holed = [
        row
        for name, own in batches.items()
        if name not in overlapping
        for row in own
        if not _is_run(row)
    ]
    counts = {
        name: sum(row["rows"] for row in own if _is_run(row)) for name, own in batches.items()
    }
    looked_at = {(row["writer"], row["batch"]) for row in holed}
    if holed:
        for row in await reader.rows(
            f"SELECT writer, batch, uniqExact(seq) AS numbers FROM {signal}"
            " WHERE batch IN {batches:Array(UInt64)} AND writer IN {writers:Array(String)}"
            " GROUP BY writer, batch",
            {
                "batches": sorted({row["batch"] for row in holed}),
                "writers": sorted({row["writer"] for row in holed}),
            },
        ):
            if (row["writer"], row["batch"]) in looked_at:
                counts[row["writer"]] += row["numbers"]
    if overlapping:
        for row in await reader.rows(
            f"SELECT writer, uniqExact(seq) AS numbers FROM {signal}"
            " WHERE writer IN {writers:Array(String)} GROUP BY writer",
            {"writers": overlapping},
        ):
            counts[row["writer"]] = row["numbers"]
    return counts


def _is_run(row: Row) -> bool:
    """Whether these can only be the numbers first…last, each once."""
    count, first, last = row["rows"], row["first"], row["last"]
    return bool(count == last - first + 1 and row["total"] == (first + last) * count // 2)


def _overlap(rows: Iterable[Row]) -> bool:
    reached = 0
    for row in sorted(rows, key=lambda r: r["first"]):
        if row["first"] <= reached:
            return True
        reached = row["last"]
    return False


def _pieces(writers: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(writers), AT_ONCE):
        yield writers[at : at + AT_ONCE]
