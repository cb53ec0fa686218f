"""A server that prints 50,000 lines in a second, from its process to the bucket."""

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import zstandard

from spanyard_core.storage import open_storage
from spanyard_local.pods import Pods
from tests.fakes.deployed import Deployed, deployed, is_ready
from tests.unit.servers.manifests import build, deployment

RATE = 50_000
SECONDS = 4
PRINTER = f"""
import http.server, os, sys, threading, time
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.BaseHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
time.sleep(1)
batch, began, n = {RATE} // 100, time.monotonic(), 0
for turn in range(100 * {SECONDS}):
    os.write(1, b"".join(b"line %d: the order of user 4711 was answered in 12 ms\\n" % (n + i) for i in range(batch)))
    n += batch
    time.sleep(max(0, began + (turn + 1) / 100 - time.monotonic()))
open("done", "w").write(f"{{n}} {{time.monotonic() - began}} {{time.process_time()}}")
time.sleep(600)
"""


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shim_of(it: Deployed) -> int:
    """The shim's process id: this process's only child that is a Python with the shim in it."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    found = [
        c for c in children if b"spanyard_local.shim" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]
    assert len(found) == 1, found
    return int(found[0])


def stored(bucket: Path) -> Counter[str]:
    """Messages of all log records in the bucket."""
    found: Counter[str] = Counter()
    for path in bucket.rglob("observability/**/*.zst"):
        with (
            path.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as plain,
        ):
            lines = plain.read().splitlines()
        records = map(msgspec.json.decode, lines)
        found.update(r["message"] for r in records if r.get("type") == "log")
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="CPU of other processes is read in /proc")
async def test_fifty_thousand_lines_a_second_are_stored_once_and_cost_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    storage = open_storage(bucket.as_uri())
    pods = Pods(tmp_path / "runs", storage=lambda identity: storage)
    async with deployed(tmp_path, pods=pods) as it:
        await it.build(build("b1"), {"server.py": PRINTER})
        it.want(deployment(command="python3 server.py"))
        await it.until(is_ready)
        shim = shim_of(it)
        shim_before, ours_before, began = cpu(shim), time.process_time(), time.monotonic()
        done = None
        async with asyncio.timeout(120):
            while done is None or len(done.read_text().split()) < 3:
                await asyncio.sleep(0.1)
                done = next((tmp_path / "runs").glob("*/app/done"), None)
        lines, took, server_cpu = done.read_text().split()
        shim_cpu = cpu(shim) - shim_before
    ours_cpu = time.process_time() - ours_before
    await storage.close()
    with capsys.disabled():
        print(
            f"\n{int(lines):,} lines in {float(took):.1f} s; seconds of CPU per million: "
            f"server {float(server_cpu) / int(lines) * 1e6:.1f}, "
            f"shim {shim_cpu / int(lines) * 1e6:.1f}, "
            f"collector {ours_cpu / int(lines) * 1e6:.1f}; "
            f"all stored {time.monotonic() - began - 1 - float(took):.1f} s after the last"
        )
    found = stored(bucket)
    expected = {
        f"line {n}: the order of user 4711 was answered in 12 ms" for n in range(RATE * SECONDS)
    }
    assert set(found) == expected
    assert set(found.values()) == {1}
    assert list((tmp_path / "runs").iterdir()) == []  # drained: nothing waits for another `up`
    # 2.7 µs per line on two cores of 2026, an eighth of a core at this rate; ten times that is wrong
    # on any machine.
    assert (shim_cpu + ours_cpu) / int(lines) < 27e-6
