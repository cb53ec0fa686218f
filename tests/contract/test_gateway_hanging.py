"""Unfinished spans over the real engine: what hangs, what is lost, and the scores beside them."""

import time
from pathlib import Path

import msgspec
import pytest

from spanyard_core.clickhouse import database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import rfc3339
from spanyard_core.records import GapLine, LogLine, ScoreLine, SpanLine, TraceLine
from spanyard_core.storage import open_storage
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import load, running_gateway

pytestmark = [pytest.mark.engine, pytest.mark.asyncio]
PROJECT = "local.support"


def ago(seconds: float) -> str:
    """Before now, not before the file was loaded: other tests may run for long in between."""
    return rfc3339(time.time_ns() - round(seconds * 10**9))


def span(seq: int, trace: str, name: str, parent: str, heard: float, *, writer: str) -> SpanLine:
    return SpanLine(
        project=PROJECT, writer=writer, seq=seq, trace_id=trace, id=f"{trace}-{name}", name=name,
        parent_span_id=f"{trace}-{parent}" if parent else "", start_time=ago(heard),
        end_time=None, recorded_at=ago(heard), pod=writer.split("/", maxsplit=1)[0],
    )  # fmt: skip


def told(event: str, seq: int, seconds: float, writer: str) -> GapLine:
    return GapLine(project=PROJECT, writer=f"{writer}/meta", seq=seq, event=event, subject=writer,
                   signal="spans", timestamp=ago(seconds), after_seq=9)  # type: ignore[arg-type]  # fmt: skip


async def test_what_hangs_and_what_is_lost_is_told_of_spans_and_traces_alike(
    tmp_path: Path,
) -> None:
    here, gone = "pod/spans@e", "left/spans@e"
    async with database(engine_url()) as db:
        await migrate(db)
        await load(db, tmp_path, 1, "spans", [
            # Who waits for a child that works does not hang; the child beside it does.
            span(1, "busy", "root", "", 3_000, writer=here),
            span(2, "busy", "works", "root", 10, writer=here),
            span(3, "busy", "stuck", "root", 2_000, writer=here),
            span(4, "silent", "root", "", 2_500, writer=here),
        ])  # fmt: skip
        await load(db, tmp_path, 2, "spans", [span(1, "left", "root", "", 100, writer=gone)])
        await load(db, tmp_path, 3, "gaps", [told("begin", 1, 4_000, here)])
        await load(
            db, tmp_path, 4, "gaps", [told("begin", 1, 4_000, gone), told("end", 2, 90, gone)]
        )
        await load(db, tmp_path, 5, "scores", [
            ScoreLine(project=PROJECT, writer="s", seq=n, name=name, value=value, trace_id="busy", timestamp=ago(50 - n))
            for n, (name, value) in enumerate([("good", 0.1), ("good", 0.9), ("fast", 1.0)], start=1)
        ])  # fmt: skip
        await load(db, tmp_path, 6, "traces", [
            TraceLine(project=PROJECT, writer=gone, seq=1, id="report", name="told", start_time=ago(80), end_time=None, recorded_at=ago(80)),
        ])  # fmt: skip
        await load(db, tmp_path, 7, "logs", [
            LogLine(project=PROJECT, writer="pod/server/0@e", seq=1, level="info", message="one", timestamp=ago(9)),
        ])  # fmt: skip
        await load(db, tmp_path, 8, "logs", [
            LogLine(project=PROJECT, writer="pod/server/1@e", seq=1, level="info", message="two", timestamp=ago(9)),
        ])  # fmt: skip
        # What another project says under the same ids is no word of ours.
        foreign = span(1, "silent", "root", "", 5, writer="pod/other@e")
        theirs = msgspec.structs.replace(foreign, project="other.support")
        await load(db, tmp_path, 9, "spans", [theirs])
        ended = [told("begin", 1, 4_000, "pod/spans@e"), told("end", 2, 90, "pod/spans@e")]
        lies = [msgspec.structs.replace(one, project="other.support") for one in ended]
        await load(db, tmp_path, 10, "gaps", list(lies))
        storage = open_storage(f"file://{tmp_path}/bucket")
        async with running_gateway(db, storage) as api:
            traces = {t["id"]: t for t in await api.all_pages(f"/projects/{PROJECT}/traces")}
            assert {id_: (t["hung"], t["lost"]) for id_, t in traces.items()} == {
                "busy": (False, False), "silent": (True, False), "left": (False, True), "report": (False, True),
            }  # fmt: skip
            assert traces["busy"]["scores"] == {"good": 0.9, "fast": 1.0}
            expected = {
                "busy-root": (False, False), "busy-works": (False, False), "busy-stuck": (True, False),
                "silent-root": (True, False), "left-root": (False, True),
            }  # fmt: skip
            spans = await api.all_pages(f"/projects/{PROJECT}/spans", open="true")
            assert {s["id"]: (s["hung"], s["lost"]) for s in spans} == expected
            detail = await api.get("/traces/busy")
            assert all((s["hung"], s["lost"]) == expected[s["id"]] for s in detail["spans"])
            assert (await api.get("/spans/left-root"))["lost"] is True
            [line] = await api.all_pages(f"/projects/{PROJECT}/logs", writer="pod/server/1@e")
            assert line["message"] == "two"
        async with running_gateway(db, storage, hung_after=7_200.0) as api:
            spans = await api.all_pages(f"/projects/{PROJECT}/spans", open="true")
            assert not any(s["hung"] for s in spans)
        await storage.close()
