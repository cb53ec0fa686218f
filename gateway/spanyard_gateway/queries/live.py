"""The stored part of live streams: the newest records, and runs of one writer's numbers.

The projection `by_batch` knows which batches hold a writer's numbers, so that a run is read without
looking through a project's history.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from spanyard_core.clickhouse import rfc3339
from spanyard_core.errors import DatabaseError
from spanyard_gateway.live.channels import Filter
from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.records import NOTHING, Block, LiveSignal, LogRecord, Record, SpanRecord
from spanyard_gateway.live.searching import searches
from spanyard_gateway.live.stored import Row, Target
from spanyard_gateway.live.upstream import LivePod
from spanyard_gateway.queries.common import add_text
from spanyard_gateway.queries.search import add_search
from spanyard_gateway.reader import Reader
from spanyard_gateway.where import Where

PAGE = 2_000
"""Rows of one question."""
BATCHES = 20
"""That are looked at for a page."""
SLICE_BYTES = 128 * 1024
"""Of an answer, read before anything else has its turn: 400 lines, about 0.5 ms."""


class _Log(msgspec.Struct, gc=False):
    """A row of `logs`, as the engine tells it."""

    seq: int
    time_text: str
    level: str
    message: str
    pod: str
    container: str
    stream: str
    trace_id: str
    span_id: str
    attributes: str
    marks: tuple[str, ...]
    deployment: str
    build: str
    service: str
    writer: str = ""
    at: int = 0
    """Nanoseconds since the epoch."""


class _Span(msgspec.Struct, gc=False):
    """A row of `spans`, as the engine tells it."""

    seq: int
    id: str
    trace_id: str
    name: str
    ended: int
    pod: str
    service: str
    parent_span_id: str
    status: str
    status_message: str
    span_kind: str
    attributes: str
    events: str
    start_text: str
    end_text: str
    deployment: str
    build: str
    container: str
    writer: str = ""
    at: int = 0


_ROWS: dict[str, "msgspec.json.Decoder[_Log] | msgspec.json.Decoder[_Span]"] = {
    "logs": msgspec.json.Decoder(_Log),
    "spans": msgspec.json.Decoder(_Span),
}


class ClickHouseStored:
    """Implements `Stored`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def reached(self, pod: LivePod) -> Mapping[str, Reached]:
        found: dict[str, Reached] = {}
        for signal in _BOTH:
            rows = await self._reader.rows(
                f"SELECT writer, max(seq) AS last FROM {signal}"
                " WHERE startsWith(writer, {prefix:String}) GROUP BY writer",
                {"prefix": f"{pod.uid}/"},
            )
            found |= {row["writer"]: Reached(signal, int(row["last"])) for row in rows}
        return found

    async def newest(
        self,
        target: Target,
        signals: Sequence[LiveSignal],
        filter_: Filter,
        count: int,
        below: Mapping[str, int],
    ) -> list[Row]:
        found: list[tuple[int, Row]] = []
        for signal in signals:
            where = _where(target)
            if signal == "logs":
                _add_filter(where, filter_)
            if filter_.q:
                if not signal or signal not in searches(filter_.q, signals):
                    continue  # it asks for what these records have not
                add_search(where, filter_.q, signal)
            if below:
                where.add(
                    "seq < transform(writer, {writers:Array(String)}, {firsts:Array(UInt64)},"
                    " toUInt64(18446744073709551615))",
                    writers=list(below),
                    firsts=list(below.values()),
                )
            time = "timestamp" if signal == "logs" else "start_time"
            async for rows, _ in self._rows(
                signal,
                f"SELECT writer, toUnixTimestamp64Nano({time}) AS at, {_COLUMNS[signal]}"
                f" FROM {signal} WHERE {where.sql()} ORDER BY {time} DESC, writer DESC, seq DESC"
                f" LIMIT 1 BY writer, seq LIMIT {int(count)}",
                where.params,
            ):
                found += [(row.at, Row(row.writer, _record(row))) for row in rows]
        found.sort(key=lambda each: each[0])
        return [row for _, row in found[-count:]] if count else []

    async def between(
        self, writer: str, signal: LiveSignal, after: int, before: int | None
    ) -> list[Block]:
        params: dict[str, Any] = {"writer": writer, "after": after}
        limit = ""
        if before is not None:
            params["before"] = before
            limit = " AND min(seq) < {before:UInt64}"
        most = BATCHES
        while True:
            batches = await self._reader.rows(
                f"SELECT batch, min(seq) AS first, max(seq) AS last FROM {signal}"
                " WHERE writer = {writer:String}"
                f" GROUP BY ingest_day, batch, writer HAVING last > {{after:UInt64}}{limit}"
                f" ORDER BY first LIMIT {most + 1}",
                params,
            )
            if len(batches) <= most or int(batches[-1]["first"]) > after + 1:
                break
            most *= 8  # all of these reach across `after`: none of them can wait for the next page
        if not batches:
            return []
        params["batches"], end = _of_a_page(batches, after, most)
        wanted = before
        if end is not None:
            params["before"] = before = end if before is None else min(end, before)
        records: list[Record] = []
        size = 0
        async for rows, count in self._rows(
            signal,
            f"SELECT {_COLUMNS[signal]} FROM {signal} WHERE batch IN {{batches:Array(UInt64)}}"
            " AND writer = {writer:String} AND seq > {after:UInt64}"
            + (" AND seq < {before:UInt64}" if before is not None else "")
            + f" ORDER BY seq LIMIT 1 BY seq LIMIT {PAGE}",
            params,
        ):
            records += map(_record, rows)
            size += count
        if not records and end is not None and end != wanted:
            # A hole of all of these: the next of those that lie across them begins in it.
            return await self.between(writer, signal, end - 1, wanted)
        return _blocks(writer, records, size)

    async def _rows(
        self, signal: LiveSignal, sql: str, params: Mapping[str, Any]
    ) -> AsyncIterator[tuple[list[_Log] | list[_Span], int]]:
        """The answer, a slice at a time, and its bytes. Raises DatabaseError, also for one that is cut short."""
        answer = await self._reader.lines(sql, params)
        start = 0
        while start < len(answer):
            end = answer.find(b"\n", start + SLICE_BYTES) + 1 or len(answer)
            try:
                yield _ROWS[signal].decode_lines(answer[start:end]), end - start
            except msgspec.DecodeError as error:
                raise DatabaseError(
                    f"ClickHouse's answer is not what was asked for: {error}"
                ) from error
            start = end
            await asyncio.sleep(0)

    async def begun_since(
        self, target: Target, signals: Sequence[LiveSignal], since_ms: int
    ) -> Mapping[str, Reached]:
        found: dict[str, Reached] = {}
        for signal in signals:
            where = _where(target, trace=False)
            # An attempt's number begins with the milliseconds at which it was planned.
            where.add("batch >= {batch:UInt64}", batch=max(0, since_ms) << 20)
            rows = await self._reader.rows(
                f"SELECT writer, max(seq) AS last FROM {signal} WHERE {where.sql()} GROUP BY writer",
                where.params,
            )
            found |= {row["writer"]: Reached(signal, int(row["last"])) for row in rows}
        return found

    async def last_of(
        self, target: Target, signals: Sequence[LiveSignal], writers: Sequence[str]
    ) -> Mapping[str, Reached]:
        found: dict[str, Reached] = {}
        wanted, sums = set(writers), _sums(writers)
        for signal in signals:
            where = _where(target, trace=False)
            where.add("CRC32(writer) IN {writers:Array(UInt32)}", writers=sums)
            rows = await self._reader.rows(
                f"SELECT writer, max(seq) AS last FROM {signal} WHERE {where.sql()} GROUP BY writer",
                where.params,
            )
            found |= {
                row["writer"]: Reached(signal, int(row["last"]))
                for row in rows
                if row["writer"] in wanted
            }
        return found

    async def ends_of(self, writers: Sequence[str]) -> Mapping[str, int]:
        rows = await self._reader.rows(
            "SELECT subject, argMax(after_seq, seq) AS last FROM gaps"
            " WHERE CRC32(subject) IN {writers:Array(UInt32)} AND event = 'end' GROUP BY subject",
            {"writers": _sums(writers)},
        )
        wanted = set(writers)
        return {row["subject"]: int(row["last"]) for row in rows if row["subject"] in wanted}


