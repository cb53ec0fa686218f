"""Comparing what a server says that it emitted with what the proof says is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SIGNALS = ("logs", "spans", "traces", "metrics", "scores")
WAYS = ("stdout and stderr", "span files", "OTLP")


@dataclass(frozen=True, slots=True)
class Row:
    """One way of one signal."""

    way: str
    signal: str
    emitted: int
    stored: int
    at_least: bool = False
    """A request whose answer was lost may be stored without the sender's knowledge."""

    @property
    def right(self) -> bool:
        return self.stored == self.emitted or (self.at_least and self.stored > self.emitted)


def emitted_counts(report: Mapping[str, Any], lines: int) -> dict[tuple[str, str], int]:
    """The agent's `/emitted` by way and signal; `lines` is what its log file got.

    The file may have more lines than the agent counts: libraries print too, such as the
    OpenTelemetry SDK when it must send again.
    """
    counts = {(WAYS[0], "logs"): max(lines, sum(report["lines"].values()))}
    for signal in SIGNALS:
        counts[WAYS[1], signal] = report["spanFiles"].get(signal, 0)
        counts[WAYS[2], signal] = report["otlp"].get(signal, 0)
    return counts


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the agent. What earlier ones left may be stored while this one goes on."""

    restart: int
    since_ns: int


def stored_counts(
    proof: Mapping[str, Any], container: str, run: Run | None = None
) -> dict[tuple[str, str], int]:
    """What is stored by way and signal, of one run or of all, from the writers' ids.

    `{pod uid}/{container}/{restart}@…` is a container's run, `{pod uid}/{signal}/{file}@…` a span
    file, `{pod uid}/{signal}@…` one signal of OTLP, whichever run sent it.
    """
    counts: dict[tuple[str, str], int] = {}
    for writer in proof["writers"]:
        parts = writer["writer"].split("@")[0].split("/")
        if writer["signal"] == "gaps" or len(parts) not in {2, 3}:
            continue
        if run is not None and len(parts) == 3 and not _is_of(run, parts[2], parts[1] == container):
            continue
        way = WAYS[2] if len(parts) == 2 else WAYS[0] if parts[1] == container else WAYS[1]
        key = (way, writer["signal"])
        counts[key] = counts.get(key, 0) + writer["stored"]
    return counts


def _is_of(run: Run, last: str, is_container: bool) -> bool:
    if is_container:
        return last == str(run.restart)
    return int(last.split("-", maxsplit=1)[0]) >= run.since_ns


def compare(
    emitted: Mapping[tuple[str, str], int],
    before: Mapping[tuple[str, str], int],
    after: Mapping[tuple[str, str], int],
    *,
    lenient_otlp: bool,
) -> list[Row]:
    """A row per way and signal that anything was emitted or stored of."""
    rows = []
    for way in WAYS:
        for signal in SIGNALS:
            key = (way, signal)
            stored = after.get(key, 0) - before.get(key, 0)
            if emitted.get(key, 0) or stored:
                rows.append(
                    Row(way, signal, emitted.get(key, 0), stored, lenient_otlp and way == WAYS[2])
                )
    return rows
