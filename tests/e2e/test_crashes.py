"""Crashes of the whole chain: after each, every record is stored once or told as a gap.

Real processes, real kills. What the fault suites prove for one component is not repeated here:
these are the cases between two of them.
"""

import contextlib
import fcntl
import gzip
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.chain import Place, Pod, Server, assert_once, place_of, send_otlp
from tests.fakes.crilog import CriLog
from tests.fakes.losing_proxy import losing_proxy
from tests.fakes.ports import own_port
from tests.fakes.processes import clean_environ, wait_for
from tests.fakes.threads import in_a_thread
from tests.unit.sidecar.otlp.requests import span_request

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

DAY = 25 * 3600.0
"""Seconds: beyond every window that anybody could have."""
NOBODY = "http://127.0.0.1:9"
"""An address where nobody listens."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place((tmp_path_factory.mktemp("bucket") / "bucket").as_uri())


@pytest.fixture(scope="module")
def server(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all cases that leave it alone; each has a project of its own."""
    with Server(tmp_path_factory.mktemp("server"), place) as running:
        yield running


def pod_of(tmp_path: Path, name: str) -> Pod:
    return Pod(tmp_path / "pod", project=f"team.{name}")


def write(log: CriLog, first: int, count: int) -> list[str]:
    """Lines with unique texts."""
    texts = [f"line {n} of {log.path.parent.name}" for n in range(first, first + count)]
    log.write("stdout", "".join(f"{text}\n" for text in texts).encode())
    return texts


def messages(server: Server, pod: Pod) -> list[str]:
    return [item["message"] for item in server.items(f"/projects/{pod.project}/logs")]


def check_once(server: Server, pod: Pod, texts: list[str]) -> dict[str, Any]:
    """The proof, complete, with each text stored once.

    Between two lives of a collector it is complete for a moment, too: after the first one's end.
    """
    with contextlib.suppress(pytest.fail.Exception):  # what is missing is named below
        wait_for("all records", lambda: len(messages(server, pod)) >= len(texts), within=30)
    proof = server.wait_complete(pod.project)
    assert proof["totals"]["doubled"] == 0
    assert_once(messages(server, pod), texts, pod.project)
    return proof


# -- between collector and ingester -----------------------------------------------------------------


def test_a_lost_hint_costs_no_record_because_the_ingester_lists(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "hints")
    with pod.collector(place, gateway=NOBODY, index_wait="0s") as collector:
        collector.addresses(2)
        log = pod.container()
        texts = write(log, 0, 2_000)
        log.close()
        place.wait_stored(pod.project, len(texts))
        lost = wait_for(
            "failed hints", lambda: collector.metrics().get('hints_total{result="failed"}')
        )
        assert lost >= 1
        collector.end()
    check_once(server, pod, texts)


def test_an_upload_that_is_repeated_a_day_later_is_stored_once(tmp_path: Path) -> None:
    """The object was loaded and moved meanwhile, its name is free again: the ledger knows it."""
    place = Place((tmp_path / "bucket").as_uri())
    pod = pod_of(tmp_path, "later")
    log = pod.container()
    texts = write(log, 0, 2_000)
    with pod.collector(place, fault="upload.done:2") as collector:
        collector.wait_killed()
    stored = place.keys("observability/")
    assert stored
    folder = tmp_path / "server"
    with Server(folder, place, fault="ingest.inserted:2") as server:
        server.wait_killed()
    with Server(folder, place, later=DAY) as server:
        wait_for("all objects moved", lambda: not place.keys("observability/"))
        # A day later the ingester has read back what was inserted; the collector comes back.
        texts += write(log, 2_000, 500)
        log.close()
        with pod.collector(place, later=DAY, gateway=server.url) as collector:
            collector.addresses(2)
            collector.end()
        check_once(server, pod, texts)
        wait_for("the repeated object moved", lambda: not place.keys("observability/"))
    assert "upload.done" in pod.passed
    assert "ingest.inserted" in server.passed
    assert {key.replace("observability/", "processed/") for key in stored} <= {*place.keys()}


