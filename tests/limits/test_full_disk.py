"""The spool's disk is full: an error that says so, a pause, and everything stored afterwards.

On a tmpfs of its own, because only a real file system says ENOSPC where it likes.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.fakes.chain import Collector, Place, Pod, assert_once
from tests.fakes.processes import fetch, wait_for
from tests.limits.requests import names, send, until_turned_away
from tests.limits.spooling import LIMIT_BYTES, Chatter, Watch, check_against_gaps

pytestmark = pytest.mark.slow

DISK_BYTES = 24 << 20
RATE = 20_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Glutton:
    """A neighbour on the disk who takes all that is free, again and again, until his block ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = Event()
        self._thread = Thread(target=self._run, name="glutton")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink()

    def _run(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            while not self._stop.wait(0.01):
                for size in (1 << 20, 4096):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))


def test_a_full_disk_is_an_error_and_a_pause_and_nothing_is_lost(
    tmp_path: Path, small_disk: Path
) -> None:
    place = Place((tmp_path / "bucket").as_uri())
    pod = Pod(tmp_path / "pod")
    # What nobody reads waits in the node's file; to rotate it would take time of the application.
    log = pod.container(max_size=1 << 30)
    with pod.collector(
        place, spool=small_disk / "spool", spool_limit="16MB", chunk_size="2MB"
    ) as collector:
        collector.addresses(2)
        with (
            Watch(collector, small_disk / "spool") as watch,
            Chatter(log, rate=RATE) as application,
        ):
            collector.wait_uploaded()
            with Glutton(small_disk / "ballast"):
                wait_for("an error", lambda: "no room on the disk" in collector.text())
                sent = wait_for("OTLP turned away", lambda: until_turned_away(collector))
                wait_for("a standstill", lambda: stands_still(collector))
                assert fetch(f"{collector.url}/healthz")[0] == 200
                status, _, text = fetch(f"{collector.url}/readyz")
                assert (status, b"no room on the disk" in text) == (200, True)
            wait_for("OTLP taken", lambda: send(collector, sent[-1]) == 200)
            wait_for("takes entries again", lambda: "takes entries again" in collector.text())
        log.close()
        collector.end()
    assert application.slowest < 5, "the application had to wait"
    assert watch.memory <= LIMIT_BYTES
    assert collector.text().count("No space left") < 20, "it says so all the time"
    records = place.records(pod.project)
    assert not check_against_gaps(records, application.written)
    spans = [record["name"] for record in records if record["type"] == "span"]
    assert_once(spans, names(sent), "spans")


def stands_still(collector: Collector) -> bool:
    """Whether it reads nothing for two seconds, while the application prints on."""
    before = collector.metrics()["records_total"]
    time.sleep(2)
    return collector.metrics()["records_total"] == before
