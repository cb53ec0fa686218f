"""One look at a server's health: an HTTP GET, or whether its port is open."""

import asyncio
import contextlib
from dataclasses import dataclass

from spanyard_local.servers.ports import LOOPBACK, Target

MAX_STATUS_LINE = 8 * 1024
"""Bytes; a server that sends more before its first newline speaks no HTTP."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found."""

    target: Target | None
    """Where it listens; None when nobody does."""
    trouble: str = ""
    """Why it is not well; empty when it is."""

    @property
    def well(self) -> bool:
        return not self.trouble


async def look(port: int, path: str, timeout: float) -> Look:
    """Look once, for at most `timeout` seconds. An empty path: an open port is well."""
    target: Target | None = None
    try:
        async with asyncio.timeout(timeout):
            for host in LOOPBACK:
                try:
                    reader, writer = await asyncio.open_connection(host, port)
                except OSError:
                    continue
                target = Target(host, port)
                try:
                    trouble = await _get(reader, writer, target, path) if path else ""
                finally:
                    await _close(writer)
                return Look(target, trouble)
    except TimeoutError:
        return Look(target, f"GET {path} did not answer within {timeout:g} s")
    except (OSError, ValueError) as error:
        return Look(target, f"GET {path} broke off: {error}")
    return Look(None, f"nobody listens on port {port}")


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target, path: str
) -> str:
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: spanyard-probe\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii", "ignore")
    )
    await writer.drain()
    line = (await reader.readline())[:MAX_STATUS_LINE].decode("latin-1").strip()
    version, _, rest = line.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/") or not code.isdigit():
        return f"GET {path} got no HTTP answer" + (f" but {line[:80]!r}" if line else "")
    return "" if 200 <= int(code) < 400 else f"GET {path} answered {rest[:80]}"


async def _close(writer: asyncio.StreamWriter) -> None:
    # Abort: the answer's body does not matter, and a slow server must not hold the next look.
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
