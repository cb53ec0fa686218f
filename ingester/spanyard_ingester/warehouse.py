"""The warehouse as the ingester sees it: batches go in whole, and can be counted and taken out.

The real one is `warehouse_clickhouse.ClickHouseWarehouse`; the simulator brings one that fails in
every way that ClickHouse was seen to. One suite, `tests/contract/test_warehouse.py`, holds both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Protocol

from spanyard_core.records import Signal

SeqRange = tuple[int, int]
"""First and last seq of a run, both in it."""

MAX_BATCH_ROWS = 500_000
MAX_BATCH_BYTES = 128 * 1024 * 1024
"""Decoded. A batch of this size took the embedded engine's process to 520–544 MB."""


@dataclass(frozen=True, slots=True)
class WriterSums:
    """What is stored of one writer under one attempt. Equal sums are taken as equal rows."""

    count: int
    min_seq: int
    max_seq: int
    seq_sum: int
    """Modulo 2^64, like `hash_sum`."""
    hash_sum: int
    """Sum of cityHash64(seq): finds one row doubled and another missing, which the rest doesn't."""
    min_project: str
    max_project: str
    """Both the writer's project, else rows claim to be somebody else's."""


QuarantineStatus = Literal["open", "replayed", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """Something that could not be loaded, and why."""

    id: str
    project: str
    signal: str
    key: str
    """Of the object that it came in."""
    writer: str = ""
    line: int = 0
    """Number of the line in the object, from 1; 0 for the whole object."""
    offset: int = 0
    """Of the line's first byte in the decoded object."""
    reason: str
    bytes: bytes = b""
    """The first 64 KiB of what was refused."""
    size: int
    """Bytes of the whole."""
    status: QuarantineStatus = "open"
    created_at: datetime
    updated_at: datetime
    """The row with the latest one replaces the others of its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One object of a planned batch, copied from the ledger's log in the bucket."""

    shard: int
    n: int
    """Number of the entry in the shard's log."""
    attempt: int
    key: str
    writer: str
    seq_from: int
    seq_to: int
    records: int
    bad: int = 0
    """Lines of it in quarantine."""
    source: str = ""
    """Fingerprint of the file that it was read from, with its range of bytes."""
    source_from: int = 0
    source_to: int = 0
    source_pending: tuple[SeqRange, ...] = ()
    """Offset and length of pieces that were read, but are in no record yet."""
    signal: str
    project: str
    status: str
    """planned, committed, abandoned, … : the ledger's word."""
    time: datetime
    """The row with the latest one replaces the others of (shard, n, attempt, key)."""


class Warehouse(Protocol):
    """Where lines become rows.

    An attempt is a number from 1 to 2^64 - 1, new for every try to insert a batch, and in every
    row; after a call that failed or never answered only `read_back` tells what is stored. Nothing
    here is repeated by itself. Every method raises DatabaseUnavailableError when the warehouse is
    away or overloaded: the same call may go through later.
    """

    async def insert(
        self,
        attempt: int,
        table: Signal,
        day: date,
        files: Sequence[Path],
        *,
        exclude: Mapping[str, Sequence[SeqRange]] | None = None,
    ) -> None:
        """Insert the lines of these files, all or none, as one part in the partition `day`.

        Files are JSON lines, plain (`.jsonl`) or zstd of any number of frames (`.zst`), leading
        skippable frames included; together at most MAX_BATCH_ROWS and MAX_BATCH_BYTES. `exclude`
        leaves out rows by writer and seq. Raises DatabaseError when the data was refused: the
        caller looks for the bad lines. An insert without error proves nothing.
        """
        ...

    async def read_back(self, attempt: int, table: Signal, day: date) -> dict[str, WriterSums]:
        """What is stored under this attempt, by writer; empty when nothing is."""
        ...

    async def hash_sums(self, ranges: Mapping[str, Sequence[SeqRange]]) -> dict[str, int]:
        """Per writer, the `hash_sum` that its ranges must have (disjoint; none gives 0)."""
        ...

    async def derive(self, attempt: int, table: Signal, day: date) -> None:
        """Fill the derived tables from this attempt's rows. Repeating it changes nothing."""
        ...

    async def delete_attempt(self, attempt: int, table: Signal, day: date) -> None:
        """Delete exactly this attempt's rows; nothing of it is seen afterwards."""
        ...

    async def kill(self, attempt: int) -> None:
        """End this attempt's insert if it still runs, and wait for that. Rows may be stored."""
        ...

    async def attempts_present(
        self, table: Signal, days: Collection[date], attempts: Collection[int]
    ) -> set[int]:
        """Which of these attempts have rows in these days' partitions (the audit of abandoned)."""
        ...

    async def unknown_attempts(
        self, table: Signal, days: Collection[date], known: Collection[int]
    ) -> set[int]:
        """Attempts with rows in these days' partitions that are none of the known ones."""
        ...

    async def self_test(self) -> None:
        """Check on a scratch table what the ingester relies on. Raises DatabaseError, saying what
        is wrong.
        """
        ...

    async def quarantine_add(self, rows: Sequence[QuarantineRow]) -> None:
        """Add or replace rows of the quarantine, by id."""
        ...

    async def ledger_copy(self, rows: Sequence[LedgerRow]) -> None:
        """Add or replace rows of the ledger's copy, by (shard, n, attempt, key)."""
        ...
