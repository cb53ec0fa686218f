"""`python -m benchmarks [NAME …]`: run benchmarks, each in a process of its own, one after another.

Each prints a table of its own; docs/benchmarks.md shows what they printed, and on what.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

NAMES = {
    "collector": "container logs to an S3 server: lines per CPU-second, memory",
    "otlp": "OTLP over HTTP: spans per CPU-second, acknowledged durable",
    "ingester": "objects to rows against ClickHouse's own INSERT; upload to queryable",
    "operator": "a thousand Deployments against a real API server: writes, time, memory",
    "live": "from a line that is written to sockets that listen",
    "live_spans": "from what happens to a span to a socket that listens",
    "page": "a trace of 10,000 spans, a log of 1,000,000 lines in Chromium",
    "queries": "the gateway's lists and look-ups on millions of rows",
}


def _memory_gib() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return round(pages / 2**30)


def main() -> int:
    """Run the named ones, or all; the exit status is 1 when one of them failed."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Benchmarks. ARGS='collector otlp' runs some of them.",
        epilog="\n".join(f"{name}: {what}" for name, what in NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="|".join(NAMES))
    names = parser.parse_args().names or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    print(
        f"{os.cpu_count()} cores, {_memory_gib()} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    failed = []
    for name in names:
        print(f"\n== {name}: {NAMES[name]}", flush=True)
        root = Path(__file__).resolve().parents[1]
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], check=False, cwd=root
        ).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
