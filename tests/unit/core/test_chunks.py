"""Chunks: what is written reads back, with any zstd reader; what is cut, changed or a bomb is refused."""

import hashlib
import io
import tracemalloc
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from spanyard_core.chunks import (
    FRAME_MAGIC,
    HEAD_BYTES,
    MAX_FACTS_BYTES,
    RAW_BYTES,
    ChunkFacts,
    ChunkWriter,
    Source,
    check_chunk,
    decode_facts,
    decoded_blocks,
    encode_facts,
)
from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import parse_key

IDENTITY: dict[str, Any] = {"signal": "logs", "project": "team.shop", "writer": "pod/c/0@e"}


def chunk(lines: list[bytes], *, first: int = 1, source: Source | None = None) -> bytes:
    writer = ChunkWriter()
    for line in lines:
        writer.add(line, 1)
    last = first + len(lines) - 1
    _, parts = writer.finish(**IDENTITY, first=first, last=last, time_ns=5 * 10**18, source=source)
    return b"".join(parts)


def unpacked(data: bytes) -> bytes:
    return b"".join(decoded_blocks(data))


LINES = st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\n", b"") + b"\n"), min_size=1)


@given(LINES, st.integers(1, 10**15))
def test_a_chunk_reads_back_with_its_facts(lines: list[bytes], first: int) -> None:
    data = chunk(lines, first=first)
    facts = check_chunk(data)
    assert (facts.first, facts.last) == (first, first + len(lines) - 1)
    assert facts.records == len(lines)
    assert facts.decoded == len(b"".join(lines))
    assert unpacked(data) == b"".join(lines)
    assert parse_key(facts.name.key()) == facts.name


STEPS = st.lists(
    st.sampled_from(["rest", "so far"]) | st.integers(0, 40_000).map(lambda n: b"x" * n + b"\n"),
    max_size=8,
)


@given(STEPS)
def test_a_writer_that_rests_and_shows_its_lines_writes_them_all(steps: list[bytes | str]) -> None:
    writer = ChunkWriter()
    lines = b""
    for step in steps:
        if isinstance(step, bytes):
            writer.add(step, 1)
            lines += step
        elif step == "rest":
            writer.rest()
            assert not writer.compresses
        else:
            shown = b"".join(writer.so_far())
            reader = zstandard.ZstdDecompressor().stream_reader(
                io.BytesIO(shown), read_across_frames=True
            )
            assert reader.read() == lines
    held = writer.held
    facts, parts = writer.finish(**IDENTITY, first=1, last=max(1, writer.records), time_ns=5)
    assert held <= sum(map(len, parts)) + RAW_BYTES
    assert facts.decoded == len(lines)
    assert check_chunk(b"".join(parts)) == facts
    assert unpacked(b"".join(parts)) == lines


def test_a_few_lines_need_no_compressor_until_the_end() -> None:
    writer = ChunkWriter()
    writer.add(b"x" * 1000 + b"\n", 1)
    assert (writer.compresses, writer.held) == (False, 1001)
    writer.add(b"x" * RAW_BYTES + b"\n", 1)
    assert writer.compresses
    assert writer.held < 1000


def test_an_ordinary_zstd_reader_skips_the_facts_and_reads_joined_objects() -> None:
    data = chunk([b"a\n"]) + chunk([b"b\n"], first=2)
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
    assert reader.read() == b"a\nb\n"
    assert unpacked(data) == b"a\nb\n"


def test_facts_are_read_from_the_head_alone() -> None:
    source = Source("256:" + "ab" * 16, 0, 10**12, [(n * 16384, 16384) for n in range(64)])
    data = chunk([b"x" * 100_000 + b"\n"], source=source)
    facts, at = decode_facts(data[:HEAD_BYTES])
    assert facts.source == source
    assert data[at : at + 4] == zstandard.FRAME_HEADER
    assert hashlib.sha256(data[at:]).hexdigest() == facts.sha256


def test_the_same_lines_make_the_same_bytes_however_they_were_added() -> None:
    one, many = ChunkWriter(), ChunkWriter()
    text = b"".join(b"line %d\n" % n for n in range(1000))
    one.add(text, 1000)
    many.add(text, 1000)
    ends = {"first": 1, "last": 1000, "time_ns": 1}
    assert one.finish(**IDENTITY, **ends) == many.finish(**IDENTITY, **ends)


@given(st.data())
def test_a_chunk_cut_anywhere_is_refused(data: st.DataObject) -> None:
    whole = chunk([b'{"n":%d}\n' % n for n in range(50)])
    at = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadRecordError):
        check_chunk(whole[:at])


