"""What of a span file is lost or given up: bad lines, truncation, a full folder; each is told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_sidecar.events import MAX_EVENT
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
