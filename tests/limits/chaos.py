"""Chaos: builds and deployments while `spanyard up` is killed at random moments.

    python -m tests.limits.chaos                     50 builds, 5 deployments, 15 kills
    python -m tests.limits.chaos --builds 12 --deployments 3 --kills 4

Children number their lines and note in a file of their own how far they came, after each write. At
the end everything has converged: every build has succeeded, every deployment serves, no process of
theirs is left, and of each child the bucket and ClickHouse hold exactly the lines that it wrote,
each once. Some fork away from their session, some ignore SIGTERM. Prints a table; exit code 1 when
anything of that does not hold. Linux: orphans are looked for in /proc.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanyard_core.chunks import decoded_blocks
from tests.fakes.up import PATIENCE_S, ROOT, Up, environment, marked

CHILD = """
import os, random, signal, sys, time
kind, lines, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
me = f"{kind}-{os.urandom(6).hex()}"
truth = os.open(os.path.join(os.environ["CHAOS_TRUTH"], me), os.O_RDWR | os.O_CREAT, 0o644)
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind == "forking" and os.fork() == 0:
    os.setsid()
    for descriptor in (0, 1, 2):
        os.close(descriptor)  # who holds the output open is waited for: 5 s for each such child
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
number = 0
while lines == 0 or number < lines:
    number += 1
    text = f"{me} {number} {'x' * random.randrange(200)}\\n".encode()
    while text:
        text = text[os.write(1, text):]
    os.pwrite(truth, f"{number:<12}".encode(), 0)
    if number % 20 == 0:
        time.sleep(pause)
"""
SERVER = """
import http.server, os, sys, threading
def child():
    sys.argv = ["", sys.argv[1], "0", "0.05"]
    exec(open("child.py").read(), {"__name__": "x"})
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
listening = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
threading.Thread(target=listening.serve_forever, daemon=True).start()
child()
"""
LINE = re.compile(r"^((?:plain|stubborn|forking)-[0-9a-f]{12}) (\d+) x*$")
KINDS = ("plain", "plain", "forking", "stubborn")


@dataclass
class Report:
    """What came of it."""

    builds: int = 0
    succeeded: int = 0
    deployments: int = 0
    serving: int = 0
    kills: int = 0
    children: int = 0
    written: int = 0
    """By the children's own notes."""
    stored: int = 0
    in_clickhouse: int = 0
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.troubles


def make(folder: Path, mark: str, builds: int, deployments: int, seed: int) -> None:
    """The YAML and the sources."""
    rng = random.Random(seed)
    source = folder / "source"
    source.mkdir(parents=True)
    (folder / "truth").mkdir()
    (source / "child.py").write_text(CHILD)
    (source / "server.py").write_text(SERVER)
    env = [
        {"name": "CHAOS_TRUTH", "value": str(folder / "truth")},
        {"name": "CHAOS_MARK", "value": mark},
    ]
    keep = {"succeededLimit": max(10, builds)}  # ten are kept by default
    documents: list[dict[str, object]] = [
        document("Project", "chaos", {"builds": {"retention": keep}})
    ]
    for number in range(builds):
        lines, pause = rng.choice((20, 200, 1_000, 5_000)), rng.choice((0.0, 0.01, 0.05))
        if lines == 5_000:
            pause = 0.0
        spec = {
            "project": "chaos",
            "source": {"directory": {"path": "source"}},
            "install": f"exec python3 child.py {rng.choice(KINDS)} {lines} {pause}",
            "build": f"python3 child.py {rng.choice(KINDS)} 40 0.02",
            "env": env,
        }
        documents.append(document("Build", f"build-{number}", spec))
    for number in range(deployments):
        spec = {
            "project": "chaos",
            "follow": True,
            "command": f"python3 server.py {KINDS[number % len(KINDS)]}",
            "terminationGracePeriod": "2s",
            "env": env,
        }
        documents.append(document("Deployment", f"server-{number}", spec))
    write(folder, documents)


def write(folder: Path, documents: Sequence[dict[str, object]]) -> None:
    """The YAML: JSON is YAML too."""
    (folder / "spanyard.yaml").write_text("---\n".join(json.dumps(d) + "\n" for d in documents))


def document(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "spanyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def chaos(folder: Path, *, builds: int, deployments: int, kills: int, seed: int) -> Report:
    """Run it all in an empty folder."""
    began = time.monotonic()
    rng = random.Random(seed)
    mark = f"chaos-{uuid.uuid4().hex}"
    report = Report(builds=builds, deployments=deployments)
    make(folder, mark, builds, deployments, seed)
    data = folder / "data"
    for number in range(kills):
        with Up(data, folder, "--no-watch") as up:
            # Also before it listens, while it recovers, while it starts everything.
            until = rng.choice(("start", "addresses", "line", "line", "line"))
            if until != "start":
                up.until(lambda e, until=until: e["event"] == until)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 4))
            up.kill()
            report.kills += 1
            print(f"kill {number + 1} of {kills}: {len(up.lines())} lines seen", flush=True)
    with Up(data, folder, "--no-watch", "--once") as up:
        if code := up.wait(PATIENCE_S + 6 * builds):
            report.troubles.append(f"the last run ended with {code}: {up.events[-3:]}")
            print(up.errors.read_text()[-3000:], file=sys.stderr)
    for pid in marked(mark):
        report.troubles.append(f"process {pid} is left behind")
    _converged(data, report)
    compare(folder, data, report)
    report.seconds = time.monotonic() - began
    return report


