"""Span files, by the contract in docs/span-files.md."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.faults import set_hook
from spanyard_core.files import SystemFiles
from spanyard_sidecar.events import MAX_EVENT
from spanyard_sidecar.model import Block, Continues, Forgets, Identity, Stored
from spanyard_sidecar.spanfile import SpanFileSource
from spanyard_sidecar.spanfiles import SpanFileSources
from tests.fakes.handclock import HandClock

IDENTITY = Identity("team.app", uid="u", deployment="app", pod="app-0", pod_uid="uid")
T = "2026-11-21T14:45:00.5Z"


def log(message: str, **more: Any) -> bytes:
    event = {"type": "log", "timestamp": T, "level": "info", "message": message, **more}
    return json.dumps(event).encode() + b"\n"


class Writer:
    """A process with one span file."""

    def __init__(
        self, root: Path, stem: str = "1795272300000000000-abcdefgh", signal: str = "logs"
    ):
        self.folder = root / signal
        self.folder.mkdir(exist_ok=True)
        self.stem = stem
        self.path = self.folder / f"{stem}.jsonl"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        os.fchmod(self._fd, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def truncate(self, size: int = 0) -> None:
        os.ftruncate(self._fd, size)

    def rename(self) -> None:
        self.path = self.path.rename(self.folder / f"{self.stem}.closed.jsonl")

    def die(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        self.rename()
        self.die()


class Reader:
    """A collector's span files."""

    def __init__(self, root: Path, *, limit: int = 1_000_000, epoch: str = "e") -> None:
        self.clock = HandClock()
        self.epoch = epoch
        self.kind = SpanFileSources(SystemFiles(), self.clock, IDENTITY, str(root), limit=limit)
        self.sources: list[SpanFileSource] = []

    def scan(self, states: dict[str, Any] | None = None) -> list[SpanFileSource]:
        self.clock.advance(1)
        found = self.kind.scan(states or {}, self.epoch)
        sources = [source for source in found if isinstance(source, SpanFileSource)]
        self.sources += sources
        return sources

    def blocks(self, source: SpanFileSource) -> Iterator[Block]:
        while (block := source.read(1 << 20)) is not None:
            yield block
        self.clock.advance(1)

    def read(self, source: SpanFileSource) -> list[dict[str, Any]]:
        return [json.loads(x) for b in self.blocks(source) for x in b.lines.splitlines()]

    def close(self) -> None:
        for source in self.sources:
            source.close()


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


def one(reader: Reader, line: bytes, signal: str, root: Path) -> dict[str, Any]:
    """What becomes of one line."""
    writer = Writer(root, f"{len(reader.sources) + 1}-abcdefgh", signal)
    writer.write(line + b"\n")
    writer.die()
    (source,) = reader.scan()
    (record,) = reader.read(source)
    return record


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


