"""Live streams under a flood: a gigabyte of subscriptions, and what another listener notices.

    python -m benchmarks.live_flood [--megabytes 1000] [--connections 100] [--rate 1000] [--seconds 30]

Method: one listener as in `benchmarks.live`, in a process of its own; then, while it listens, many
connections at once say one subscription after the other, each with a resume token of 2,000 writers
that nobody knows (250 kB), as fast as the gateway takes them: 1 MB/s and some (docs/live.md, Limits), so that
1,000 MB take a quarter of an hour. The row "while it comes" begins with the flood. *New*: once a second
somebody connects, subscribes with a history of 100, and is served when that has come (`live`). Memory
is the resident set of the `up` process (collector, ingester, ClickHouse and gateway in one), looked at
five times a second.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from statistics import median
from typing import Any

import aiohttp

from benchmarks.live import HEADING, measure, resident_kb, running_up
from benchmarks.open_files import allow_many

CHANNEL = "server:local.live"
WRITERS = 2_000
MESSAGES = 20
"""Of a connection."""
ANSWERS = ('{"type":"error"', '{"type":"subscribed"')


class Flood:
    """What was said, and answered."""

    def __init__(self) -> None:
        self.said = 0
        self.answers: Counter[str] = Counter()
        self._heard: dict[object, int] = {}

    async def pour(self, session: aiohttp.ClientSession, url: str, number: int, share: int) -> None:
        """One client's part of it, over as many connections as it needs."""
        left = share
        while left > 0:
            try:
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    left = await self._say(socket, number, left)
            except (aiohttp.ClientError, ConnectionError):
                self.answers["cut off"] += 1

    async def _say(self, socket: aiohttp.ClientWebSocketResponse, number: int, left: int) -> int:
        """Gives what is left of it after a connection's worth: its messages wait their turn, and
        a connection is not to seem dead meanwhile."""
        token = await _token(socket)
        token["seen"] |= {f"{number:06}{n:04}-{'x' * 95}/app/0@epoch": n for n in range(WRITERS)}
        rest = json.dumps({"channel": CHANNEL, "resume": token})[1:]
        hearing = asyncio.create_task(self._hear(socket))
        try:
            count = 0
            while left > 0 and count < MESSAGES:
                text = f'{{"type":"subscribe","id":"{count}",{rest}'
                await socket.send_str(text)
                count, left = count + 1, left - len(text)
                self.said += len(text)
            while self._heard.get(socket, 0) < count and not hearing.done():
                await asyncio.sleep(0.1)
            if hearing.done():
                self.answers["cut off"] += 1
        finally:
            hearing.cancel()
            self._heard.pop(socket, None)
        return left

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if not message.data.startswith(ANSWERS):
                continue  # lines are not looked at: it is the gateway that is measured
            said = json.loads(message.data)
            if said["type"] in {"error", "subscribed"}:
                self.answers[said.get("code", "accepted")] += 1
                self._heard[socket] = self._heard.get(socket, 0) + 1


async def _token(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """Where somebody is who has heard everything."""
    await socket.send_json({"type": "subscribe", "id": "first", "channel": CHANNEL})
    async for message in socket:
        said = json.loads(message.data)
        if said["type"] == "live":
            token: dict[str, Any] = said["resume"]
            await socket.send_json({"type": "unsubscribe", "id": "first"})
            return token
    raise SystemExit("the gateway hung up")


async def _newcomers(url: str, took: list[float]) -> None:
    """Milliseconds from a connection's begin to the end of its history."""

    async def comes() -> None:
        began = time.monotonic()
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            wish = {"type": "subscribe", "id": "new", "channel": CHANNEL, "history": 100}
            await socket.send_json(wish)
            while (await socket.receive_json())["type"] != "live":
                pass
        took.append((time.monotonic() - began) * 1_000)

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(comes())
            await asyncio.sleep(1)


async def _watch(pid: int, sizes: list[int]) -> None:
    while True:
        sizes.append(resident_kb(pid))
        await asyncio.sleep(0.2)


async def _measure(url: str, pid: int, options: argparse.Namespace) -> None:
    sizes: list[int] = []
    seconds = options.seconds
    print(f"{HEADING}{'memory MB':>11}{'new p50':>9}{'max ms':>9}")

    async def row(name: str) -> None:
        sizes.clear()
        new: list[float] = []
        coming = asyncio.create_task(_newcomers(url, new))
        found = await asyncio.to_thread(measure, name, url, pid, 1, seconds)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        print(
            f"{found.text()}{max(sizes) / 1000:>11.0f}{median(new):>9.0f}{max(new):>9.0f}",
            flush=True,
        )

    watching = asyncio.create_task(_watch(pid, sizes))
    await row("before")
    pouring = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.live_flood", "--pour", url,
        "--megabytes", str(options.megabytes), "--connections", str(options.connections),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await row("while it comes")
    told, _ = await pouring.communicate()
    await asyncio.sleep(10)
    await row("after")
    print(told.decode(), end="")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def _pour(url: str, megabytes: int, connections: int) -> None:
    flood, began = Flood(), time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for number in range(connections):
            share = megabytes * 1_000_000 // connections
            group.create_task(flood.pour(session, url, number, share))
    took = time.monotonic() - began
    print(f"{flood.said / 1e6:,.0f} MB in {took:.0f} s: {dict(flood.answers)}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Live streams under a flood of subscriptions.")
    parser.add_argument("--megabytes", type=int, default=1_000)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30, help="that a row takes (30)")
    parser.add_argument("--pour", metavar="URL", help="only say it, to this `/ws`")
    options = parser.parse_args()
    allow_many()
    if options.pour:
        os.nice(19)  # a flood comes from other machines; here it would take half of this one
        asyncio.run(_pour(options.pour, options.megabytes, options.connections))
        return
    with running_up() as (url, pid, rate):
        rate(options.rate)
        asyncio.run(_measure(url, pid, options))


if __name__ == "__main__":
    main()
