"""Records of every signal that tests of the gateway load: pages, filters, trees, losses."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spanyard_core.clickhouse import Database
from spanyard_core.clock import rfc3339
from spanyard_core.records import (
    AnyLine,
    GapLine,
    LogLine,
    MetricLine,
    ScoreLine,
    Signal,
    SpanEvent,
    SpanLine,
    TraceLine,
)
from spanyard_ingester.warehouse import LedgerRow, QuarantineRow
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from tests.fakes.gateway_api import T0, load

PROJECT = "local.support"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def at(ns: int) -> str:
    return rfc3339(T0 + ns)


def logs() -> list[AnyLine]:
    return [
        LogLine(
            project=PROJECT, writer="uid/server/0@e", seq=i, deployment="agent", pod="agent-0",
            container="server", stream="stdout", service="agent",
            recorded_at="" if i == 5 else at(i // 3),  # left out, it is the line's own time
            timestamp=at(i // 3),  # three lines share a nanosecond: the cursor must tell them apart
            level=("info", "error", "warn")[i % 3], message=f"line {i} Straße\t\x07",
            trace_id=TRACE if i == 5 else "", span_id="b7ad6b7169203331" if i == 5 else "",
            attributes={"user": f"u{i % 2}", "n": i, "deep": {"a": 1}},
        )
        for i in range(1, 51)
    ]  # fmt: skip


def spans() -> list[AnyLine]:
    def span(seq: int, **more: Any) -> SpanLine:
        values: dict[str, Any] = {
            "project": PROJECT, "writer": "uid/spans@e", "seq": seq, "deployment": "agent",
            "service": "agent", "recorded_at": at(seq), "trace_id": TRACE, "name": "step",
            "start_time": at(seq * 1000), "end_time": at(seq * 1000 + 250_000_000),
        } | more  # fmt: skip
        return SpanLine(**values)

    return [
        span(1, id="00000000000000a1", name="answer", status="error", status_message="tool failed"),
        span(
            2, id="00000000000000a2", parent_span_id="00000000000000a1", name="chat",
            span_kind="client",
            attributes={
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1",
                "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30,
            },
            events=[
                SpanEvent("exception", at(2500), {"exception.type": "Timeout", "exception.message": "slow"}),
                SpanEvent("retry", at(2500), {"n": "1"}),
            ],
        ),
        span(3, id="00000000000000a3", parent_span_id="00000000000000a1", name="tool", end_time=None),
        span(4, id="00000000000000a3", parent_span_id="00000000000000a1", name="tool"),
        span(5, id="00000000000000a4", parent_span_id="00000000000000a1", name="hung", end_time=None),
        span(6, id="00000000000000b1", trace_id="f" * 32, name="other"),
    ]  # fmt: skip


def others() -> dict[Signal, list[AnyLine]]:
    return {
        "metrics": [
            MetricLine(project=PROJECT, writer="uid/metrics@e", seq=1, name="requests", kind="counter", value=3.0, timestamp=at(1), temporality="delta", attributes={"route": "/ask"}),
            MetricLine(project=PROJECT, writer="uid/metrics@e", seq=2, name="latency", kind="histogram", value=1.5, timestamp=at(2), count=3, bounds=[0.1, 1.0], bucket_counts=[1, 1, 1]),
            MetricLine(project=PROJECT, writer="uid/metrics@e", seq=3, name="odd", kind="gauge", value="NaN", timestamp=at(3)),
        ],
        "scores": [ScoreLine(project=PROJECT, writer="uid/scores@e", seq=1, name="helpful", value=0.5, timestamp=at(1), trace_id=TRACE, comment="so so")],
        "traces": [TraceLine(project=PROJECT, writer="uid/traces@e", seq=1, id="e" * 32, name="told", start_time=at(9_000_000), end_time=at(10_000_000), status="ok", input={"q": 1}, output="yes")],
        "gaps": [
            GapLine(project=PROJECT, writer="uid/server/0@e/meta", seq=1, event="begin", timestamp=at(0), subject="uid/server/0@e", deployment="agent"),
            GapLine(project=PROJECT, writer="uid/server/0@e/meta", seq=2, event="gap", timestamp=at(1), subject="uid/server/0@e", cause="rotated-away", message="two files", after_seq=10, bytes=100),
            GapLine(project=PROJECT, writer="uid/server/0@e/meta", seq=3, event="end", timestamp=at(2), subject="uid/server/0@e", after_seq=52),
        ],
    }  # fmt: skip


def written(signal: Signal) -> list[AnyLine]:
    """What was written of a signal."""
    every: dict[Signal, list[AnyLine]] = {"logs": logs(), "spans": spans(), **others()}
    return every[signal]


async def load_all(db: Database, folder: Path) -> None:
    """Store all of it, with its ledger and one line in quarantine."""
    warehouse = ClickHouseWarehouse(db)
    tables: dict[Signal, list[AnyLine]] = {"logs": logs(), "spans": spans(), **others()}
    for attempt, (signal, lines) in enumerate(tables.items(), start=1):
        await load(db, folder, attempt, signal, lines)
        await warehouse.ledger_copy([
            LedgerRow(shard=0, n=attempt, attempt=attempt, key=f"k{attempt}", writer=lines[0].writer,
                      seq_from=1, seq_to=len(lines), records=len(lines), source="40:abc",
                      source_from=0, source_to=100 * attempt, source_pending=((7, 9),), signal=signal,
                      project=PROJECT, status="committed", time=datetime.now(UTC))
        ])  # fmt: skip
    when = datetime.fromtimestamp(1_795_000_000, UTC)
    await warehouse.quarantine_add([
        QuarantineRow(id="q1", project=PROJECT, signal="logs", key="observability/x", writer="uid/server/0@e",
                      line=51, offset=900, reason="not JSON", bytes=b"\xff{", size=2, created_at=when, updated_at=when)
    ])  # fmt: skip