def _sums(writers: Sequence[str]) -> list[int]:
    """For a question about many names: the driver quotes text character by character, 40 ms for the
    names of one token; whoever is answered looks at the names again."""
    return [zlib.crc32(writer.encode()) for writer in writers]


_BOTH: tuple[LiveSignal, ...] = ("logs", "spans")
_COLUMNS: dict[LiveSignal, str] = {
    "logs": f"seq, {rfc3339('timestamp')} AS time_text, level, message, pod, container, stream,"
    " trace_id, span_id, attributes, marks, deployment, build, service",
    "spans": "seq, id, trace_id, name, ended, pod, service, parent_span_id, status,"
    f" status_message, span_kind, attributes, events, {rfc3339('start_time')} AS start_text,"
    f" {rfc3339('end_time')} AS end_text, deployment, build, container",
}


def _where(target: Target, *, trace: bool = True) -> Where:
    where = Where()
    where.add("project = {project:String}", project=target.project_id)
    if target.deployment:
        where.add("deployment = {deployment:String}", deployment=target.deployment)
    if target.build:
        where.add("build = {build:String}", build=target.build)
    if target.uid:
        where.add("uid = {uid:String}", uid=target.uid)
    if target.trace and trace:
        where.add("trace_id = {trace:String}", trace=target.trace)
    return where


