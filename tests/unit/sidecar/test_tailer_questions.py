"""The time of a source's oldest record, by which it is known whether anybody may have read it."""

from pathlib import Path

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.files import SystemFiles
from spanyard_sidecar.model import Identity
from spanyard_sidecar.tailer import CriSource

BEGIN = b"2026-11-21T14:45:00.5Z stdout F "
BEGIN_NS = 1_795_272_300_500_000_000


def first_time(folder: Path, content: bytes) -> int | None:
    (folder / "0.log").write_bytes(content)
    source = CriSource(
        SystemFiles(),
        SystemClock(),
        Identity("ns.app", pod_uid="u1"),
        folder=str(folder),
        container="app",
        restart=0,
        epoch="abcdefgh",
    )
    try:
        return source.first_time_ns()
    finally:
        source.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", None),
        (b"2026-11-21T14:4", None),
        (BEGIN + b"half a line", None),
        (BEGIN + b"a line\n", BEGIN_NS),
        (BEGIN + b"x" * 1_000_000, BEGIN_NS),
        (b"not a CRI line\n", 0),
    ],
    ids=["empty", "half a time", "half a line", "line", "line without end", "malformed"],
)
def test_it_is_told_as_soon_as_it_is_settled(
    tmp_path: Path, content: bytes, expected: int | None
) -> None:
    assert first_time(tmp_path, content) == expected