@given(st.data())
def test_a_chunk_with_a_changed_payload_is_refused(data: st.DataObject) -> None:
    whole = bytearray(chunk([b'{"n":%d}\n' % n for n in range(50)]))
    _, start = decode_facts(bytes(whole))
    at = data.draw(st.integers(start, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadRecordError, match="cut short or changed"):
        check_chunk(bytes(whole))


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_else(data: bytes) -> None:
    for text in (data, FRAME_MAGIC + data, FRAME_MAGIC + len(data).to_bytes(4, "little") + data):
        with pytest.raises(BadRecordError):
            check_chunk(text)


@pytest.mark.parametrize(
    "facts",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"v":1,"signal":"profiles"}',
        b"[" * 30_000,
        b'{"writer":"\xff"}',
    ],
)
def test_nonsense_in_the_facts_is_refused(facts: bytes) -> None:
    with pytest.raises(BadRecordError, match="not readable"):
        decode_facts(FRAME_MAGIC + len(facts).to_bytes(4, "little") + facts)


def test_a_later_format_is_refused_by_its_number() -> None:
    facts, _ = decode_facts(chunk([b"a\n"]))
    later = encode_facts(msgspec.structs.replace(facts, v=2))
    with pytest.raises(BadRecordError, match="has format 2"):
        decode_facts(later)


def test_a_frame_that_claims_too_much_is_refused_before_it_is_read() -> None:
    head = FRAME_MAGIC + (MAX_FACTS_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(BadRecordError, match="is most"):
        decode_facts(head)


def test_another_skippable_frame_is_not_ours() -> None:
    with pytest.raises(BadRecordError, match="does not begin with the frame"):
        decode_facts(b"\x50\x2a\x4d\x18\x00\x00\x00\x00")


@settings(max_examples=30)
@given(st.data())
def test_unpacking_a_cut_frame_is_refused(data: st.DataObject) -> None:
    whole = chunk([b'{"n":%d}\n' % n for n in range(200)])
    _, start = decode_facts(whole)
    at = data.draw(st.integers(start + 1, len(whole) - 1))
    with pytest.raises(BadRecordError):
        unpacked(whole[:at])


def test_damage_inside_is_found_by_the_checksum() -> None:
    whole = bytearray(chunk([b"a" * 50 + b"%d\n" % n for n in range(500)]))
    whole[-20] ^= 1
    with pytest.raises(BadRecordError, match="cannot be unpacked"):
        unpacked(bytes(whole))


def test_a_bomb_is_stopped_at_the_limit_in_bounded_memory() -> None:
    stream, megabyte = zstandard.ZstdCompressor(level=1).compressobj(), bytes(1 << 20)
    bomb = b"".join(stream.compress(megabyte) for _ in range(256)) + stream.flush()
    assert len(bomb) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(BadRecordError, match="more than 67108864 bytes"):
            for _ in decoded_blocks(bomb, limit=64 << 20):
                pass
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_an_object_of_exactly_the_limit_passes() -> None:
    data = chunk([b"x" * 999 + b"\n"])
    assert b"".join(decoded_blocks(data, limit=1000)) == b"x" * 999 + b"\n"
    with pytest.raises(BadRecordError, match="more than 999 bytes"):
        list(decoded_blocks(data, limit=999))


def test_a_header_that_claims_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(b"a" * 100) + stream.flush()
    with pytest.raises(BadRecordError, match="cannot be unpacked"):
        unpacked(data)


def test_trailing_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(BadRecordError):
        unpacked(chunk([b"a\n"]) + b"trailing")


def test_empty_input_has_no_blocks() -> None:
    assert unpacked(b"") == b""


@given(st.integers(1, 4000), st.integers(0, 3))
@settings(max_examples=40)
def test_many_frames_are_read_at_every_alignment_of_steps(size: int, skippable: int) -> None:
    # Steps of 256 input bytes must find the frame's end wherever it falls.
    noise = hashlib.shake_256(str(size).encode()).digest(size)
    frames = [chunk([noise.replace(b"\n", b"") + b"\n"]) for _ in range(3)]
    empty = b"\x53\x2a\x4d\x18" + (0).to_bytes(4, "little")
    assert unpacked((empty * skippable).join(frames)) == (noise.replace(b"\n", b"") + b"\n") * 3


def test_facts_with_optional_parts_left_out_are_small() -> None:
    facts = ChunkFacts(
        **IDENTITY, first=1, last=2, records=2, decoded=10, time_ns=1, sha256="0" * 64
    )
    assert b"source" not in encode_facts(facts)
    assert decode_facts(encode_facts(facts))[0] == facts
