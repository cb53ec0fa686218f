"""Lines of any length through the real collector: bounded memory, and every byte kept."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.chain import Place, Pod
from tests.fakes.crilog import PIECE_BYTES
from tests.limits.spooling import LIMIT_BYTES, Watch

pytestmark = pytest.mark.slow

LONG = 200_000_000
SHORTER = 30_000_000
"""Of the cases that differ little: what counts is that it is far more than the memory."""
WHOLE = 1 << 20
"""Bytes of a line that stay whole."""


def text(length: int) -> Iterator[bytes]:
    """`length` bytes in pieces of the runtime's size; each tells where it belongs."""
    for at in range(0, length, PIECE_BYTES):
        piece = b"%012d" % at + b"." * (PIECE_BYTES - 12)
        yield piece[: length - at]


def digest(pieces: Iterator[bytes]) -> str:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return whole.hexdigest()


def written(pod: Pod, container: str) -> Path:
    """The container's empty log file."""
    log = pod.container(container)
    log.close()
    return log.path


def joined(records: list[dict[str, Any]]) -> str:
    """Digest of the records' texts, one after the other."""
    return digest(record["message"].encode() for record in records)


STAMP = b"2026-11-21T14:45:00.5Z stdout "


@pytest.mark.parametrize("case", ["pieces", "json", "no last piece", "no newline"])
def test_a_line_of_any_length_is_kept_in_parts_with_bounded_memory(
    case: str, tmp_path: Path
) -> None:
    length = LONG if case == "pieces" else SHORTER
    place = Place((tmp_path / "bucket").as_uri())
    pod = Pod(tmp_path / "pod")
    path = written(pod, "server")
    head = b'{"msg": "' if case == "json" else b""
    with path.open("wb") as file:
        if case == "no newline":
            file.write(STAMP + b"F ")
            file.writelines(text(length))
        else:
            file.writelines(
                STAMP + b"P " + head * (not i) + piece + b"\n"
                for i, piece in enumerate(text(length))
            )
        if case in {"pieces", "json"}:
            file.write(STAMP + b"F \n" + STAMP + b"F the next line\n")
    with pod.collector(place, index_wait="0s") as collector:
        collector.addresses(2)
        with Watch(collector, pod.spool) as watch:
            least = length // WHOLE
            collector.wait_records(least, within=180)  # of 200 MB
            collector.end()
    logs = [record for record in place.records(pod.project) if record["type"] == "log"]
    if case in {"pieces", "json"}:
        assert logs.pop()["message"] == "the next line"
    assert all(len(record["message"]) <= WHOLE for record in logs)
    assert all({"split", "split-end"} & set(record["marks"]) for record in logs)
    assert joined(logs) == digest(p for part in ([head], text(length)) for p in part)
    assert watch.memory <= LIMIT_BYTES
    path.unlink()
