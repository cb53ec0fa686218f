"""Live streams in a cluster, by both ways of capture: from a line's write in a pod to sockets that listen.

    python -m benchmarks.live_cluster [--rate 1000] [--subscribers 100] [--seconds 15]

Method: Spanyard is installed by its chart into the test cluster (`make cluster`), whose one node is this
machine, so that both ends read one clock. A pod prints lines with the time of their printing; another
process listens through the gateway with all subscribers. `hostPath` reads the node's files, `api` the log
stream of the API server.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import quantiles

from benchmarks.live import SERVER
from tests.cluster import cluster as clusters
from tests.cluster import sources
from tests.cluster.stack import TEAM, Stack, installed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Live streams in a cluster.")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15)
    said = parser.parse_args()
    found = clusters.running()
    if found is None:
        raise SystemExit("spanyard: no cluster runs: make cluster")
    with installed(found) as stack, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "server.py").write_text(SERVER.replace("127.0.0.1", ""))
        digest = sources.uploaded(stack, Path(folder))
        stack.cluster.apply(
            sources.project("live"),
            sources.build("live-1", "live", {"archive": {"digest": digest}}),
        )
        stack.wait_for_phase("Build", "live-1", "Succeeded", "Failed")
        print(f"{said.rate:,} lines/s, {said.subscribers} listeners")
        for capture in ("hostPath", "api"):
            name = f"live-{capture.lower()}"
            stack.cluster.apply(
                sources.deployment(
                    name, "live", buildRef={"name": "live-1"},
                    env=[{"name": "RATE", "value": str(said.rate)}], collector={"capture": capture},
                )
            )  # fmt: skip
            stack.wait_until_ready(name)
            print(
                f"{capture:<10}{_measured(stack, name, said.subscribers, said.seconds)}", flush=True
            )
            stack.cluster.kubectl("delete", "deployments.spanyard.dev", name, "-n", TEAM)


def _measured(stack: Stack, name: str, subscribers: int, seconds: float) -> str:
    url = stack.address.replace("http", "ws", 1) + "/ws"
    words = [url, f"server:{TEAM}.{name}", str(subscribers), str(seconds)]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live_listener", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "SPANYARD_TOKEN": stack.token},
    ) as listener:  # fmt: skip
        assert listener.stdin is not None
        assert listener.stdout is not None
        listener.stdout.readline()
        listener.stdin.write("\n")
        listener.stdin.flush()
        told = json.loads(listener.stdout.readline())
    cuts = quantiles(told["latencies"], n=100)
    return (
        f"p50 {cuts[49]:.1f}  p95 {cuts[94]:.1f}  p99 {cuts[98]:.1f}  max {max(told['latencies']):.1f} ms,"
        f" {len(told['latencies']) / seconds:,.0f} messages/s,"
        f" {told['dropped']} told drops, {told['broken']} broken"
    )


if __name__ == "__main__":
    main()
