"""The client of `/ws` (docs/live.md) for Python: what collectors read right now, without a gap.

    async with LiveClient("http://127.0.0.1:8080") as live:
        await live.subscribe("server:local.support-agent", history=100)
        async for event in live:
            if isinstance(event, Lines):
                for item in event.items:
                    print(item.line)

Needs aiohttp and nothing else of this package.
"""

from spanyard_local.live_client.client import LiveClient
from spanyard_local.live_client.errors import (
    AwayError,
    LiveError,
    NoLiveError,
    NotAdmittedError,
    NoTokenError,
    ProtocolError,
)
from spanyard_local.live_client.events import (
    Back,
    BuildStatus,
    DeploymentStatus,
    Dropped,
    Event,
    Line,
    Lines,
    Live,
    Lost,
    Over,
    Partial,
    Passed,
    Resume,
    ServerHealth,
    Span,
    Spans,
    Subscribed,
)

__all__ = [
    "AwayError", "Back", "BuildStatus", "DeploymentStatus", "Dropped", "Event", "Line", "Lines",
    "Live", "LiveClient", "LiveError", "Lost", "NoLiveError", "NoTokenError", "NotAdmittedError", "Over", "Partial",
    "Passed", "ProtocolError", "Resume", "ServerHealth", "Span", "Spans", "Subscribed",
]  # fmt: skip