def _converged(data: Path, report: Report) -> None:
    for file in (data / "resources/builds").glob("*.json"):
        status = json.loads(file.read_text())["resource"]["status"]
        if status.get("phase") == "Succeeded" and status.get("logComplete"):
            report.succeeded += 1
        else:
            report.troubles.append(f"{file.stem}: {json.dumps(status)[:600]}")
    for file in (data / "resources/deployments").glob("*.json"):
        status = json.loads(file.read_text())["resource"]["status"]
        if any(revision["state"] == "Serving" for revision in status.get("revisions", [])):
            report.serving += 1
        else:
            report.troubles.append(f"{file.stem} does not serve: {json.dumps(status)[:600]}")
    if (report.succeeded, report.serving) != (report.builds, report.deployments):
        report.troubles.append("not all of them are there")
    for folder in (data / "runs").iterdir():
        report.troubles.append(f"{folder.name} is left in runs/")


def compare(folder: Path, data: Path, report: Report) -> None:
    """Children's notes against the bucket, the bucket against ClickHouse, logs of builds too."""
    truth = {p.name: int(p.read_text() or 0) for p in (folder / "truth").iterdir()}
    stored = _numbers(_messages(data))
    report.children = len(truth)
    report.written = sum(truth.values())
    report.stored = sum(sum(numbers.values()) for numbers in stored.values())
    for child in sorted({*truth, *stored}):
        numbers = stored.get(child, Counter[int]())
        least = truth.get(child, 0)
        most = max(numbers, default=0)
        twice = [n for n, count in numbers.items() if count > 1]
        lost = [n for n in range(1, most + 1) if n not in numbers]
        # Killed between a write and its note, a child has written one more than it says.
        if not least <= most <= least + 1:
            report.troubles.append(f"{child}: wrote {least}, stored up to {most}")
        if twice or lost:
            report.troubles.append(f"{child}: lost {lost[:5]}, twice {twice[:5]}")
    verify = subprocess.run(
        [sys.executable, "-m", "spanyard_local", "verify", "--data", str(data), "-o", "json"],
        check=False, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=180,
    )  # fmt: skip
    if verify.returncode:
        report.troubles.append(f"verify says {verify.returncode}: {verify.stdout[-1500:]}")
        return
    proof = json.loads(verify.stdout)
    report.in_clickhouse = sum(w["stored"] for w in proof["writers"] if w["signal"] == "logs")
    expected = sum(1 for _ in _messages(data))
    if report.in_clickhouse != expected:
        report.troubles.append(f"{expected} lines in the bucket, {report.in_clickhouse} elsewhere")
    texts = _numbers(
        line
        for log in (data / "bucket/builds").glob("*/build.log")
        for line in log.read_text().splitlines()
    )
    for child, numbers in texts.items():
        if numbers != stored[child]:
            report.troubles.append(f"{child}: build.log has other lines than the bucket")


def _messages(data: Path) -> Sequence[str]:
    found = []
    for root in ("processed", "observability"):
        for file in (data / "bucket" / root / "logs").rglob("*.jsonl.zst"):
            text = b"".join(decoded_blocks(file.read_bytes(), limit=1 << 28))
            found += [json.loads(line)["message"] for line in text.splitlines()]
    return found


def _numbers(messages: "Sequence[str] | object") -> dict[str, Counter[int]]:
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for message in messages:  # type: ignore[attr-defined]
        if match := LINE.match(message):
            found[match[1]][int(match[2])] += 1
    return dict(found)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--deployments", type=int, default=5)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spanyard-chaos-"))
    print(f"seed {given.seed}, folder {folder}", flush=True)
    try:
        report = chaos(
            folder,
            builds=given.builds,
            deployments=given.deployments,
            kills=given.kills,
            seed=given.seed,
        )
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{report.kills} kills, {report.seconds:.0f} s: {report.succeeded} of {report.builds} builds "
        f"succeeded, {report.serving} of {report.deployments} deployments serve; "
        f"{report.children} children wrote {report.written:,} lines by their notes, "
        f"{report.stored:,} are stored, {report.in_clickhouse:,} lines of all in ClickHouse"
    )
    for trouble in report.troubles:
        print(f"TROUBLE {trouble}")
    raise SystemExit(0 if report.good else 1)


if __name__ == "__main__":
    main()
