"""OpenTelemetry's own SDK against the receiver, over real HTTP: arrives, is retried, is stored once.

Nothing of Spanyard is in the client: providers, processors and exporters are as an application has
them.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from aiohttp import web
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from spanyard_core.clock import SystemClock
from spanyard_core.serve import serving
from spanyard_sidecar.otlp.log import OtlpLog
from spanyard_sidecar.otlp.receiver import Receiver
from spanyard_sidecar.otlp.server import otlp_routes
from tests.fakes.otlp_server import all_lines, open_log
from tests.fakes.ports import own_port

RESOURCE = Resource({"service.name": "agent", "service.version": "1.2"})
COMPRESSIONS = pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])


@contextlib.asynccontextmanager
async def receiving(directory: Path, *, limit: int = 1 << 30) -> AsyncIterator[tuple[str, OtlpLog]]:
    log = await open_log(str(directory), limit=limit)
    app = web.Application()
    app.add_routes(otlp_routes(Receiver(log, SystemClock())))
    committer = asyncio.create_task(log.run(), name="committer of the OTLP log")
    try:
        async with serving(app, "127.0.0.1", 0, auto_decompress=False) as address:
            yield address.url, log
    finally:
        committer.cancel()
        await asyncio.gather(committer, return_exceptions=True)


def records(log: OtlpLog, signal_name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in all_lines(log).get(signal_name, [])]


def run_spans(url: str, compression: Compression) -> None:
    exporter = OTLPSpanExporter(f"{url}/v1/traces", compression=compression, timeout=60)
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("agent.loop", "0.1")
    with tracer.start_as_current_span("request", kind=SpanKind.SERVER) as root:
        for i in range(700):  # more than one batch of 512
            with tracer.start_as_current_span("step", attributes={"i": i, "ok": True}) as span:
                span.add_event("token", {"n": 1.5})
        with tracer.start_as_current_span("tool") as span:
            span.record_exception(ValueError("boom"))
            span.set_status(StatusCode.ERROR, "boom")
        root.add_link(span.get_span_context(), {"why": "cause"})
    assert provider.force_flush()
    provider.shutdown()


@COMPRESSIONS
async def test_traces_arrive_whole(tmp_path: Path, compression: Compression) -> None:
    async with receiving(tmp_path) as (url, log):
        await asyncio.to_thread(run_spans, url, compression)
        spans = records(log, "spans")
    assert len(spans) == 702
    by_name = {span["name"]: span for span in spans}
    root, tool = by_name["request"], by_name["tool"]
    assert root["spanKind"] == "server"
    assert root["links"][0]["spanId"] == tool["id"]
    assert root["links"][0]["attributes"] == {"why": "cause"}
    assert (tool["status"], tool["statusMessage"]) == ("error", "boom")
    assert tool["events"][0]["name"] == "exception"
    assert tool["events"][0]["attributes"]["exception.type"] == "ValueError"
    assert {span["traceId"] for span in spans} == {root["traceId"]}
    assert {span["parentSpanId"] for span in spans if span is not root} == {root["id"]}
    steps = sorted(span["attributes"]["i"] for span in spans if span["name"] == "step")
    assert steps == list(range(700))
    assert all(span["service"] == "agent" for span in spans)
    assert root["resource"] == {"service.name": "agent", "service.version": "1.2"}
    assert (root["scopeName"], root["scopeVersion"]) == ("agent.loop", "0.1")
    assert [span["seq"] for span in spans] == list(range(1, 703))


def run_logs(url: str, compression: Compression) -> None:
    exporter = OTLPLogExporter(f"{url}/v1/logs", compression=compression, timeout=60)
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("agent.log")
    for i in range(30):
        logger.emit(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"line {i}",
            attributes={"i": i, "nested": {"a": [1, "x"]}},
        )
    logger.emit(severity_number=SeverityNumber.ERROR, body={"question": "why?", "tries": 3})
    assert provider.force_flush()
    provider.shutdown()


@COMPRESSIONS
async def test_logs_arrive_whole(tmp_path: Path, compression: Compression) -> None:
    async with receiving(tmp_path) as (url, log):
        await asyncio.to_thread(run_logs, url, compression)
        logs = records(log, "logs")
    assert [line["message"] for line in logs[:30]] == [f"line {i}" for i in range(30)]
    assert logs[0]["attributes"] == {"i": 0, "nested": {"a": [1, "x"]}}
    assert {line["level"] for line in logs[:30]} == {"warn"}
    assert msgspec.json.decode(logs[30]["message"]) == {"question": "why?", "tries": 3}
    assert logs[30]["level"] == "error"


def run_metrics(url: str, compression: Compression) -> None:
    exporter = OTLPMetricExporter(f"{url}/v1/metrics", compression=compression, timeout=60)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    view = View(instrument_name="spread", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=RESOURCE, views=[view])
    meter = provider.get_meter("agent.meter")
    meter.create_counter("requests", unit="1", description="how many").add(3, {"route": "/a"})
    meter.create_up_down_counter("in_flight").add(-2)
    meter.create_gauge("temperature").set(36.6)
    latency = meter.create_histogram("latency", unit="ms")
    spread = meter.create_histogram("spread")
    for value in (1, 7, 30, 800):
        latency.record(value)
        spread.record(value)
    assert provider.force_flush()
    provider.shutdown()


@COMPRESSIONS
async def test_metrics_arrive_whole(tmp_path: Path, compression: Compression) -> None:
    async with receiving(tmp_path) as (url, log):
        await asyncio.to_thread(run_metrics, url, compression)
        # The last collection at shutdown sends the sums once more.
        points = {point["name"]: point for point in reversed(records(log, "metrics"))}
    requests = points["requests"]
    assert (requests["kind"], requests["value"], requests["unit"]) == ("counter", 3, "1")
    assert (requests["temporality"], requests["attributes"]) == ("cumulative", {"route": "/a"})
    assert (points["in_flight"]["kind"], points["in_flight"]["value"]) == ("updowncounter", -2)
    assert (points["temperature"]["kind"], points["temperature"]["value"]) == ("gauge", 36.6)
    for name in ("latency", "spread"):
        point = points[name]
        assert (point["kind"], point["count"], point["value"]) == ("histogram", 4, 838)
        assert (point["min"], point["max"]) == (1, 800)
        assert len(point["bucketCounts"]) == len(point["bounds"]) + 1
        assert sum(point["bucketCounts"]) == 4


async def test_the_sdk_comes_again_after_503_and_it_is_stored_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with receiving(tmp_path, limit=4096) as (url, log):

        async def make_room() -> None:
            while not log.counts.turned_away:
                await asyncio.sleep(0.01)
            log._appender._budget.limit = 1 << 30

        await asyncio.gather(
            asyncio.to_thread(run_spans, url, Compression.NoCompression), make_room()
        )
        spans = records(log, "spans")
    assert "retrying in 2.00s" in caplog.text  # the server's Retry-After
    assert len(spans) == len({span["id"] for span in spans}) == 702


@contextlib.contextmanager
def server_process(
    directory: Path, port: int, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.otlp_server", str(directory), str(port)],
        cwd=root,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.kill
@pytest.mark.parametrize(
    ("point", "compression"),
    [("otlp.durable", Compression.Gzip), ("otlp.appended", Compression.NoCompression)],
)
def test_killed_before_its_answer_the_sdk_sends_again_and_it_is_stored_once(
    tmp_path: Path, point: str, compression: Compression
) -> None:
    port = own_port()
    log_file = tmp_path / "faults"
    exporter = OTLPSpanExporter(
        f"http://127.0.0.1:{port}/v1/traces", compression=compression, timeout=60
    )
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("agent.loop")
    with contextlib.ExitStack() as stack:
        environment = {"SPANYARD_FAULT": f"{point}:2", "SPANYARD_FAULT_LOG": str(log_file)}
        first = stack.enter_context(server_process(tmp_path / "otlp", port, **environment))
        tracer.start_span("before").end()
        assert provider.force_flush()
        for i in range(100):
            tracer.start_span(f"step {i}").end()

        def restart() -> None:
            assert first.wait(60) == -signal.SIGKILL
            stack.enter_context(server_process(tmp_path / "otlp", port))

        restarting = Thread(target=restart)
        restarting.start()
        assert provider.force_flush()
        restarting.join()
        tracer.start_span("after").end()
        assert provider.force_flush()
        provider.shutdown()
    assert point in log_file.read_text().split()

    async def read() -> list[dict[str, Any]]:
        log = await open_log(str(tmp_path / "otlp"))
        try:
            return records(log, "spans")
        finally:
            log.close()

    spans = asyncio.run(read())
    names = ["before", *(f"step {i}" for i in range(100)), "after"]
    assert [span["name"] for span in spans] == names
    assert [span["seq"] for span in spans] == list(range(1, 103))
