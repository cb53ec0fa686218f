"""Objects as a collector stores them, made by hand."""

import calendar
import time
from collections.abc import Iterable, Mapping

import msgspec

from spanyard_core.chunks import ChunkFacts, ChunkWriter, Source
from spanyard_core.records import LogLine, Signal

NOON_NS = calendar.timegm(time.strptime("2026-11-21T12:00:00", "%Y-%m-%dT%H:%M:%S")) * 10**9


def log_line(writer: str, seq: int, *, project: str = "team.shop", **fields: str) -> bytes:
    """One log line with its newline; its message names it."""
    values = {
        "timestamp": "2026-11-21T12:00:00.000000001Z",
        "level": "info",
        "message": f"{writer} says {seq}",
        **fields,
    }
    line = LogLine(project=project, writer=writer, seq=seq, **values)  # type: ignore[arg-type]
    return msgspec.json.encode(line) + b"\n"


def log_chunk(
    writer: str,
    first: int,
    last: int,
    *,
    project: str = "team.shop",
    instead: Mapping[int, bytes] | None = None,
    source: Source | None = None,
    **fields: str,
) -> tuple[str, bytes]:
    """Key and bytes of a chunk of log lines. `instead` gives other bytes for some seqs."""
    facts, data = chunk(
        (
            (instead or {}).get(seq) or log_line(writer, seq, project=project, **fields)
            for seq in range(first, last + 1)
        ),
        writer=writer,
        first=first,
        last=last,
        project=project,
        source=source,
    )
    return facts.name.key(), data


def chunk(
    lines: Iterable[bytes],
    *,
    writer: str,
    first: int,
    last: int,
    project: str = "team.shop",
    signal: Signal = "logs",
    source: Source | None = None,
    time_ns: int = NOON_NS,
) -> tuple[ChunkFacts, bytes]:
    """Facts and bytes of a chunk with these lines, one record each."""
    out = ChunkWriter()
    for line in lines:
        out.add(line, 1)
    facts, parts = out.finish(
        signal=signal,
        project=project,
        writer=writer,
        first=first,
        last=last,
        time_ns=time_ns,
        source=source,
    )
    return facts, b"".join(parts)
