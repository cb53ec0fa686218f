"""Compressed logs read like the files inside them."""

import gzip
import random
from pathlib import Path

import pytest

from spanyard_core.errors import BadRecordError
from spanyard_core.files import SystemFiles
from spanyard_sidecar.gzipped import GzippedFile


def opened(path: Path, packed: bytes) -> GzippedFile:
    path.write_bytes(packed)
    return GzippedFile(SystemFiles().open_read(str(path)))


@pytest.fixture(scope="module")
def text() -> bytes:
    rng = random.Random(5)
    return b"".join(rng.randbytes(rng.randrange(40)).hex().encode() + b"\n" for _ in range(60_000))


def test_any_place_can_be_read_in_any_order(tmp_path: Path, text: bytes) -> None:
    file = opened(tmp_path / "x.gz", gzip.compress(text, 1))
    rng = random.Random(6)
    for _ in range(30):
        at, size = rng.randrange(len(text) + 10), rng.choice([1, 256, 131_072, 400_000])
        assert file.pread(size, at) == text[at : at + size]
    file.close()


def test_behind_the_end_there_is_nothing(tmp_path: Path, text: bytes) -> None:
    file = opened(tmp_path / "x.gz", gzip.compress(text, 1))
    assert file.pread(10, len(text)) == b""
    assert file.pread(10, len(text) - 3) == text[-3:]
    file.close()


def test_members_follow_each_other(tmp_path: Path) -> None:
    file = opened(tmp_path / "x.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert file.pread(100, 0) == b"one\ntwo\n"
    file.close()


def test_an_empty_log_is_empty(tmp_path: Path) -> None:
    file = opened(tmp_path / "x.gz", gzip.compress(b""))
    assert file.pread(100, 0) == b""
    file.close()


def test_a_highly_compressed_log_costs_no_memory(tmp_path: Path) -> None:
    file = opened(tmp_path / "x.gz", gzip.compress(b"\0" * 50_000_000))
    assert file.pread(5, 49_000_000) == b"\0" * 5
    assert len(file._window) < 2_000_000
    file.close()


@pytest.mark.parametrize("damage", ["cut", "cut header", "garbage", "empty", "trailing"])
def test_damage_is_said(tmp_path: Path, text: bytes, damage: str) -> None:
    packed = gzip.compress(text, 1)
    bad = {
        "cut": packed[: len(packed) // 2],
        "cut header": packed[:5],
        "garbage": packed[:1000] + b"\0" * 1000 + packed[2000:],
        "empty": b"",
        "trailing": packed + b"no gzip",
    }[damage]
    file = opened(tmp_path / "x.gz", bad)
    with pytest.raises(BadRecordError):
        file.pread(len(text) + 1, 0)
    file.close()