def _add_filter(where: Where, filter_: Filter) -> None:
    if filter_.level:
        where.add("level IN {levels:Array(String)}", levels=list(filter_.level))
    if filter_.stream:
        where.add("stream IN {streams:Array(String)}", streams=list(filter_.stream))
    if filter_.container:
        where.add("container IN {containers:Array(String)}", containers=list(filter_.container))
    if filter_.text:
        add_text(where, "message", filter_.text)


def _of_a_page(
    batches: Sequence[Mapping[str, Any]], after: int, most: int = BATCHES
) -> tuple[list[int], int | None]:
    """The first of these batches that are a page, and before which number: the others would be read
    and sorted for nothing.

    What lies across them (a hole in one of which another tells) belongs to them; where there are more
    than `most`, the page ends before the next of them, which begins after the page does.
    """
    found, numbers, reached = list[int](), 0, after
    for row in batches:
        first, last = int(row["first"]), int(row["last"])
        if numbers >= PAGE and first > reached:
            break
        if len(found) == most:
            return found, first if first <= reached else None
        found.append(int(row["batch"]))
        if last > reached:
            numbers += last - max(first - 1, reached)
            reached = last
    return found, None


def _record(row: _Log | _Span) -> Record:
    if isinstance(row, _Log):
        return LogRecord(
            row.seq, row.time_text, row.level, row.message, row.pod, row.container, row.stream,
            row.trace_id, row.span_id, _raw(row.attributes), row.marks, row.deployment, row.build,
            row.service,
        )  # fmt: skip
    return SpanRecord(
        row.seq, row.id, row.trace_id, row.name, row.start_text,
        row.end_text if row.ended else None, row.pod, row.service, row.parent_span_id, row.status,
        row.status_message, row.span_kind, _raw(row.attributes), _raw(row.events), row.deployment,
        row.build, row.container,
    )  # fmt: skip


def _raw(text: str) -> msgspec.Raw:
    if text in {"", "{}", "[]", "null"}:
        return NOTHING
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return NOTHING
    return msgspec.Raw(text.encode())


def _blocks(writer: str, records: Sequence[Record], size: int) -> list[Block]:
    """Records in order, of so many bytes, as runs without holes."""
    runs: list[list[Record]] = []
    for record in records:
        if runs and runs[-1][-1].seq + 1 == record.seq:
            runs[-1].append(record)
        else:
            runs.append([record])
    each = size // max(len(records), 1)
    return [Block(writer, run[0].seq, len(run), run, each * len(run)) for run in runs]
