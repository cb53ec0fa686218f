"""The whole chain on real components: every record once, with one id from `/live` to the API.

A pod writes container logs with rotation and a restart, span files and OTLP; the real collector
stores objects in a directory, in a real S3 server, over GCS's wire protocol; the real ingester
loads them into the embedded ClickHouse; the gateway answers.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.live import LiveListener
from tests.fakes.chain import (
    KINDS,
    Collector,
    Place,
    Pod,
    Server,
    assert_once,
    place_of,
)
from tests.fakes.crilog import CriLog
from tests.fakes.processes import Program, clean_environ, fetch, get_json, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]

LINES = 3_000
SPANS = 300
LONG = 40_000
"""Characters: three pieces of the kubelet's, joined again."""
OVER_LONG = 2_500_000
"""Characters: more than the 1 MiB that stay whole."""


def write_logs(log: CriLog, prefix: str, lines: int) -> list[str]:
    """Plain and JSON lines on both streams, with long ones; their messages, as stored."""
    texts = []
    for n in range(lines):
        text = f"{prefix}-line-{n}"
        if n % 500 == 250:
            text += "-" + "x" * LONG
        line = json.dumps({"msg": text, "level": "warn", "n": n}) if n % 5 < 2 else text
        log.write("stderr" if n % 3 == 0 else "stdout", line.encode() + b"\n")
        texts.append(text)
        if n % 500 == 499:
            time.sleep(0.1)  # rotation must not outrun a reader that looks every second
    return texts


def run_application(pod: Pod, collector: Collector, prefix: str) -> dict[str, list[str]]:
    """What the application recorded: signal → names."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.application", prefix, str(SPANS)],
        cwd=Path(__file__).parents[2],
        env={
            **clean_environ(),
            "SPANYARD_SPANS_DIR": str(pod.spans),
            "SPANYARD_SPANS_FILE_SIZE": "50kB",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "shop",
        },
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    recorded: dict[str, list[str]] = json.loads(done.stdout)
    return recorded


def write_everything(pod: Pod, collector: Collector) -> dict[str, list[str]]:
    """Signal → messages and names of all that the pod wrote."""
    first = pod.container(max_size=100_000)
    texts = write_logs(first, "start", 10)
    collector.wait_records(10)  # else nobody knows what came before the first file
    texts += write_logs(first, "first", LINES)
    first.close()
    recorded = run_application(pod, collector, "application")
    second = pod.container(restart=1)
    texts += write_logs(second, "second", 500)
    second.write("stdout", b"y" * OVER_LONG + b"\n")
    second.close()
    recorded["logs"] += texts
    return recorded


def check_records(records: list[dict[str, Any]], written: dict[str, list[str]]) -> None:
    """Each text once; the line over the limit in parts that make it up; numbers without a hole."""
    split = [r for r in records if {"split", "split-end"} & set(r.get("marks", ()))]
    assert "".join(r["message"] for r in split) == "y" * OVER_LONG
    by_type = {
        signal: [r for r in records if r["type"] == signal.removesuffix("s") and r not in split]
        for signal in written
    }
    for signal, expected in written.items():
        name = "message" if signal == "logs" else "name"
        found = [r[name] for r in by_type[signal] if r.get("endTime", "ended") is not None]
        assert_once(found, expected, signal)
    seqs: dict[str, list[int]] = {}
    for record in records:
        seqs.setdefault(record["writer"], []).append(record["seq"])
    for writer, numbers in seqs.items():
        assert numbers == list(range(1, len(numbers) + 1)), writer


def stored_through_the_api(server: Server, project: str) -> Counter[str]:
    """Record ids of everything that the lists give, but for a span's own events."""
    found: Counter[str] = Counter()
    for path in ("logs?from=1d", "spans?from=1d", "metrics?from=1d", "scores?from=1d"):
        for item in server.items(f"/projects/{project}/{path}"):
            if not item.get("spanEvent"):
                found[item["recordId"]] += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_stored_once_with_the_id_it_had_live(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = place_of(kind, request)
    pod = Pod(tmp_path / "pod")
    with Server(tmp_path / "server", place) as server:
        with (
            pod.collector(place, gateway=server.url) as collector,
            LiveListener(collector.url) as live,
        ):
            written = write_everything(pod, collector)
            collector.end()
        proof = server.wait_complete(pod.project)
        records = place.records(pod.project)
        lines = [record for record in records if record["type"] != "gap"]
        check_records(lines, written)

        ids = Counter(f"{r['writer']}#{r['seq']}" for r in lines)
        assert max(ids.values()) == 1
        assert not live.other
        assert Counter(f"{r['writer']}#{r['seq']}" for r in live.records) == ids
        shown = stored_through_the_api(server, pod.project)
        assert max(shown.values()) == 1
        listed = Counter(
            f"{r['writer']}#{r['seq']}"
            for r in lines
            # A trace is not in a list of its own kind, a span's beginning gives way to its end.
            if r["type"] != "trace" and r.get("endTime", "ended") is not None
        )
        assert shown == listed

        assert proof["totals"]["stored"] == proof["totals"]["expected"] == len(lines)
        wait_for("all objects moved", lambda: not place.keys("observability/"))
        assert {w["writer"].split("@")[0].split("/")[0] for w in proof["writers"]} == {pod.uid}
        assert not proof["gaps"]
        assert server.stop() == 0
    assert not list(pod.spans.rglob("*.jsonl"))


def test_components_that_run_alone_make_the_same_chain(tmp_path: Path) -> None:
    """Collector, ingester and gateway as three programs, one after the other on one database."""
    place = Place((tmp_path / "bucket").as_uri())
    pod = Pod(tmp_path / "pod")
    database = f"chdb://{tmp_path}/clickhouse"
    with pod.collector(place) as collector:
        log = pod.container()
        texts = write_logs(log, "alone", 1_000)
        log.close()
        collector.wait_records(len(texts))
        collector.end()
    common = ["--storage", place.url, "--clickhouse", database, "--port", "0"]
    flags = [*common, "--list-interval", "100ms", "--temp-dir", str(tmp_path)]
    with Program("spanyard_ingester", flags, log=tmp_path / "ingester.log") as ingester:
        wait_for("all objects moved", lambda: not place.keys("observability/"))
        assert ingester.stop() == 0
    with Program("spanyard_gateway", common, log=tmp_path / "gateway.log") as gateway:
        (url,) = gateway.addresses(1)
        wait_for("ready", lambda: fetch(f"{url}/readyz")[0] == 200)
        proof = get_json(f"{url}/projects/{pod.project}/proof")
        assert proof["complete"], proof
        page = get_json(f"{url}/projects/{pod.project}/logs?from=1d&limit=1000")
        assert_once([item["message"] for item in page["items"]], texts, "log lines")
        assert gateway.stop() == 0
