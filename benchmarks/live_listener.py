"""The listening side of the benchmark of live streams: many sockets in one process, as cheap as can be.

    [SPANYARD_TOKEN=…] python -m benchmarks.live_listener URL CHANNEL SUBSCRIBERS SECONDS

Says that all have subscribed, waits for a line on its input, measures, and prints what it found. A
client of a library costs more per message than the gateway does, and would be what is measured.
"""

import asyncio
import json
import os
import re
import sys
import time
from urllib.parse import urlsplit

from benchmarks.open_files import allow_many

PRINTED = re.compile(rb"t=(\d+)")
HEAD_BYTES = 600
"""Of a message: its fields and the first line, which tells when it was printed."""
AT_ONCE = 50
_TOKEN = os.environ.get("SPANYARD_TOKEN", "")
_WHO = f"Authorization: Bearer {_TOKEN}\r\n" if _TOKEN else ""


class Measured:
    """What all listeners of the process heard."""

    def __init__(self) -> None:
        self.on = False
        self.latencies: list[float] = []
        self.dropped = 0
        self.live = asyncio.Semaphore(0)
        self.broken = 0


class Listener(asyncio.Protocol):
    """One socket: enough of RFC 6455 to read texts and answer pings."""

    def __init__(self, host: str, path: str, channel: str, measured: Measured) -> None:
        self._hello = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{_WHO}\r\n"
        ).encode()
        self._wish = json.dumps({"type": "subscribe", "id": "a", "channel": channel}).encode()
        self._measured = measured
        self._open = False
        self._data = b""
        self._left = 0
        """Bytes of the payload that are still to come."""
        self._opcode = 0
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self._measured.broken += 1

    def data_received(self, data: bytes) -> None:
        data = self._data + data
        if not self._open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._data = data
                return
            assert data.startswith(b"HTTP/1.1 101"), data[:200]
            self._open, data = True, data[end + 4 :]
            self._say(0x81, self._wish)
        at = 0
        while True:
            if not self._left:
                size = self._header(data, at)
                if not size:
                    break
                at += size
            piece = min(self._left, len(data) - at)
            if len(self._head) < HEAD_BYTES:
                self._head += data[at : at + min(piece, HEAD_BYTES)]
            at, self._left = at + piece, self._left - piece
            if self._left:
                break
            self._take()
        self._data = data[at:]

    def _header(self, data: bytes, at: int) -> int:
        """Its size; 0 when it is not all there."""
        have = len(data) - at
        if have < 2:
            return 0
        size, header = data[at + 1], 2
        if size >= 126:
            header = 4 if size == 126 else 10
            if have < header:
                return 0
            size = int.from_bytes(data[at + 2 : at + header])
        self._opcode, self._left, self._head = data[at] & 15, size, b""
        return header

    def _take(self) -> None:
        head = self._head
        if self._opcode == 9:
            self._say(0x8A, head)
        elif head.startswith(b'{"type":"live"'):
            self._measured.live.release()
        elif self._measured.on:
            if head.startswith(b'{"type":"dropped"'):
                self._measured.dropped += 1
            elif found := PRINTED.search(head):
                self._measured.latencies.append((time.time_ns() - int(found[1])) / 1e6)

    def _say(self, first: int, text: bytes) -> None:
        assert len(text) < 126
        self._transport.write(bytes((first, 0x80 | len(text), 0, 0, 0, 0)) + text)


async def listen(url: str, channel: str, subscribers: int, seconds: float) -> None:
    """Subscribe with all, then measure."""
    loop, measured = asyncio.get_running_loop(), Measured()
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    began = time.monotonic()
    for start in range(0, subscribers, AT_ONCE):
        count = min(AT_ONCE, subscribers - start)
        opening = [
            loop.create_connection(
                lambda: Listener(parts.netloc, parts.path, channel, measured),
                host,
                port,
            )
            for _ in range(count)
        ]
        await asyncio.gather(*opening)
        for _ in range(count):
            await asyncio.wait_for(measured.live.acquire(), 120)
    print(json.dumps({"subscribed_s": time.monotonic() - began}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    measured.on = True
    await asyncio.sleep(seconds)
    found = {
        "latencies": measured.latencies,
        "dropped": measured.dropped,
        "broken": measured.broken,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    allow_many()
    url_, channel_, subscribers_, seconds_ = sys.argv[1:]
    asyncio.run(listen(url_, channel_, int(subscribers_), float(seconds_)))
