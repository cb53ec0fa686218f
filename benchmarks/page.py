"""The page in Chromium: a trace of 10,000 spans, a log of 1,000,000 lines.

    python -m benchmarks.page [--spans 10000] [--lines 1000000]

Method: `spanyard up` runs a server that writes the spans and prints the lines when it is asked to. *Drawn* is
the time from the last byte of the trace's answer to the second frame in which its rows stand: decoding,
tree, waterfall, layout, paint. *Scroll* is 120 wheel turns of 600 px over the whole list: the time between
frames, of which 16.7 ms is the screen's own. Without a graphics card: Chromium paints in software.
"""

import argparse
import json
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.e2e.browser import Tab, installed, tab
from tests.fakes.up import ROOT, Up

SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
import spanyard
def grow(left, depth):
    while left[0] > 0:
        left[0] -= 1
        with spanyard.span(f"step {left[0]}"):
            if depth < 6 and left[0] % 3:
                grow(left, depth + 1)
        if depth and left[0] % 5 == 0:
            return
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        what, _, number = self.path.strip("/").partition("/")
        told = "ok"
        if what == "spans":
            with spanyard.span("root") as root:
                told = root.trace_id
                grow([int(number) - 1], 0)
        elif what == "lines":
            sys.stdout.write("".join(f"line {i} of a log {'x' * 60}\\n" for i in range(int(number))))
            sys.stdout.flush()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(told.encode())
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
YAML = """
apiVersion: spanyard.dev/v1alpha1
kind: Project
metadata: {name: large}
---
apiVersion: spanyard.dev/v1alpha1
kind: Build
metadata: {name: large-1}
spec:
  project: large
  source: {directory: {path: .}}
---
apiVersion: spanyard.dev/v1alpha1
kind: Deployment
metadata: {name: large}
spec:
  project: large
  buildRef: {name: large-1}
  command: python3 server.py
"""
DRAWN = """
() => new Promise((done) => {
  const look = () => {
    const asked = performance.getEntriesByType("resource").filter((r) => /\\/traces\\/[0-9a-f]{32}(\\/outline)?\\?/.test(r.name) && r.responseEnd).pop();
    if (asked && document.querySelector(".fall-row")) {
      requestAnimationFrame(() => requestAnimationFrame((now) => done([now - asked.responseEnd, asked.responseEnd - asked.requestStart, asked.decodedBodySize])));
    } else requestAnimationFrame(look);
  };
  look();
})
"""
FRAMES = """
() => { const frames = (window.frames_ = []); let before = performance.now();
  const tick = (now) => { frames.push(now - before); before = now; window.ticking_ = requestAnimationFrame(tick); };
  window.ticking_ = requestAnimationFrame(tick); }
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The page with large traces and logs.")
    parser.add_argument("--spans", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    said = parser.parse_args()
    installed()
    with tempfile.TemporaryDirectory(prefix="spanyard-page-") as folder:
        place = Path(folder)
        app = place / "app"
        app.mkdir()
        (app / "server.py").write_text(SERVER)
        (app / "spanyard.yaml").write_text(YAML)
        for package in (ROOT / "sdk" / "spanyard", ROOT / "core" / "spanyard_core"):
            shutil.copytree(
                package, app / package.name, ignore=shutil.ignore_patterns("__pycache__")
            )
        with Up(place / "data", app) as up:
            gateway = up.until(lambda e: e["event"] == "addresses")["gateway"]
            serving = up.until(
                lambda e: e["event"] == "deployment" and e["status"].get("reason") == "Serving", 120
            )
            server = serving["status"]["endpoint"]
            with tab(gateway) as found:
                measure_trace(found, server, said.spans)
                measure_log(found, server, said.lines)


def measure_trace(found: Tab, server: str, spans: int) -> None:
    trace = _get(f"{server}/spans/{spans}")
    for _ in range(240):
        told = json.loads(_get(f"{found.address}/projects/local.large/traces?limit=1"))
        if told["items"] and told["items"][0]["spans"] >= spans:
            break
        time.sleep(0.5)
    print(f"trace of {told['items'][0]['spans']:,} spans:")
    for _ in range(7):
        found.go(f"traces/local.large/{trace}")
        took, asked, size = found.page.evaluate(DRAWN)
        print(f"  {size / 1e6:.1f} MB, there in {asked:.0f} ms, drawn in {took:.0f} ms")
    _scroll(found, ".fall-row", "trace")


def measure_log(found: Tab, server: str, lines: int) -> None:
    """Some lines may be told as dropped: the reader shares two cores with all that writes them."""
    found.go("deployments/local.large")
    found.sees("Following")
    for _ in range(lines // 20_000):  # what a reader's connection takes without being left behind
        _get(f"{server}/lines/20000")
        time.sleep(0.4)
    wanted = f"{lines:,}"
    deadline = time.monotonic() + 60
    shown = ""
    while time.monotonic() < deadline and wanted not in shown:
        shown = found.page.get_by_text("lines", exact=False).first.inner_text()
        time.sleep(1)
    print(f"log: {shown!r}")
    _scroll(found, ".log-row", "log")


def _scroll(found: Tab, row: str, name: str) -> None:
    page = found.page
    page.locator(row).first.hover()
    page.evaluate(FRAMES)
    for turn in range(120):
        page.mouse.wheel(0, -600 if name == "log" or turn >= 60 else 600)
    page.wait_for_timeout(1000)
    frames: Any = page.evaluate(
        "() => { cancelAnimationFrame(window.ticking_); return window.frames_; }"
    )
    cuts = quantiles(frames[1:], n=100)
    print(
        f"{name}: scrolled, {len(frames)} frames: p50 {cuts[49]:.1f} p95 {cuts[94]:.1f}"
        f" p99 {cuts[98]:.1f} max {max(frames[1:]):.1f} ms; complaints: {found.troubles}"
    )


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    main()
