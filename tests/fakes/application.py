"""An application as a process: span files by the SDK, OTLP by OpenTelemetry's own SDK.

    python -m tests.fakes.application PREFIX COUNT [--otlp-only | --files-only]

It knows nothing of the collector but the variables that a pod gets. Names carry PREFIX and a
number; what it recorded goes to stdout as one JSON object of signal → names.
"""

import json
import sys
import time
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import spanyard

PATIENCE_S = 60
"""An SDK gives up after 10 s by default: on a busy machine, a collector takes longer to come back."""


def span_files(prefix: str, count: int) -> dict[str, list[str]]:
    """Everything that goes into span files."""
    with spanyard.trace(f"{prefix}-file-trace"):
        for i in range(count):
            with spanyard.span(f"{prefix}-file-span-{i}", attributes={"i": i}):
                spanyard.log.info(f"{prefix}-file-log-{i}", i=i)
            spanyard.metrics.counter(f"{prefix}-file-metric-{i}").add(1, {"kind": "test"})
        spanyard.score(f"{prefix}-file-score", 0.5)
    spanyard.shutdown()
    return {
        "spans": [f"{prefix}-file-span-{i}" for i in range(count)],
        "logs": [f"{prefix}-file-log-{i}" for i in range(count)],
        "metrics": [f"{prefix}-file-metric-{i}" for i in range(count)],
        "scores": [f"{prefix}-file-score"],
    }


def otlp(prefix: str, count: int) -> dict[str, list[str]]:
    """Everything that goes over OTLP, by the endpoint variable, gzip."""
    gzip: dict[str, Any] = {"compression": Compression.Gzip, "timeout": PATIENCE_S}
    tracers = TracerProvider()
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(**gzip), schedule_delay_millis=100)
    )
    loggers = LoggerProvider()
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(**gzip), schedule_delay_millis=100)
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(**gzip),
        export_interval_millis=3_600_000,
        export_timeout_millis=PATIENCE_S * 1000,
    )
    meters = MeterProvider([reader])
    tracer = tracers.get_tracer("application")
    logger = loggers.get_logger("application")
    meter = meters.get_meter("application")
    for i in range(count):
        with tracer.start_as_current_span(f"{prefix}-otlp-span-{i}", attributes={"i": i}):
            logger.emit(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                body=f"{prefix}-otlp-log-{i}",
            )
    for i in range(10):
        meter.create_counter(f"{prefix}-otlp-metric-{i}").add(1)
    for provider in (tracers, loggers):
        if not provider.force_flush():
            raise SystemExit("OTLP was not taken")
        provider.shutdown()
    meters.shutdown(PATIENCE_S * 1000)  # collects once, and sends
    return {
        "spans": [f"{prefix}-otlp-span-{i}" for i in range(count)],
        "logs": [f"{prefix}-otlp-log-{i}" for i in range(count)],
        "metrics": [f"{prefix}-otlp-metric-{i}" for i in range(10)],
    }


def main() -> None:
    prefix, count, *flags = sys.argv[1:]
    recorded: dict[str, list[str]] = {}
    if "--otlp-only" not in flags:
        recorded = span_files(prefix, int(count))
    if "--files-only" not in flags:
        for signal, names in otlp(prefix, int(count)).items():
            recorded[signal] = recorded.get(signal, []) + names
    print(json.dumps(recorded))


if __name__ == "__main__":
    main()