class TestBadLines:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"", "truncated"),
            (b"no json", "malformed"),
            (b"\xff\xfe", "invalid UTF-8 at byte 0"),
            (b"[]", "not a JSON object"),
            (b"{}", "type is 'None'"),
            (b'{"type":"span"}', "type is 'span'; in this folder it is \"log\""),
            (b'{"type":"log"}', "missing required field `timestamp`"),
            (log("x")[:-2], "truncated"),
            (log("x")[:-1] + b" {}", "trailing"),
            (log("x", level="loud"), "Invalid enum value 'loud'"),
            (log("x", attributes=[1]), "attributes is not a JSON object"),
            (log("x", attributes=None), "attributes is not a JSON object"),
            (log("x", resource="x"), "resource is not a JSON object"),
            (log("x", timestamp="yesterday"), "timestamp 'yesterday' is not an RFC 3339 time"),
            (log("x", timestamp="9999-01-01T00:00:00Z"), "is not an RFC 3339 time"),
            (log("x", timestamp=""), "timestamp is empty"),
            (log("x", timestamp=5), "Expected `str`"),
            (log("x", recordedAt="x"), "recordedAt 'x' is not"),
            (log("x").replace(b'"x"', b'"x","attributes":{"a":1e999}'), "out of range"),
            (log("x").replace(b'"x"', b'"x","ignored":1e999'), "out of range"),
            (log("x").replace(b'"x"', b'"x","ignored":NaN'), "malformed"),
            (log("x").replace(b'"x"', b'"x","ignored":"\\ud800"'), "trunc|surrogate"),
            (log("x").replace(b'"x"', b'"x","ignored":' + b"[" * 5000 + b"]" * 5000), "recursion"),
            (log("x").replace(b'"x"', b'"x","ignored":' + b"[" * 200 + b"]" * 200), "too deeply"),
            (log("x").replace(b'"x"', b'"x","ignored":' + b"9" * 5000), "digits|integer"),
        ],
    )
    def test_they_go_on_with_text_and_reason_under_names_that_no_record_has(
        self, tmp_path: Path, reader: Reader, line: bytes, reason: str
    ) -> None:
        line = line.rstrip(b"\n")
        writer = Writer(tmp_path)
        writer.write(line + b"\n" + log("good"))
        writer.die()
        (source,) = reader.scan()
        bad, good = reader.read(source)
        assert bad["unreadable"] == line.decode(errors="replace")
        assert any(r.lower() in bad["reason"].lower() for r in reason.split("|")), bad["reason"]
        assert (bad["seq"], bad["type"], bad["writer"]) == (1, "log", source.writer)
        assert "message" not in bad
        assert (good["seq"], good["message"]) == (2, "good")

    @pytest.mark.parametrize(
        ("signal", "event", "reason"),
        [
            ("spans", {"id": ""}, "id is empty"),
            ("spans", {"traceId": ""}, "traceId is empty"),
            ("spans", {"endTime": ""}, "endTime is empty"),
            ("spans", {"endTime": "x"}, "endTime 'x' is not"),
            ("spans", {"status": "fine"}, "Invalid enum value"),
            ("spans", {"events": [{"name": 1}]}, "Expected `str`"),
            ("metrics", {"name": ""}, "name is empty"),
            ("metrics", {"value": "many"}, "Invalid enum value|Expected"),
            ("metrics", {"count": -1}, "the count -1 is not within"),
            ("metrics", {"count": 2**64}, "is not within"),
            ("metrics", {"bucketCounts": [1, -1]}, "the count -1 is not within"),
            ("metrics", {"startTime": "x"}, "startTime 'x' is not"),
            ("scores", {"name": ""}, "name is empty"),
            ("traces", {"metadata": 5}, "metadata is not a JSON object"),
        ],
    )
    def test_values_are_looked_at(
        self, tmp_path: Path, reader: Reader, signal: str, event: dict[str, Any], reason: str
    ) -> None:
        examples: dict[str, dict[str, Any]] = {
            "spans": {"type": "span", "id": "1", "traceId": "2", "name": "n", "startTime": T,
                      "endTime": T},
            "traces": {"type": "trace", "id": "2", "name": "n", "startTime": T, "endTime": None},
            "metrics": {"type": "metric", "name": "n", "kind": "counter", "value": 1,
                        "timestamp": T},
            "scores": {"type": "score", "name": "n", "value": 1, "timestamp": T},
        }  # fmt: skip
        good = examples[signal]
        assert "unreadable" not in one(reader, json.dumps(good).encode(), signal, tmp_path)
        record = one(reader, json.dumps(good | event).encode(), signal, tmp_path)
        assert any(r in record["reason"] for r in reason.split("|")), record["reason"]

    def test_a_line_over_the_limit_is_kept_in_parts(self, writer: Writer, reader: Reader) -> None:
        text = b"x" * (2 * MAX_EVENT + 100)
        for at in range(0, len(text), 500_000):
            writer.write(text[at : at + 500_000])
        (source,) = reader.scan()
        parts = reader.read(source)
        state = json.loads(json.dumps(source.state()))
        source.close()
        writer.write(b"end\n" + log("next"))
        again = Reader(writer.folder.parent)
        (source,) = again.scan({source.writer: state})
        *more, good = again.read(source)
        parts += more
        assert "".join(part["unreadable"] for part in parts) == text.decode() + "end"
        assert all("1 MiB" in part["reason"] for part in parts)
        assert good["message"] == "next"
        assert [line["seq"] for line in [*parts, good]] == list(range(1, len(parts) + 2))
        again.close()

    def test_a_line_of_exactly_the_limit_is_good(self, writer: Writer, reader: Reader) -> None:
        size = MAX_EVENT - len(log(""))
        writer.write(log("x" * size) + log("x" * (size + 1)))
        (source,) = reader.scan()
        good, bad = reader.read(source)
        assert len(good["message"]) == size
        assert bad["reason"] == "the line is longer than 1 MiB"

    @given(st.binary(max_size=300))
    def test_no_bytes_stop_the_reading(self, tmp_path_factory: Any, data: bytes) -> None:
        root = tmp_path_factory.mktemp("spans")
        writer = Writer(root)
        writer.write(log("first") + data + b"\n" + log("last"))
        writer.die()
        reader = Reader(root)
        (source,) = reader.scan()
        records = reader.read(source)
        assert len(records) == 3 + data.count(b"\n")
        assert (records[0]["message"], records[-1]["message"]) == ("first", "last")
        assert source.ended