@pytest.mark.s3
def test_an_object_that_was_copied_and_not_deleted_is_stored_once(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = place_of("s3", request)
    pod = pod_of(tmp_path, "copied")
    log = pod.container()
    texts = write(log, 0, 3_000)
    log.close()
    with pod.collector(place, chunk_size="20kB") as collector:
        collector.wait_records(len(texts))
        collector.end()
    folder = tmp_path / "server"
    with Server(folder, place, fault="ingest.copied:2") as server:
        server.wait_killed()
    both = [
        key
        for key in place.keys("observability/")
        if place.keys(key.replace("observability/", "processed/"))
    ]
    assert both, "no object was there twice"
    with Server(folder, place) as server:
        check_once(server, pod, texts)
        wait_for("all objects moved", lambda: not place.keys("observability/"))
    assert "ingest.copied" in server.passed


def test_what_cannot_be_sent_at_the_end_is_named_and_goes_out_at_the_next_start(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "unsent")
    message = tmp_path / "termination-log"
    message.touch()
    log = pod.container()
    away = Place(
        f"s3://nowhere?endpoint={NOBODY}", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    )
    with pod.collector(away, gateway=server.url, grace="3s", termination_log=message) as collector:
        collector.addresses(2)
        texts = write(log, 0, 1_000)
        collector.wait_records(len(texts))
        assert collector.stop() == 3
    assert "not uploaded" in message.read_text()
    texts += write(log, 1_000, 1_000)
    log.close()
    with pod.collector(place, gateway=server.url) as collector:
        collector.addresses(2)
        collector.end()
    check_once(server, pod, texts)


# -- a lost spool -----------------------------------------------------------------------------------


def lose_spool(pod: Pod) -> None:
    shutil.rmtree(pod.spool)
    pod.spool.mkdir()


def test_a_lost_spool_loses_and_doubles_nothing_with_a_gateway(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "lost")
    log = pod.container(max_size=60_000)
    with pod.collector(place, gateway=server.url) as collector:
        collector.addresses(2)
        texts = write(log, 0, 100)
        collector.wait_records(len(texts))  # else nobody knows what came before the first file
        texts += write(log, 100, 2_400)  # two rotated files are stored and still there
        place.wait_stored(pod.project, len(texts))
        texts += write(log, 2_500, 100)  # may be read, may be spooled
        collector.kill()
    lose_spool(pod)
    texts += write(log, 2_600, 2_000)
    log.close()
    with pod.collector(place, gateway=server.url) as collector:
        collector.addresses(2)
        collector.end()
    proof = check_once(server, pod, texts)
    states = [writer["state"] for writer in proof["writers"]]
    assert sorted(states) == ["continued", "ended"]


def test_a_lost_spool_without_a_gateway_is_told(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "unverified")
    log = pod.container()
    with pod.collector(place) as collector:
        collector.addresses(2)
        texts = write(log, 0, 1_000)
        place.wait_stored(pod.project, len(texts))
        collector.kill()
    lose_spool(pod)
    texts += write(log, 1_000, 1_000)
    log.close()
    with pod.collector(place) as collector:
        collector.addresses(2)
        collector.end()
        assert "records may be stored twice" in collector.text()
    proof = server.wait_loaded(pod.project, writers=2, left_open=1)
    # The old writer never ends: an open tail, which `spanyard verify` does not call complete.
    assert not proof["complete"]
    assert sorted(w["state"] for w in proof["writers"]) == ["ended", "open"]
    begins = [r for r in place.records(pod.project) if r.get("event") == "begin"]
    assert {"", "unverified"} >= {r.get("cause", "") for r in begins}
    (told,) = [r for r in begins if r.get("cause") == "unverified" and r["subject"] in last(proof)]
    assert told["message"]
    assert set(messages(server, pod)) == set(texts)


def last(proof: dict[str, Any]) -> set[str]:
    return {w["writer"] for w in proof["writers"] if w["state"] == "ended"}


# -- OTLP -------------------------------------------------------------------------------------------


def start_application(pod: Pod, endpoint: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.application", pod.project, "500", "--otlp-only"],
        cwd=Path(__file__).parents[2],
        env=clean_environ()
        | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        },
        stdout=subprocess.DEVNULL,
    )


def spans(server: Server, pod: Pod) -> list[str]:
    return [item["name"] for item in server.items(f"/projects/{pod.project}/spans")]


def check_application(server: Server, pod: Pod) -> None:
    """Everything that the application recorded is stored once."""
    server.wait_complete(pod.project)
    names = [f"{pod.project}-otlp-span-{i}" for i in range(500)]
    assert_once(spans(server, pod), names, "spans")
    lines = [f"{pod.project}-otlp-log-{i}" for i in range(500)]
    assert_once(messages(server, pod), lines, "log records")
    points = [item["name"] for item in server.items(f"/projects/{pod.project}/metrics")]
    assert_once(points, [f"{pod.project}-otlp-metric-{i}" for i in range(10)], "metric points")


def test_an_sdk_that_sends_again_for_want_of_an_answer_is_stored_once(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "unanswered")
    with (
        pod.collector(place, gateway=server.url) as collector,
        in_a_thread(losing_proxy(int(collector.otlp.rpartition(":")[2])), "proxy") as proxy,
    ):
        proxy.lose(1)
        application = start_application(pod, proxy.endpoint)
        assert application.wait(120) == 0
        assert collector.metrics()["otlp_duplicates_total"] >= 1, "no request came twice"
        collector.end()
    check_application(server, pod)


