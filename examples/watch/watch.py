"""Watches a deployment over the gateway's live streams: warnings and errors as they are printed.

    python watch.py local.support-agent [http://127.0.0.1:8080]

Ends when the deployment is deleted, or with Ctrl-C. A gateway that goes away and comes back leaves
no gap: the client goes on where it was, and what could not be had is told.
"""

import asyncio
import sys

from spanyard_local.live_client import (
    Dropped,
    Lines,
    LiveClient,
    LiveError,
    Lost,
    Over,
    ServerHealth,
)


async def watch(deployment: str, address: str) -> None:
    """Print until it is over."""
    async with LiveClient(address) as live:
        wanted: dict[str, object] = {"level": ["warn", "error", "fatal"]}
        await live.subscribe(f"server:{deployment}", history=10, filter=wanted)
        async for event in live:
            if isinstance(event, Lines):
                for item in event.items:
                    print(item.timestamp, item.level, item.line, flush=True)
            elif isinstance(event, ServerHealth):
                print(
                    f"{event.server_id} is {'healthy' if event.healthy else event.reason}",
                    flush=True,
                )
            elif isinstance(event, Dropped):
                print(f"{event.count} lines are missing: {event.reason}", file=sys.stderr)
            elif isinstance(event, Lost):
                print(f"{event.reason}; trying again", file=sys.stderr)
            elif isinstance(event, Over):
                raise SystemExit(event.message)


if __name__ == "__main__":
    try:
        asyncio.run(
            watch(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8080")
        )
    except LiveError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
