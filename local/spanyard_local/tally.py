"""Comparing what a server says that it emitted with what the proof says is stored."""

from collections.abc import Collection, Iterable, Mapping
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


def emitted_counts(reports: Iterable[Mapping[str, Any]], lines: int) -> dict[tuple[str, str], int]:
    """What the runs of an agent said at their ends; `lines` is what their log files got.

    The files may have more lines than the agent counts: libraries print too, such as the
    OpenTelemetry SDK when it must send again.
    """
    counts = {(WAYS[0], "logs"): 0}
    for report in reports:
        counts[WAYS[0], "logs"] += sum(report["lines"].values())
        for signal in SIGNALS:
            for way, part in ((WAYS[1], "spanFiles"), (WAYS[2], "otlp")):
                counts[way, signal] = counts.get((way, signal), 0) + report[part].get(signal, 0)
    counts[WAYS[0], "logs"] = max(lines, counts[WAYS[0], "logs"])
    return counts


def stored_counts(
    proof: Mapping[str, Any], container: str, pods: Collection[str]
) -> dict[tuple[str, str], int]:
    """What is stored of some pods by way and signal, from the writers' ids.

    `{pod uid}/{container}/{restart}@…` is a container's run, `{pod uid}/{signal}/{file}@…` a span
    file, `{pod uid}/{signal}@…` one signal of OTLP.
    """
    counts: dict[tuple[str, str], int] = {}
    for writer in proof["writers"]:
        parts = writer["writer"].split("@")[0].split("/")
        if writer["signal"] == "gaps" or len(parts) not in {2, 3} or parts[0] not in pods:
            continue
        way = WAYS[2] if len(parts) == 2 else WAYS[0] if parts[1] == container else WAYS[1]
        key = (way, writer["signal"])
        counts[key] = counts.get(key, 0) + writer["stored"]
    return counts


def compare(
    emitted: Mapping[tuple[str, str], int],
    stored: Mapping[tuple[str, str], int],
    *,
    lenient_otlp: bool,
) -> list[Row]:
    """A row per way and signal that anything was emitted or stored of."""
    rows = []
    for way in WAYS:
        for signal in SIGNALS:
            key = (way, signal)
            if emitted.get(key, 0) or stored.get(key, 0):
                lenient = lenient_otlp and way == WAYS[2]
                rows.append(Row(way, signal, emitted.get(key, 0), stored.get(key, 0), lenient))
    return rows
