"""An application as anybody writes it: OpenTelemetry's API and the standard library's logging.
`opentelemetry-instrument` brings the SDK, and variables say where to."""

import logging

from opentelemetry import metrics, trace

log = logging.getLogger("agent")
asked = metrics.get_meter("agent").create_counter("questions", unit="1")

with trace.get_tracer("agent").start_as_current_span("question") as span:
    span.set_attribute("gen_ai.request.model", "m-1")
    asked.add(3, {"kind": "order"})
    log.warning("order %d is late", 4711)
