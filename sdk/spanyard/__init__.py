"""What applications import: spans, logs, metrics and scores as span files.

    import spanyard

    with spanyard.span("plan", attributes={"gen_ai.operation.name": "chat"}) as span:
        span.set({"gen_ai.usage.input_tokens": 120})
        spanyard.log.info("planned", steps=3)
    spanyard.metrics.counter("questions").add(1, {"kind": "billing"})

Without `SPANYARD_SPANS_DIR` all of this does nothing; `spanyard.stats()` says so. Nothing raises
into the application, neither for a disk that is full or away nor for arguments that make no sense:
`spanyard.stats()` counts it. One line is written per event, at once, so that even a kill loses
nothing that was recorded.
"""

from pathlib import Path

from spanyard._places import traceparent
from spanyard._process import close as shutdown
from spanyard._process import stats
from spanyard._process import use as _use
from spanyard._settings import Settings
from spanyard._signals import (
    Counter,
    Gauge,
    Histogram,
    Log,
    Metrics,
    UpDownCounter,
    score,
)
from spanyard._sink import Stats
from spanyard._spans import NoSpan, Span, Trace, span, trace
from spanyard.writer import FlushResult, ObservabilityWriter, WriterClosedError, WriterStats

log = Log()
metrics = Metrics()


def configure(
    *,
    spans_dir: str | Path = "",
    file_size: int = 10_000_000,
    starts: bool = True,
    service: str = "",
) -> None:
    """Set up in code instead of by variables. Raises SettingError for what cannot be."""
    _use(Settings(spans_dir=str(spans_dir), file_size=file_size, starts=starts, service=service))


__all__ = [
    "Counter",
    "FlushResult",
    "Gauge",
    "Histogram",
    "NoSpan",
    "ObservabilityWriter",
    "Span",
    "Stats",
    "Trace",
    "UpDownCounter",
    "WriterClosedError",
    "WriterStats",
    "configure",
    "log",
    "metrics",
    "score",
    "shutdown",
    "span",
    "stats",
    "trace",
    "traceparent",
]
