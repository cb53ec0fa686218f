"""A build that prints a million lines, and one whose artifact is large."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanyard_core.build_log import log_key
from spanyard_core.chunks import check_chunk
from tests.fakes.builds import Workshop, files

pytestmark = [pytest.mark.kill, pytest.mark.slow]

LINES = 1_000_000
PROGRAM = f"""
import sys
for a in range(0, {LINES}, 1000):
    sys.stdout.write("".join(f"line {{n}} of a build that prints many\\n" for n in range(a, a + 1000)))
"""


async def test_a_million_lines_are_stored_once_each_and_in_order(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, collect=True)
    files(shop.source, {"print.py": PROGRAM})
    began = time.monotonic()
    status = await shop.run(build=f"{sys.executable} -I -S print.py")
    took = time.monotonic() - began
    assert (status.phase, status.log_complete) == ("Succeeded", True)
    lines = [
        line
        for line in (await shop.storage.read(log_key("local.b"))).decode().splitlines()
        if line.startswith("line ")
    ]
    assert len(lines) == LINES
    for n, line in enumerate(lines):
        assert line == f"line {n} of a build that prints many"
    records = 0
    async for info in shop.storage.list("observability/logs/"):
        records += check_chunk(await shop.storage.read(info.key)).records
    assert LINES < records < LINES + 100
    print(f"{LINES:,} lines, from source to finished log: {took:.1f} s")
    assert took < 200
    await shop.storage.close()


def test_a_large_artifact_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    """Stored by a process of its own, whose peak is its own too."""
    blob = tmp_path / "artifact"
    with blob.open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(1 << 20))
    program = (
        "import asyncio, pathlib, resource, sys\n"
        "from spanyard_core.storage import open_storage\n"
        "async def main():\n"
        "    storage = open_storage(sys.argv[1])\n"
        "    await storage.write('small', b'x')\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    await storage.write_file('k', pathlib.Path(sys.argv[2]))\n"
        "    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print(after - before)\n"
        "    await storage.close()\n"
        "asyncio.run(main())\n"
    )
    url = (tmp_path / "bucket").as_uri()
    done = subprocess.run([sys.executable, "-c", program, url, str(blob)], check=True,
                          capture_output=True, text=True)  # fmt: skip
    unit = 1 if sys.platform == "darwin" else 1024
    grown = int(done.stdout) * unit
    print(f"300 MiB stored with {grown / (1 << 20):.1f} MiB of memory")
    assert grown < 64 << 20
    assert (tmp_path / "bucket" / "k").stat().st_size == 300 << 20
