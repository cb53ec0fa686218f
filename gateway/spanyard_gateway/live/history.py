"""History of a subscription: the newest records of all its writers, in the order of time."""

import heapq
from collections.abc import Iterator, Sequence

from spanyard_gateway.live.records import Block, LogRecord, Picks, Record, is_open
from spanyard_gateway.live.stored import Row

MOST_ITEMS = 500
"""Of one message."""


def rows_of(block: Block, picks: Picks | None) -> list[Row]:
    """The records that are wanted."""
    return [Row(block.writer, record) for record in block.records if picks is None or picks(record)]


def _time(record: Record) -> str:
    return record.timestamp if isinstance(record, LogRecord) else record.start_time


def in_order(rows: Sequence[Row]) -> list[Row]:
    """By time; a writer's records stay in the order of their numbers."""
    writers: dict[str, dict[int, Row]] = {}
    for row in rows:
        writers.setdefault(row.writer, {})[row.record.seq] = row

    def timed(own: dict[int, Row]) -> Iterator[tuple[str, str, int, Row]]:
        latest = ""
        for seq in sorted(own):
            latest = max(latest, _time(own[seq].record))
            yield latest, own[seq].writer, seq, own[seq]

    return [row for *_, row in heapq.merge(*(timed(own) for own in writers.values()))]


def runs(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Neighbours that go into one message."""
    run: list[Row] = []
    for row in rows:
        if run and (
            row.writer != run[0].writer
            or len(run) >= MOST_ITEMS
            or is_open(row.record) != is_open(run[0].record)
        ):
            yield run
            run = []
        run.append(row)
    if run:
        yield run
