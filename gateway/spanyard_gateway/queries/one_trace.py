"""One trace: where it lies, its spans whole, and all of them in outline.

An outline is what a waterfall is drawn from. Of 10,000 spans it has a sixth of the bytes, and the
engine does not read what was said in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_core.clickhouse import rfc3339
from spanyard_gateway.hanging import FINE, Mark, Patience
from spanyard_gateway.items import ScoreItem, SpanItem, TraceDetail
from spanyard_gateway.outlines import SpanOutline, TraceOutline
from spanyard_gateway.queries.common import IDENTITY, any_json, together
from spanyard_gateway.queries.scores import COLUMNS as SCORE_COLUMNS
from spanyard_gateway.queries.scores import score_item
from spanyard_gateway.queries.spans import drawn_fields, marks_of_rows, spans_of_trace
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

MAX_SPANS = 20_000
"""Of one trace; more are cut and told."""
KIND_ATTRIBUTES = (
    "gen_ai.operation.name",
    "mastra.span.type",
    "db.system",
    "db.system.name",
    "db.operation.name",
    "http.request.method",
    "http.method",
)
"""Those by which the page tells agents, models, tools, databases and requests apart."""


async def places_of_trace(reader: Reader, trace: str, tenants: Where) -> dict[str, tuple[int, int]]:
    """Projects in which the trace id occurs, with the times (ns) of its first start and last end.

    `tenants` says which projects may be looked into.
    """
    where = Where()
    where.extend(tenants)
    where.add("trace_id = {trace:String}", trace=trace)
    rows = await reader.rows(
        "SELECT project, toUnixTimestamp64Nano(min(start_time)) AS low,"
        " toUnixTimestamp64Nano(max(end_time)) AS high"
        f" FROM trace_index WHERE {where.sql()} GROUP BY project ORDER BY project LIMIT 10",
        where.params,
    )
    return {row["project"]: (row["low"], row["high"]) for row in rows}


@dataclass(frozen=True, slots=True)
class TraceAt:
    """A trace of a project, and its times (ns) from the index, which spare looking through all
    spans of the project; None: the index has none."""

    project: str
    trace: str
    times: tuple[int, int] | None

    def where(self) -> Where:
        """Rows of any table that have its id."""
        where = Where()
        where.add("project = {project:String}", project=self.project)
        where.add("trace_id = {trace:String}", trace=self.trace)
        return where

    def of_spans(self) -> Where:
        """Its spans."""
        where = self.where()
        if self.times is not None:
            where.add(
                "start_time >= fromUnixTimestamp64Nano({low:Int64}, 'UTC')"
                " AND start_time <= fromUnixTimestamp64Nano({high:Int64}, 'UTC')",
                low=self.times[0],
                high=self.times[1],
            )
        return where


async def one_trace(reader: Reader, at: TraceAt, patience: Patience) -> TraceDetail | None:
    """A trace with its spans and scores; None when nothing of it is stored."""
    spans, scores, told = await together(
        spans_of_trace(reader, at.of_spans(), MAX_SPANS + 1, patience),
        _scores(reader, at),
        _report(reader, at, ", input, output, metadata"),
    )
    if not spans and not told:
        return None
    return TraceDetail(
        **_frame(at, spans, told),
        spans=spans[:MAX_SPANS],
        scores=scores,
        input=any_json(told.get("input", "")),
        output=any_json(told.get("output", "")),
        metadata=any_json(told.get("metadata", "")),
    )


async def trace_outline(reader: Reader, at: TraceAt, patience: Patience) -> TraceOutline | None:
    """The same without what its spans hold; None when nothing of it is stored."""
    spans, scores, told = await together(
        _outlines(reader, at, patience), _scores(reader, at), _report(reader, at, "")
    )
    if not spans and not told:
        return None
    return TraceOutline(**_frame(at, spans, told), spans=spans[:MAX_SPANS], scores=scores)


async def some_spans(
    reader: Reader, at: TraceAt, ids: Sequence[str], patience: Patience
) -> list[SpanItem]:
    """Those spans of a trace, whole, oldest first; ids that it has not are left out."""
    where = at.of_spans()
    where.add("id IN {ids:Array(String)}", ids=list(ids))
    return await spans_of_trace(reader, where, len(ids), patience)


async def _outlines(reader: Reader, at: TraceAt, patience: Patience) -> list[SpanOutline]:
    where = at.of_spans()
    rows = await reader.rows(
        "SELECT * FROM (SELECT id, trace_id, writer, parent_span_id, name, service, status, ended,"
        f" {rfc3339('start_time')} AS start_text, if(ended, {rfc3339('end_time')}, '') AS end_text,"
        " duration_ns, model, input_tokens, output_tokens, cost,"
        " mapFilter((k, v) -> k IN {kinds:Array(String)}, attribute_map) AS attributes,"
        " toUnixTimestamp64Nano(recorded_at) AS r_time,"
        " toUnixTimestamp64Nano(start_time) AS c_time"
        f" FROM spans WHERE {where.sql()}"
        # As `spans_of_trace` has it: of each its end, else its last word.
        " ORDER BY ended DESC, r_time DESC, seq DESC LIMIT 1 BY id)"
        f" ORDER BY c_time, id LIMIT {MAX_SPANS + 1}",
        where.params | {"kinds": list(KIND_ATTRIBUTES)},
    )
    known = await marks_of_rows(reader, at.project, rows, patience)
    return [_outline(row, known.get((at.trace, row["id"]), FINE)) for row in rows]


def _outline(row: dict[str, Any], mark: Mark) -> SpanOutline:
    drawn = SpanOutline(
        **drawn_fields(row, mark), service=row["service"], attributes=row["attributes"]
    )
    drawn.cost = drawn.cost or 0  # of floats the default is not known again
    return drawn


async def _scores(reader: Reader, at: TraceAt) -> list[ScoreItem]:
    where = at.where()
    rows = await reader.rows(
        f"SELECT {IDENTITY}, {SCORE_COLUMNS} FROM scores WHERE {where.sql()}"
        " ORDER BY timestamp, writer, seq LIMIT 1000",
        where.params,
    )
    return [score_item(row) for row in rows]


async def _report(reader: Reader, at: TraceAt, more: str) -> dict[str, Any]:
    """What an application reported of the trace as a whole; empty: nothing."""
    rows = await reader.rows(
        f"SELECT {rfc3339('start_time')} AS start_text,"
        f" if(ended, {rfc3339('end_time')}, '') AS end_text{more}"
        " FROM traces WHERE project = {project:String} AND id = {trace:String}"
        " ORDER BY ended DESC, recorded_at DESC LIMIT 1",
        {"project": at.project, "trace": at.trace},
    )
    return rows[0] if rows else {}


def _frame(
    at: TraceAt, spans: Sequence[SpanItem | SpanOutline], told: dict[str, Any]
) -> dict[str, Any]:
    """What both answers say of the trace as a whole: its first start, its last end. At least one
    of `spans` and `told` has something."""
    starts = [span.start_time for span in spans]
    ends = [span.end_time for span in spans if span.end_time]
    if told:
        starts.append(told["start_text"])
        ends += [told["end_text"]] if told["end_text"] else []
    return {
        "id": at.trace,
        "project_id": at.project,
        "start_time": min(starts),
        "end_time": max(ends, default=None),
        "truncated": len(spans) > MAX_SPANS,
    }
