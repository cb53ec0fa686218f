"""How the collector's process starts and ends: exit codes, messages, signals, ports."""

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.ports import own_port
from tests.fakes.processes import Program, fetch, wait_for

pytestmark = [pytest.mark.kill, pytest.mark.slow]

LINE = "2026-11-21T14:45:00.000000000Z stdout F "


def collector(folder: Path, *more: str, **settings: str) -> Program:
    logs = folder / "logs" / "app"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "0.log").write_text("".join(f"{LINE}line {n}\n" for n in range(100)))
    flags = {
        "storage": f"file://{folder}/bucket",
        "project": "ns.app",
        "spool": f"{folder}/spool",
        "logs": f"{folder}/logs",
        "otlp-port": "0",
        "port": "0",
        "quiet": "100ms",
        "termination-log": f"{folder}/termination-log",
        **settings,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    return Program("spanyard_sidecar", [*words, *more], log=folder / "collector.log")


def stored(folder: Path) -> int:
    return len(list(folder.glob("bucket/observability/logs/**/*.zst")))


def test_it_serves_health_and_says_its_troubles_without_becoming_unready(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("a file where a directory should be")
    with collector(tmp_path, **{"flush-interval": "100ms"}) as program:
        _, operations = program.addresses(2)
        assert fetch(f"{operations}/healthz")[0] == 200

        def trouble() -> str | None:
            status, _, body = fetch(f"{operations}/readyz")
            assert status == 200
            text: str = body.decode()
            return text if text != "ok\n" else None

        assert "storage" in wait_for("the trouble in /readyz", trouble)
        metrics = fetch(f"{operations}/metrics")[2].decode()
        assert 'spanyard_collector_records_total{signal="logs"} 100.0' in metrics
        assert "spanyard_collector_spool_pending_entries 1.0" in metrics


def test_what_cannot_be_sent_is_told_to_the_kubelet_and_goes_out_at_the_next_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "bucket").write_text("a file where a directory should be")
    (tmp_path / "termination-log").touch()
    with collector(tmp_path, grace="1s") as program:
        program.addresses(2)
        assert program.stop() == 3
    message = (tmp_path / "termination-log").read_text()
    assert "not uploaded" in message
    assert str(tmp_path / "spool") in message
    (tmp_path / "bucket").unlink()
    with collector(tmp_path) as program:
        program.addresses(2)
        assert program.stop() == 0
    assert stored(tmp_path) == 1


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("a file where a directory should be")
    with collector(tmp_path, grace="1h") as program:
        program.addresses(2)
        program.process.send_signal(signal.SIGTERM)
        wait_for("the end to begin", lambda: "ending" in program.text() or None)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 3
        assert "exiting at once" in program.text()


def test_a_flush_can_be_hurried_from_inside_the_pod(tmp_path: Path) -> None:
    with collector(tmp_path, **{"flush-interval": "1h"}) as program:
        otlp, _ = program.addresses(2)
        assert fetch(f"{otlp}/flush-fast", body=b"")[0] == 200
        wait_for("the object", lambda: stored(tmp_path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"storage": "ftp://nowhere/"}, "storage"),
        ({"project": "nodot"}, "project"),
        ({"spool": "/proc/no/such"}, "spool"),
        ({"listen": "256.1.1.1"}, "listen"),
    ],
)
def test_a_wrong_setting_ends_with_code_2_and_one_clear_line(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    with collector(tmp_path, **settings) as program:
        assert program.process.wait(60) == 2
        last = program.text().splitlines()[-1]
        assert last.startswith("spanyard-sidecar: ")
        assert said in last
        assert "Traceback" not in program.text()


def test_in_a_pod_it_collects_in_spite_of_wrong_storage_and_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {
            "storage": "ftp://nowhere/",
            "otlp-port": str(taken.getsockname()[1]),
            "flush-interval": "100ms",
            "grace": "1s",
        }
        with collector(tmp_path, **settings) as program:
            assert program.process.wait(60) == 2
        with collector(tmp_path, "--must-start", **settings) as program:
            spooled = tmp_path / "spool" / f"{1:016d}.entry"
            wait_for("an entry in the spool", lambda: spooled.exists() or None)
            taken.close()
            wait_for("the port", lambda: "otlp listens after all" in program.text() or None)
            assert program.stop() == 3
            assert "going on without otlp" in program.text()
            assert "nothing can be uploaded until this is mended" in program.text()


def test_a_second_collector_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    with collector(tmp_path) as first:
        first.addresses(2)
        with collector(tmp_path) as second:
            assert second.process.wait(60) == 2
            assert "another collector is using" in second.text()
        first.kill()
    with collector(tmp_path) as third:
        third.addresses(2)
        assert third.stop() == 0


def test_help_and_fault_points_are_printed() -> None:
    command = [sys.executable, "-m", "spanyard_sidecar"]
    text = subprocess.run([*command, "--help"], capture_output=True, check=True, text=True).stdout
    assert "SPANYARD_FLUSH_INTERVAL" in text
    assert "Example, on a laptop" in text
    points = subprocess.run(
        [*command, "--list-fault-points"], capture_output=True, check=True, text=True
    ).stdout
    assert "collector.drained" in points


def in_pod(folder: Path, **settings: str) -> Program:
    """With variables, as a pod has them, and a port that nobody has."""
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "SPANYARD_STORAGE": f"file://{folder}/bucket",
        "SPANYARD_PROJECT": "ns.app",
        "SPANYARD_SPOOL": f"{folder}/spool",
        "SPANYARD_LISTEN": "127.0.0.1",
        "SPANYARD_PORT": str(own_port()),
        "SPANYARD_OTLP_PORT": "0",
        "SPANYARD_TERMINATION_LOG": f"{folder}/termination-log",
        "SPANYARD_GRACE": "5s",
        **{f"SPANYARD_{name.upper()}": value for name, value in settings.items()},
    }
    (folder / "termination-log").touch()
    return Program("spanyard_sidecar", [], log=folder / "collector.log", environ=environ)


def test_in_a_pod_wrong_settings_never_end_it_and_are_told(tmp_path: Path) -> None:
    with in_pod(tmp_path, project="nodot", chunk_size="many") as program:
        (operations,) = program.addresses(1)
        assert fetch(f"{operations}/healthz")[0] == 200
        assert fetch(f"{operations}/flush-fast")[0] == 200
        status, _, said = fetch(f"{operations}/readyz")
        assert (status, b"chunk_size" in said) == (200, True)
        program.check_alive()
        assert program.stop() == 2


def test_in_a_pod_it_stands_by_until_its_disk_works_and_then_collects(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where a folder should be")
    with in_pod(tmp_path) as program:
        address = program.addresses(1)[0]

        def said() -> str:
            with contextlib.suppress(OSError):
                return str(fetch(f"{address}/readyz")[2].decode())
            return ""

        assert "spool" in wait_for("its trouble", said)
        pid = program.pid
        (tmp_path / "spool").unlink()
        wait_for("the trouble's end", lambda: said() == "ok\n" or None)
        assert program.pid == pid
        assert program.stop() == 0


def test_in_a_pod_one_that_is_told_to_end_while_it_stands_by_says_why_it_did(
    tmp_path: Path,
) -> None:
    (tmp_path / "spool").write_text("a file where a folder should be")
    with in_pod(tmp_path) as program:
        program.addresses(1)
        assert program.stop() == 1
    assert "spool" in (tmp_path / "termination-log").read_text()
