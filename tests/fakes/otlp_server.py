"""The OTLP receiver as a process of its own: real files, real HTTP, nothing behind the log.

    python -m tests.fakes.otlp_server DIRECTORY [PORT]

Prints `http://127.0.0.1:port` when it serves. For kill tests and the benchmark.
"""

import asyncio
import contextlib
import sys

from aiohttp import web

from spanyard_core.clock import SystemClock
from spanyard_core.files import SystemFiles
from spanyard_core.serve import serving
from spanyard_sidecar.budget import DiskBudget
from spanyard_sidecar.model import Identity
from spanyard_sidecar.otlp.log import OtlpLog
from spanyard_sidecar.otlp.receiver import Receiver
from spanyard_sidecar.otlp.server import otlp_routes
from spanyard_sidecar.otlp.source import OtlpSources

IDENTITY = Identity(project="default.agent", pod="agent-1", pod_uid="0b54dbb9", uid="u-1")
EPOCH = "abcdefgh"


async def open_log(directory: str, *, limit: int = 1 << 30) -> OtlpLog:
    """The log of this identity on the real disk."""
    return await OtlpLog.open(
        SystemFiles(),
        SystemClock(),
        directory,
        identity=IDENTITY,
        epoch=EPOCH,
        budget=DiskBudget(limit),
    )


def all_lines(log: OtlpLog) -> dict[str, list[bytes]]:
    """Signal → all lines that the log's sources give."""
    found: dict[str, list[bytes]] = {}
    for source in OtlpSources(log).scan({}, EPOCH):
        lines = found.setdefault(source.signal, [])
        while (block := source.read(128 * 1024)) is not None:
            assert not block.gaps
            lines += block.lines.splitlines()
        source.close()
    return found


async def serve(directory: str, port: int) -> None:
    log = await open_log(directory)
    app = web.Application()
    app.add_routes(otlp_routes(Receiver(log, SystemClock())))
    committer = asyncio.create_task(log.run(), name="committer of the OTLP log")
    async with serving(app, "127.0.0.1", port, auto_decompress=False) as address:
        print(address.url, flush=True)
        await committer


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