class TestLosses:
    def test_truncation_is_a_gap(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("one") + log("two"))
        (source,) = reader.scan()
        reader.read(source)
        offset = source.state()["offset"]
        writer.truncate()
        writer.write(log("three"))
        told, after = reader.blocks(source)
        (gap,) = told.gaps
        assert (gap.cause, gap.from_offset, told.records, told.cut) == (
            "truncated",
            offset,
            0,
            True,
        )
        assert (json.loads(after.lines)["message"], after.first) == ("three", 3)

    def test_so_it_is_when_more_was_written_since(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        reader.read(source)
        writer.truncate()
        writer.write(log("a longer one than before") + log("another"))
        told, after = reader.blocks(source)
        assert [gap.cause for gap in told.gaps] == ["truncated"]
        assert after.records == 2

    def test_what_a_power_cut_left_is_not_read_again(self, writer: Writer, reader: Reader) -> None:
        writer.write(log("one") + log("two"))
        (source,) = reader.scan()
        reader.read(source)
        writer.truncate(len(log("one")) + 5)
        (told,) = reader.blocks(source)
        assert [gap.cause for gap in told.gaps] == ["truncated"]
        writer.write(b"\n" + log("three"))
        (after,) = reader.blocks(source)
        texts = [json.loads(line).get("message") for line in after.lines.splitlines()]
        assert texts == [None, "three"]

    def test_losing_what_was_not_read_yet_leaves_the_place(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one") + log("two")[:40])
        (source,) = reader.scan()
        reader.read(source)
        reader.read(source)
        writer.truncate(len(log("one")) + 20)
        (told,) = reader.blocks(source)
        assert [gap.cause for gap in told.gaps] == ["truncated"]
        writer.write(log("two")[20:])
        assert [line["message"] for line in reader.read(source)] == ["two"]

    def test_a_file_deleted_by_somebody_is_a_gap_after_a_restart(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        reader.read(source)
        states = {source.writer: source.state()}
        writer.path.unlink()
        again = Reader(writer.folder.parent)
        (source,) = again.scan(states)
        (block,) = again.blocks(source)
        assert [gap.cause for gap in block.gaps] == ["deleted"]
        assert source.ended

    def test_one_that_is_open_is_read_on_until_it_is_quiet(
        self, writer: Writer, reader: Reader
    ) -> None:
        writer.write(log("one"))
        (source,) = reader.scan()
        reader.read(source)
        writer.path.unlink()
        writer.write(log("two"))
        assert [line["message"] for line in reader.read(source)] == ["two"]
        assert not source.ended
        reader.clock.advance(61)
        assert reader.read(source) == []
        assert source.ended


class TestDirectoryLimit:
    def test_the_oldest_files_of_ended_writers_are_given_up_and_told(self, tmp_path: Path) -> None:
        for n in range(4):
            writer = Writer(tmp_path, f"{n}-abcdefgh")
            writer.write(log("x" * 1000))
            writer.close()
        alive = Writer(tmp_path, "9-abcdefgh")
        alive.write(log("y" * 1000))
        reader = Reader(tmp_path, limit=3 * 1200)
        sources = reader.scan()
        assert len(sources) == 5
        reader.scan()
        left = sorted(p.name for p in (tmp_path / "logs").glob("*.jsonl"))
        assert left == ["2-abcdefgh.closed.jsonl", "3-abcdefgh.closed.jsonl", "9-abcdefgh.jsonl"]
        for source in sources[:2]:
            (block,) = reader.blocks(source)
            (gap,) = block.gaps
            assert gap.cause == "directory-limit"
            assert gap.bytes == len(log("x" * 1000))
            assert block.cut
            assert source.ended
            source.uploaded(source.state())
        assert not list((tmp_path / "logs").glob("*.dropped"))
        assert [len(reader.read(source)) for source in sources[2:]] == [1, 1, 1]
        alive.die()
        reader.close()

    def test_what_is_already_read_is_not_counted_as_lost(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path)
        writer.write(log("one") * 10)
        reader = Reader(tmp_path, limit=500)
        (source,) = reader.scan()
        reader.read(source)
        writer.write(log("two") * 10)
        writer.close()
        reader.scan()
        (block,) = reader.blocks(source)
        assert [gap.bytes for gap in block.gaps] == [10 * len(log("two"))]
        reader.close()

    def test_a_file_that_is_safe_in_the_spool_goes_without_loss(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path)
        writer.write(log("one") * 10)
        writer.close()
        reader = Reader(tmp_path, limit=10_000)
        (source,) = reader.scan()
        assert len(reader.read(source)) == 10
        source.stored(source.state())
        reader.kind._limit = 500
        reader.scan()
        assert not writer.path.exists()
        assert list((tmp_path / "logs").iterdir()) == []
        source.uploaded(source.state())
        reader.close()

    def test_the_loss_is_told_also_when_the_collector_dies_before(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path)
        writer.write(log("one") * 10)
        writer.close()
        reader = Reader(tmp_path, limit=500)
        (source,) = reader.scan()
        again = Reader(tmp_path, limit=500)
        (source,) = again.scan()
        assert source.first_time_ns() is not None
        (block,) = again.blocks(source)
        assert [gap.bytes for gap in block.gaps] == [10 * len(log("one"))]
        assert source.ended

    def test_a_giving_up_that_was_cut_off_is_none(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path)
        writer.write(log("one"))
        writer.close()
        (tmp_path / "logs" / f"{writer.stem}.100.dropped").touch()
        reader = Reader(tmp_path)
        (source,) = reader.scan()
        assert [line["message"] for line in reader.read(source)] == ["one"]
        assert not list((tmp_path / "logs").glob("*.dropped"))
        reader.close()


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
