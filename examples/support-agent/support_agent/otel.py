"""OpenTelemetry as any service would set it up, with a count of what was acknowledged."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from support_agent.orders import Telemetry


class _Counts:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, signal: str, number: int) -> None:
        with self._lock:
            self._counts[signal] += number

    def get(self) -> dict[str, int]:
        with self._lock:
            return {signal: self._counts[signal] for signal in ("spans", "logs", "metrics")}


class _Spans(OTLPSpanExporter):
    counts: _Counts

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self.counts.add("spans", len(spans))
        return result


class _Logs(OTLPLogExporter):
    counts: _Counts

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = super().export(batch)
        if result is LogRecordExportResult.SUCCESS:
            self.counts.add("logs", len(batch))
        return result


class _Metrics(OTLPMetricExporter):
    counts: _Counts

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS:
            points = sum(
                len(metric.data.data_points)
                for resource in metrics_data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            )
            self.counts.add("metrics", points)
        return result


class OpenTelemetry(Telemetry):
    """Spans, logs and metrics of one service, sent by OTLP/HTTP."""

    def __init__(self, service: str) -> None:
        self._counts = _Counts()
        resource = Resource.create({"service.name": service})
        spans, logs, metrics = _Spans(), _Logs(), _Metrics()
        for exporter in (spans, logs, metrics):
            exporter.counts = self._counts
        self._traces = TracerProvider(resource=resource)
        self._traces.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=1000))
        self._logs = LoggerProvider(resource=resource)
        self._logs.add_log_record_processor(
            BatchLogRecordProcessor(logs, schedule_delay_millis=1000)
        )
        reader = PeriodicExportingMetricReader(metrics, export_interval_millis=5000)
        self._metrics = MeterProvider([reader], resource=resource)
        self._tracer = self._traces.get_tracer("order-service", "1.0")
        self._logger = self._logs.get_logger("order-service", "1.0")
        meter = self._metrics.get_meter("order-service", "1.0")
        self._duration = meter.create_histogram("http.server.request.duration", unit="s")
        self._failures = meter.create_counter("orders.failures", unit="{failure}")

    @contextlib.contextmanager
    def request(self, path: str, headers: Mapping[str, str]) -> Iterator[None]:
        """A server span in the caller's trace, a log record, two metrics."""
        began = time.monotonic()
        carrier = {name.lower(): value for name, value in headers.items()}
        with self._tracer.start_as_current_span(
            f"GET {path}",
            context=extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": "GET", "http.route": path},
        ) as span:
            status = 200
            try:
                yield
            except LookupError as error:
                status = 503
                span.set_status(StatusCode.ERROR, str(error))
                self._failures.add(1, {"reason": "restarting"})
                raise
            finally:
                span.set_attribute("http.response.status_code", status)
                failed = status != 200
                self._logger.emit(
                    LogRecord(
                        timestamp=time.time_ns(),
                        severity_number=SeverityNumber.WARN if failed else SeverityNumber.INFO,
                        severity_text="WARN" if failed else "INFO",
                        body=f"GET {path} {status}",
                        attributes={"http.response.status_code": status},
                    )
                )
                self._duration.record(
                    time.monotonic() - began, {"http.response.status_code": status}
                )

    def emitted(self) -> dict[str, int]:
        return self._counts.get()

    def flush(self) -> None:
        for provider in (self._traces, self._logs, self._metrics):
            provider.force_flush(10_000)

    def close(self) -> None:
        for provider in (self._traces, self._logs, self._metrics):
            provider.shutdown()