@pytest.mark.parametrize("point", ["otlp.durable:2", "otlp.appended:3"])
def test_an_sdk_that_sends_again_to_the_next_collector_is_stored_once(
    tmp_path: Path, place: Place, server: Server, point: str
) -> None:
    pod = pod_of(tmp_path, point.partition(":")[0].replace(".", "-"))
    port = own_port()
    with pod.collector(place, gateway=server.url, fault=point, otlp_port=port) as collector:
        application = start_application(pod, collector.otlp)
        collector.wait_killed()
    with pod.collector(place, gateway=server.url, otlp_port=port) as collector:
        assert application.wait(120) == 0
        collector.end()
    assert point.partition(":")[0] in pod.passed
    check_application(server, pod)


def test_the_same_request_again_and_again_is_acknowledged_and_stored_once(
    tmp_path: Path, place: Place, server: Server
) -> None:
    """Plain and packed, before and after a kill, and after the records left the spool."""
    pod = pod_of(tmp_path, "again")
    body = span_request(50, name=pod.project).SerializeToString()
    packed = gzip.compress(body)
    with pod.collector(place, gateway=server.url) as collector:
        for _ in range(2):
            assert send_otlp(collector.otlp, "traces", body)[0] == 200
        status, _, _ = send_otlp(collector.otlp, "traces", packed, **{"Content-Encoding": "gzip"})
        assert status == 200
        assert collector.metrics()["otlp_duplicates_total"] == 2
        place.wait_stored(pod.project, 50, signal="spans")
        collector.kill()
    with pod.collector(place, gateway=server.url) as collector:
        assert send_otlp(collector.otlp, "traces", body)[0] == 200
        assert collector.metrics()["otlp_duplicates_total"] == 1
        collector.end()
    server.wait_complete(pod.project)
    assert_once(spans(server, pod), [f"{pod.project} {i}" for i in range(50)], "spans")


# -- files that lose something ----------------------------------------------------------------------


def event(text: str) -> bytes:
    return (
        b'{"type":"log","timestamp":"2026-11-21T14:45:00Z","level":"info","message":"%b"}\n'
        % text.encode()
    )


def test_a_span_file_that_was_cut_short_is_told(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "cut")
    (pod.spans / "logs").mkdir()
    path = pod.spans / "logs" / f"{time.time_ns()}-abcdefgh12.jsonl"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    before = [f"before {i}" for i in range(300)]
    after = [f"after the cut {i}" for i in range(50)]
    with pod.collector(place, gateway=server.url) as collector:
        os.write(file, b"".join(map(event, before)))
        collector.wait_records(len(before))
        os.ftruncate(file, 0)
        wait_for("the gap", lambda: collector.metrics().get('gaps_total{cause="truncated"}'))
        os.write(file, b"".join(map(event, after)))
        collector.wait_records(len(before) + len(after))
        os.close(file)
        wait_for("the file is deleted", lambda: not path.exists())
        collector.end()
    proof = server.wait_loaded(pod.project)
    assert_once(messages(server, pod), before + after, "log records")
    (gap,) = proof["gaps"]
    assert (gap["cause"], gap["afterSeq"]) == ("truncated", len(before))
    assert proof["totals"]["open"] == proof["totals"]["missing"] == 0


def test_what_was_rotated_away_while_no_collector_ran_is_told(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = pod_of(tmp_path, "away")
    log = pod.container(max_size=30_000, max_files=3)
    with pod.collector(place, gateway=server.url) as collector:
        collector.addresses(2)
        texts = write(log, 0, 100)
        place.wait_stored(pod.project, len(texts))
        collector.kill()
    for first in range(100, 3_000, 100):
        texts += write(log, first, 100)
    log.close()
    with pod.collector(place, gateway=server.url) as collector:
        collector.addresses(2)
        collector.end()
    proof = server.wait_loaded(pod.project)
    found = messages(server, pod)
    lost = [text for text in texts if text not in set(found)]
    assert_once(found, [text for text in texts if text not in set(lost)], "log lines")
    gaps = sorted(proof["gaps"], key=lambda gap: gap["afterSeq"])
    assert {gap["cause"] for gap in gaps} == {"rotated-away"}
    at = texts.index(lost[0])
    assert lost == texts[at : at + len(lost)], "more than one hole"
    assert gaps[0]["afterSeq"] <= at <= gaps[-1]["afterSeq"]
    assert proof["totals"]["missing"] == proof["totals"]["doubled"] == 0
