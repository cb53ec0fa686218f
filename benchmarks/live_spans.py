"""Live spans: from the moment something happens to a span to its arrival on a socket.

    python -m benchmarks.live_spans [--rate 100] [--seconds 20]

Method: a server under `spanyard up` makes spans with the SDK, begins each, updates it and ends it, and
says in an attribute when it did. Another process listens to them and takes, of every span in every
message, the time since then, by what happened to it.
"""

import argparse
import asyncio
import json
import time
from statistics import quantiles

import aiohttp

from benchmarks.live import HEAD, running_up

SERVER = (
    HEAD
    + """
import spanyard
while True:
    with spanyard.span("step", attributes={"at": time.time_ns()}) as step:
        time.sleep(0.5 / rate[0])
        step.set(at=time.time_ns()).update()
        time.sleep(0.5 / rate[0])
        step.set(at=time.time_ns())
"""
)
CHANNEL = "project:local.live"
KINDS = ("span:started", "span:updated", "span:ended")


async def measure(url: str, seconds: float) -> dict[str, list[float]]:
    """What happened → milliseconds of each span."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"type": "subscribe", "id": "a", "channel": CHANNEL})
        live, until = False, time.monotonic() + seconds
        while time.monotonic() < until:
            message = await socket.receive_json(timeout=60)
            live = live or message["type"] == "live"
            if live and message["type"] in KINDS:
                now = time.time_ns()
                found[message["type"]] += [
                    (now - int(item["attributes"]["at"])) / 1e6 for item in message["items"]
                ]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Live streams: spans.")
    parser.add_argument("--rate", type=int, default=100, help="spans per second (100)")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with running_up(SERVER) as (url, _, rate):
        rate(options.rate)
        time.sleep(2)
        found = asyncio.run(measure(url, options.seconds))
    print(f"{'happened → socket':<24}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'a second':>10}")
    for kind, times in found.items():
        if len(times) < 100:
            raise SystemExit(f"{kind}: {json.dumps(times)[:500]}: too few to speak of")
        cuts = quantiles(times, n=100)
        print(
            f"{kind:<24}{cuts[49]:>9.1f}{cuts[98]:>9.1f}{max(times):>9.1f}"
            f"{len(times) / options.seconds:>10.0f}"
        )


if __name__ == "__main__":
    main()
