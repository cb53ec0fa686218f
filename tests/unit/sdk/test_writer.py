"""`ObservabilityWriter` (T5): files, results, errors, bounds, threads, forks."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from spanyard import ObservabilityWriter, WriterClosedError
from spanyard import writer as writer_module
from spanyard.names import parse_event_file
from spanyard_core.errors import BadRecordError, SettingError
from spanyard_core.storage.keys import TEMP_PART
from tests.unit.sdk.conftest import VALIDATORS

TIME = "2026-11-21T14:45:00.5Z"
SPAN: dict[str, Any] = {"id": "s", "traceId": "t", "name": "n", "startTime": TIME, "endTime": TIME}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "observability"


@pytest.fixture
def writer(base: Path) -> Iterator[ObservabilityWriter]:
    with ObservabilityWriter(base, project="team.shop", flush_interval=3600) as made:
        yield made


def files(base: Path) -> list[Path]:
    return sorted(p for p in base.rglob("*") if p.is_file())


def events(base: Path) -> list[dict[str, Any]]:
    found = []
    for file in files(base):
        name = parse_event_file(str(file.relative_to(base.parent)))
        for raw in file.read_bytes().splitlines():
            event = json.loads(raw)
            assert event["projectId"] == name.project
            without = {k: v for k, v in event.items() if k != "projectId"}
            VALIDATORS[name.signal].validate(without)
            found.append(event)
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_each_type_goes_to_its_folder(writer: ObservabilityWriter, base: Path) -> None:
    writer.record_trace(id="t", name="q", startTime=TIME, input={"a": 1}, output="x")
    writer.record_span(SPAN)
    writer.record_log({"message": "m", "level": "error"}, trace_id="t")
    writer.record_metric(name="n", value=1.5, unit="s")
    writer.record_score(name="good", value=1, traceId="t", comment="c")
    assert files(base) == []
    result = writer.flush()
    assert (result.files, result.events, result.errors) == (5, 5, {})
    folders = [file.parent.relative_to(base).as_posix() for file in files(base)]
    assert folders == [f"{s}/team.shop" for s in ("logs", "metrics", "scores", "spans", "traces")]
    log, metric, score, span, trace = events(base)
    assert (log["type"], log["level"], log["traceId"]) == ("log", "error", "t")
    assert (metric["kind"], metric["value"]) == ("gauge", 1.5)
    assert (score["comment"], span["endTime"], trace["endTime"]) == ("c", TIME, None)
    assert all(e["recordedAt"].endswith("Z") for e in (log, metric, score, span, trace))


def test_projects_are_kept_apart(writer: ObservabilityWriter, base: Path) -> None:
    writer.record_log(message="a")
    writer.record_log(message="b", project_id="team.other")
    assert writer.flush().files == 2
    assert {e["message"]: e["projectId"] for e in events(base)} == {
        "a": "team.shop",
        "b": "team.other",
    }


def test_record_events_takes_all_or_none(writer: ObservabilityWriter, base: Path) -> None:
    writer.record_events([{"type": "span", **SPAN}, {"type": "log", "message": "m"}])
    with pytest.raises(BadRecordError):
        writer.record_events([{"type": "log", "message": "good"}, {"type": "log"}])
    with pytest.raises(BadRecordError, match="'profile' is not an event"):
        writer.record_events([{"type": "profile"}])
    with pytest.raises(BadRecordError, match="'' is not an event"):
        writer.record_events([{}])
    assert writer.flush().events == 2


@pytest.mark.parametrize(
    ("kind", "event", "message"),
    [
        ("log", {}, "log: .*message"),
        ("log", {"message": 5}, "log: .*message"),
        ("log", {"message": "m", "level": "loud"}, "log: .*level"),
        ("log", {"message": "m", "colour": "red"}, "log: there is no field 'colour'.*attributes"),
        ("log", {"message": "m", "writer": "me"}, "log: there is no field 'writer'"),
        ("log", {"message": "m", "attributes": [1]}, "log: attributes is not an object"),
        ("log", {"message": "m", "timestamp": "yesterday"}, "log: timestamp 'yesterday'"),
        ("log", {"message": "m", "timestamp": "2026-02-31T00:00:00Z"}, "log: timestamp"),
        ("log", {"message": "m", "timestamp": 5}, "log: timestamp '5'"),
        ("log", {"message": "m", "timestamp": "2026-11-21T14:45:00+01:00"}, "in UTC"),
        ("log", {"message": "m", "projectId": "nodot"}, "project 'nodot'"),
        ("log", {"message": "m", "type": "span"}, "log: its type says 'span'"),
        ("span", {"name": "n"}, "span: .*id"),
        ("span", {**SPAN, "spanKind": "odd"}, "span: .*spanKind"),
        ("span", {**SPAN, "startTime": None}, "span: startTime"),
        ("metric", {"name": "n"}, "metric: .*value"),
        ("metric", {"name": "n", "value": "1"}, "metric: .*value"),
        ("metric", {"name": "n", "value": 1, "kind": "odd"}, "metric: .*kind"),
        ("score", {"value": 1}, "score: .*name"),
        ("trace", {"id": "t", "name": "n", "metadata": 5}, "trace: metadata is not an object"),
    ],
)
def test_a_wrong_event_is_refused_by_type_and_field(
    writer: ObservabilityWriter, kind: str, event: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRecordError, match=message):
        getattr(writer, f"record_{kind}")(event)
    assert writer.stats().recorded == 0


def test_times_may_be_datetimes_with_a_zone(writer: ObservabilityWriter, base: Path) -> None:
    paris = timezone(timedelta(hours=1))
    writer.record_log(message="m", timestamp=datetime(2026, 11, 21, 15, 45, 0, 5, paris))
    with pytest.raises(BadRecordError, match="has no time zone"):
        writer.record_log(message="m", timestamp=datetime(2026, 11, 21))  # noqa: DTZ001 - the point
    writer.flush()
    assert events(base)[0]["timestamp"] == "2026-11-21T14:45:00.000005Z"


def test_an_id_of_a_log_is_kept_beside(writer: ObservabilityWriter, base: Path) -> None:
    writer.record_log(id="mine", message="m", attributes={"a": 1})
    writer.flush()
    assert events(base)[0]["attributes"] == {"id": "mine", "a": 1}


def test_numbers_that_json_cannot_say_are_words(writer: ObservabilityWriter, base: Path) -> None:
    writer.record_metric(name="n", value=float("nan"))
    writer.flush()
    assert events(base)[0]["value"] == "NaN"


def test_files_stay_below_their_size(base: Path) -> None:
    with ObservabilityWriter(base, project="a.b", max_file_size=2000) as writer:
        for n in range(100):
            writer.record_log(message="x" * 100, attributes={"n": n})
        result = writer.flush()
    assert result.files == len(files(base)) > 5
    assert all(file.stat().st_size <= 2000 for file in files(base))
    assert sorted(e["attributes"]["n"] for e in events(base)) == list(range(100))


def test_a_full_batch_is_written_at_once(base: Path) -> None:
    with ObservabilityWriter(base, project="a.b", batch_size=10, flush_interval=3600) as writer:
        for _ in range(9):
            writer.record_log(message="m")
        time.sleep(0.05)
        assert files(base) == []
        writer.record_log(message="m")
        wait_for(lambda: writer.stats().written == 10)


def test_the_interval_writes_what_waits(base: Path) -> None:
    with ObservabilityWriter(base, project="a.b", flush_interval=0.05) as writer:
        writer.record_log(message="m")
        wait_for(lambda: writer.stats().written == 1)
        writer.record_log(message="m")
        wait_for(lambda: writer.stats().written == 2)


def test_shutdown_writes_and_later_records_are_refused(base: Path) -> None:
    writer = ObservabilityWriter(base, project="a.b")
    writer.record_log(message="m")
    assert writer.shutdown().events == 1
    with pytest.raises(WriterClosedError, match="was shut down"):
        writer.record_log(message="late")
    assert writer.shutdown().events == 0
    assert len(events(base)) == 1


async def test_coroutines_flush_without_blocking(writer: ObservabilityWriter, base: Path) -> None:
    writer.record_log(message="m")
    assert (await writer.flush_async()).events == 1


def test_an_empty_flush_makes_no_file(writer: ObservabilityWriter, base: Path) -> None:
    assert writer.flush().files == 0
    assert not base.exists()


def test_threads_record_while_others_flush(base: Path) -> None:
    with ObservabilityWriter(base, project="a.b", batch_size=50, flush_interval=0.01) as writer:

        def work(n: int) -> None:
            for k in range(200):
                writer.record_log(message="m", attributes={"n": n, "k": k})
                if k % 70 == 0:
                    writer.flush()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    seen = [(e["attributes"]["n"], e["attributes"]["k"]) for e in events(base)]
    assert sorted(seen) == [(n, k) for n in range(8) for k in range(200)]
    stats = writer.stats()
    assert (stats.recorded, stats.written, stats.pending, stats.dropped) == (1600, 1600, 0, 0)
    assert stats.files == len(files(base))


# -- when the disk fails ---------------------------------------------------------------------------


def test_a_failed_flush_keeps_the_events_and_names_the_type(
    writer: ObservabilityWriter, base: Path
) -> None:
    base.mkdir(parents=True)
    (base / "logs").write_text("a file in the way")
    writer.record_log(message="a")
    writer.record_span(SPAN)
    result = writer.flush()
    assert (result.files, result.events) == (1, 1)
    assert list(result.errors) == ["log"]
    stats = writer.stats()
    assert (stats.pending, stats.failed_flushes) == (1, 1)
    assert stats.last_error == result.errors["log"]
    (base / "logs").unlink()
    writer.record_log(message="b")
    assert writer.flush().events == 2
    assert [e["message"] for e in events(base) if e["type"] == "log"] == ["a", "b"]


@pytest.mark.parametrize("broken", ["fsync", "rename"])
def test_no_half_file_is_ever_seen_and_nothing_is_written_twice(
    writer: ObservabilityWriter, base: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer.record_log(message="a")
    with monkeypatch.context() as patch:
        patch.setattr(writer_module.os, broken, refuse)
        assert writer.flush().errors == {"log": "No space left on device"}
    assert files(base) == []
    assert writer.flush().events == 1
    assert len(events(base)) == 1


def test_an_unsynced_folder_does_not_make_a_written_file_come_twice(
    writer: ObservabilityWriter, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writer_module, "_sync_folder", refuse)
    writer.record_log(message="a")
    assert writer.flush().events == 1
    assert writer.flush().events == 0
    assert len(events(base)) == 1


def test_what_was_split_goes_on_after_the_part_that_failed(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ObservabilityWriter(base, project="a.b", max_file_size=1024, flush_interval=3600)
    for n in range(40):
        writer.record_log(message="x" * 50, attributes={"n": n})
    write = ObservabilityWriter._write
    calls = 0

    def fails_at_the_third(self: ObservabilityWriter, *given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *given)

    monkeypatch.setattr(ObservabilityWriter, "_write", fails_at_the_third)
    first = writer.flush()
    assert first.files == 2
    assert first.errors == {"log": "No space left on device"}
    assert writer.shutdown().events == 40 - first.events
    assert sorted(e["attributes"]["n"] for e in events(base)) == list(range(40))


def test_waiting_events_are_bounded_and_drops_counted(base: Path) -> None:
    base.mkdir(parents=True)
    (base / "logs").write_text("a file in the way")
    writer = ObservabilityWriter(
        base, project="a.b", batch_size=5, max_pending=20, flush_interval=3600
    )
    for _ in range(50):
        writer.record_log(message="m")
    stats = writer.stats()
    assert (stats.recorded, stats.pending, stats.dropped) == (50, 20, 30)
    (base / "logs").unlink()
    writer.shutdown()
    assert writer.stats().written == len(events(base)) == 20


# -- processes -------------------------------------------------------------------------------------


def run(code: str, base: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code.replace("BASE", repr(str(base)))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_end_of_the_process_flushes(base: Path) -> None:
    done = run(
        "from spanyard import ObservabilityWriter\n"
        "ObservabilityWriter(BASE, project='a.b').record_log(message='m')\n",
        base,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(events(base)) == 1


def test_a_forked_child_does_not_write_its_parents_events_again(base: Path) -> None:
    done = run(
        "import os\n"
        "from spanyard import ObservabilityWriter\n"
        "w = ObservabilityWriter(BASE, project='a.b', flush_interval=60)\n"
        "w.record_log(message='parent')\n"
        "child = os.fork()\n"
        "if not child: w.record_log(message='child')\n"
        "else: os.waitpid(child, 0)\n",
        base,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(e["message"] for e in events(base)) == ["child", "parent"]


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size: 1.5"),
        ({"batch_size": True}, "batch_size: True"),
        ({"flush_interval": 0}, "flush_interval: 0 is not a number of at least 0.01"),
        ({"flush_interval": float("nan")}, "flush_interval: nan"),
        ({"flush_interval": float("inf")}, "flush_interval: inf"),
        ({"flush_interval": "5s"}, "flush_interval: '5s'"),
        ({"max_file_size": 10}, "max_file_size: 10 is not a whole number of at least 1024"),
        ({"max_pending": 10}, "max_pending: 10 is not a whole number of at least 1000"),
        ({"project": "nodot"}, "project 'nodot'"),
        ({"base": ""}, "base: is required"),
    ],
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        ObservabilityWriter(**{"base": "/tmp/x", **wrong})
    assert str(caught.value).startswith(message)


def test_half_files_lie_where_storage_does_not_look() -> None:
    assert writer_module.TEMP_FOLDER == TEMP_PART


def test_now_is_the_default_time(writer: ObservabilityWriter, base: Path) -> None:
    before = datetime.now(UTC)
    writer.record_log(message="m")
    writer.flush()
    stamp = datetime.fromisoformat(events(base)[0]["timestamp"][:26] + "+00:00")
    assert before - timedelta(seconds=1) <= stamp <= datetime.now(UTC)


def test_no_thread_is_left_after_the_shutdown(base: Path) -> None:
    writer = ObservabilityWriter(base, project="a.b")
    writer.record_log(message="m")
    thread = writer._thread
    assert thread in threading.enumerate()
    writer.shutdown()
    assert thread not in threading.enumerate()
    assert os.listdir(base / writer_module.TEMP_FOLDER) == []
