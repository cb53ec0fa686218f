"""OTLP requests of known content, sent until there is no room for them."""

from tests.fakes.chain import Collector, send_otlp
from tests.unit.sidecar.otlp.requests import span_request

SPANS = 100
"""Per request; each about 2 kB."""


def send(collector: Collector, n: int) -> int:
    """Send request number `n`; its status. Refused for want of room, it says when to come again."""
    body = span_request(SPANS, name=f"request {n} span", size=2_000).SerializeToString()
    status, headers, _ = send_otlp(collector.otlp, "traces", body)
    assert status in {200, 503}
    assert status == 200 or int(headers["Retry-After"]) > 0
    return status


def until_turned_away(collector: Collector) -> range:
    """Send requests until one is turned away; their numbers, the last one's included."""
    n = 0
    while send(collector, n) == 200:
        n += 1
    return range(n + 1)


def names(sent: range) -> list[str]:
    """The names of the spans of these requests."""
    return [f"request {n} span {i}" for n in sent for i in range(SPANS)]
