"""Span files, by the contract in docs/span-files.md."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.faults import set_hook
from spanyard_sidecar.model import Continues, Forgets, Stored
from tests.unit.sidecar.spanfiles import Reader, T, Writer, log, one


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path)
    yield made
    made.die()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.close()


def test_a_thousand_living_files_are_not_all_open(tmp_path: Path, reader: Reader) -> None:
    """They took every descriptor, and then nothing of the pod could be spooled for ever."""
    writers = [Writer(tmp_path, f"{n}-abcdefgh") for n in range(1, 201)]
    try:
        for n, writer in enumerate(writers):
            writer.write(log(f"first of {n}"))
        sources = reader.scan()
        before = len(os.listdir("/dev/fd"))
        for n, source in enumerate(sources):
            assert [r["message"] for r in reader.read(source)] == [f"first of {n}"]
        assert len(os.listdir("/dev/fd")) <= before + 64
        for n, writer in enumerate(writers):
            writer.write(log(f"second of {n}"))
            writer.close()
        for n, source in enumerate(sources):
            assert [(r["seq"], r["message"]) for r in reader.read(source)] == [
                (2, f"second of {n}")
            ]
            assert source.ended
    finally:
        for writer in writers:
            writer.die()


class TestReading:
    def test_a_line_is_stamped_with_whose_it_is(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("hello", attributes={"a": [1, 2.5]}, traceId="A" * 32))
        (source,) = reader.scan()
        assert reader.read(source) == [
            {
                "type": "log",
                "project": "team.app",
                "writer": f"uid/logs/{writer.stem}@e",
                "uid": "u",
                "deployment": "app",
                "pod": "app-0",
                "stream": "file",
                "seq": 1,
                "timestamp": T,
                "level": "info",
                "message": "hello",
                "traceId": "a" * 32,
                "attributes": {"a": [1, 2.5]},
                "service": "app",
            }
        ]
        assert (source.signal, source.container) == ("logs", "files")

    def test_claims_of_identity_are_ignored(self, writer: Writer, reader: Reader) -> None:
        claims = {"project": "evil.x", "projectId": "evil.x", "writer": "w", "seq": 77, "uid": "z",
                  "deployment": "z", "build": "z", "pod": "z", "container": "z", "stream": "z",
                  "id": "1", "marks": ["x"], "unknown": {"a": 1}}  # fmt: skip
        writer.write(log("plain") + log("claims", **claims))
        (source,) = reader.scan()
        plain, claimed = reader.read(source)
        assert claimed == plain | {"seq": 2, "message": "claims"}

    def test_its_own_service_is_kept(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("x", service="shop"))
        (source,) = reader.scan()
        assert reader.read(source)[0]["service"] == "shop"

    def test_it_is_read_as_it_grows(self, writer: Writer, reader: Reader) -> None:
        (source,) = reader.scan()
        assert reader.read(source) == []
        for n in range(3):
            writer.write(log(str(n)) + log("half")[:20])
            assert [line["message"] for line in reader.read(source)][-1:] == [str(n)]
            writer.write(log("half")[20:])
        assert [line["seq"] for line in reader.read(source)] == [6]
        assert not source.ended

    def test_nothing_new_is_cheap(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("x"))
        (source,) = reader.scan()
        reader.read(source)
        source._files = None  # type: ignore[assignment]  # any look at the disk would fail
        source._next_lock = reader.clock.now + 10
        assert source.read(1 << 20) is None

    def test_numbers_and_ranges_go_on_over_a_restart(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        (first,) = reader.blocks(source)
        state = json.loads(json.dumps(source.state()))
        reader.close()
        writer.write(log("two"))
        again = Reader(writer.folder.parent)
        (source,) = again.scan({source.writer: state})
        (second,) = again.blocks(source)
        assert second.first == 2
        assert first.range is not None
        assert second.range is not None
        assert second.range.from_offset == first.range.to_offset
        assert second.range.fingerprint == first.range.fingerprint
        assert second.time_ns == 1_795_272_300_500_000_000
        again.close()

    @pytest.mark.parametrize("signal", ["spans", "traces", "metrics", "scores"])
    def test_every_signal_has_its_folder(self, tmp_path: Path, reader: Reader, signal: str) -> None:
        events: dict[str, dict[str, Any]] = {
            "spans": {"type": "span", "id": "1" * 16, "traceId": "2" * 32, "name": "n",
                      "startTime": T, "endTime": None, "events": [{"name": "e", "timestamp": T}]},
            "traces": {"type": "trace", "id": "2" * 32, "name": "n", "startTime": T,
                       "endTime": T, "input": [1, {"a": None}], "output": "x"},
            "metrics": {"type": "metric", "name": "n", "kind": "histogram", "value": 1.5,
                        "timestamp": T, "count": 2, "bounds": [1.0], "bucketCounts": [1, 1]},
            "scores": {"type": "score", "name": "n", "value": "NaN", "timestamp": T},
        }  # fmt: skip
        event = events[signal]
        record = one(reader, json.dumps(event).encode(), signal, tmp_path)
        assert event.items() <= record.items()
        assert record["writer"] == f"uid/{signal}/1-abcdefgh@e"

    def test_other_files_are_left_alone(self, tmp_path: Path, reader: Reader) -> None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "unknown").mkdir()
        for name in ("x.jsonl", "1-abcdefgh.tmp", "1-short.jsonl", "1-abcdefgh.json", "a-b.jsonl"):
            (tmp_path / "logs" / name).write_text("x")
        (tmp_path / "unknown" / "1-abcdefgh.jsonl").write_text("x")
        assert reader.scan() == []

    def test_a_directory_that_is_not_there_yet_is_empty(self, tmp_path: Path) -> None:
        assert Reader(tmp_path / "later").scan() == []


class TestEnd:
    def test_a_free_lock_is_the_end(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("x"))
        (source,) = reader.scan()
        reader.read(source)
        reader.read(source)
        assert not source.ended
        writer.write(log("y"))
        writer.die()
        assert [line["message"] for line in reader.read(source)] == ["y"]
        assert source.ended
        assert source.end().last_seq == 2

    def test_an_unterminated_last_line_counts_then(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("x") + log("y")[:-1])
        (source,) = reader.scan()
        assert [line["message"] for line in reader.read(source)] == ["x"]
        writer.die()
        (block,) = reader.blocks(source)
        assert json.loads(block.lines)["message"] == "y"
        assert block.cut
        assert source.ended

    def test_a_torn_last_line_is_bad_and_kept(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("x") + log("y")[:-5])
        writer.die()
        (source,) = reader.scan()
        good, bad = reader.read(source)
        assert good["message"] == "x"
        assert bad["unreadable"] == log("y")[:-5].decode()

    def test_rotation_is_the_same_file_under_another_name(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        reader.read(source)
        writer.rename()
        writer.write(log("two"))
        assert reader.scan() == []
        assert [line["message"] for line in reader.read(source)] == ["two"]
        assert not source.ended
        writer.die()
        reader.read(source)
        assert source.ended

    def test_a_closed_file_is_found_after_a_restart(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        reader.read(source)
        state = source.state()
        writer.write(log("two"))
        writer.close()
        again = Reader(writer.folder.parent)
        (source,) = again.scan({source.writer: state})
        assert [line["message"] for line in again.read(source)] == ["two"]
        again.close()

    def test_it_is_deleted_when_all_of_it_is_in_storage(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one"))
        writer.close()
        (source,) = reader.scan()
        source.uploaded(source.state())
        next(reader.blocks(source))
        half = source.state()
        source.stored(half)
        source.uploaded(half)
        assert writer.path.exists()
        reader.read(source)
        assert source.ended
        passed: list[str] = []
        set_hook(passed.append)
        try:
            source.uploaded(source.state())
        finally:
            set_hook(None)
        assert passed == ["spanfile.stored"]
        assert not writer.path.exists()

    def test_a_crash_before_the_deletion_is_made_up_for(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one"))
        writer.close()
        (source,) = reader.scan()
        reader.read(source)
        states = {source.writer: source.state()}
        again = Reader(writer.folder.parent)
        (same,) = again.scan(states)
        assert same.ended
        assert again.read(same) == []
        same.uploaded(states[same.writer])
        assert not writer.path.exists()

    def test_then_it_is_forgotten(self, writer: Writer, reader: Reader) -> None:
        assert isinstance(reader.kind, Forgets)
        writer.write(log("one"))
        writer.close()
        (source,) = reader.scan()
        reader.read(source)
        states = {source.writer: source.state(), "uid/logs@e": {"segment": 1}}
        assert reader.kind.forgotten(states) == []
        source.uploaded(source.state())
        assert reader.kind.forgotten(states) == [source.writer]
        again = Reader(writer.folder.parent)
        assert again.scan(states) == []
        assert again.kind.forgotten(states) == [source.writer]

    def test_the_collectors_end_leaves_a_living_file_alone(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one")[:-1])
        (source,) = reader.scan()
        assert reader.read(source) == []
        assert source.finish() is None
        assert source.state()["offset"] == 0

    def test_at_the_collectors_end_a_writer_that_has_just_ended_has_ended(
        self, writer: Writer, reader: Reader
    ) -> None:
        """Its lock was looked at 250 ms ago at most, and there is no later look."""
        writer.write(log("one"))
        (source,) = reader.scan()
        block = source.read(1 << 20)
        assert block is not None
        writer.write(log("two") + log("half a line")[:-1])
        writer.close()
        last = list(iter(source.finish, None))
        texts = [json.loads(line)["message"] for b in last for line in b.lines.splitlines()]
        assert texts == ["two", "half a line"]
        assert source.ended
        source.uploaded(source.state())
        assert not writer.path.exists()


class TestNewEpoch:
    def test_it_goes_on_after_what_is_stored(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        (block,) = reader.blocks(source)
        assert block.range is not None
        writer.write(log("two"))
        again = Reader(writer.folder.parent, epoch="f")
        (source,) = again.scan()
        assert isinstance(source, Continues)
        assert source.first_time_ns() is not None
        assert list(source.fingerprints()) == [block.range.fingerprint]
        source.go_on_from(block.range.fingerprint, Stored("uid/logs/x@e", 1, block.range.to_offset))
        (line,) = again.read(source)
        assert (line["message"], line["seq"]) == ("two", 1)
        again.close()

    def test_the_oldest_record_is_no_older_than_the_file(
        self, writer: Writer, reader: Reader
    ) -> None:
        (source,) = reader.scan()
        assert source.first_time_ns() is None
        assert list(source.fingerprints()) == []
        writer.write(log("one"))
        assert source.first_time_ns() == min(
            int(writer.stem.partition("-")[0]), writer.path.stat().st_mtime_ns
        )

    def test_a_short_file_of_an_ended_writer_has_a_fingerprint_too(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one")[:-1])
        writer.die()
        (source,) = reader.scan()
        prints = list(source.fingerprints())
        (block,) = reader.blocks(source)
        assert block.range is not None
        assert prints == [block.range.fingerprint]
