"""Scan: which lines of an object are bad, found by our own decoder in bounded memory.

Runs on the objects of a batch that the engine refused or miscounted. Reading goes in steps, so
that whoever drives it can let other work go on in between.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from spanyard_core.chunks import ChunkFacts, decoded_blocks
from spanyard_core.errors import BadRecordError
from spanyard_core.intervals import IntervalSet
from spanyard_ingester.linecheck import BadLineError, Expected, LineCheck
from spanyard_ingester.operations import BadLine, line_id
from spanyard_ingester.splitter import LineSplitter, RawLine

_LINES_PER_STEP = 1_000
MOST_RUNS = 100_000
"""Runs of good seqs in one object. 10 MB of short lines, each second one erased, make a third of
it; an object made of holes, read backwards, would take minutes and a ledger entry of 20 MB."""


@dataclass(slots=True)
class Scanned:
    """What an object holds."""

    lines: int = 0
    good: IntervalSet = field(default_factory=IntervalSet)
    """Seqs of its good lines."""
    bad: list[BadLine] = field(default_factory=list)


class Scan:
    """The scan of one chunk. Iterate over `steps`, then take `result`.

    Raises BadRecordError (while stepping) for an object that belongs into quarantine as a whole:
    it does not unpack, unpacks to more than `most_bytes`, has more than `most_bad` bad lines, or
    consists of holes.
    `known_bad` are numbers of lines that are left out already.
    """

    def __init__(
        self,
        key: str,
        facts: ChunkFacts,
        *,
        most_bytes: int,
        most_bad: int,
        longest_line: int,
        known_bad: Iterable[int] = (),
    ) -> None:
        self._key = key
        self._facts = facts
        self._most_bytes = most_bytes
        self._most_bad = most_bad
        self._longest = longest_line
        self._known_bad = frozenset(known_bad)
        self._check = LineCheck(
            Expected(facts.signal, facts.project, facts.writer, facts.first, facts.last)
        )
        self._unplaced: list[BadLine] = []
        self.result = Scanned()

    def steps(self, data: bytes) -> Iterator[None]:
        """Read the object; yields about every 10 ms."""
        splitter = LineSplitter(self._longest)
        for block in decoded_blocks(data, limit=self._most_bytes):
            for line in splitter.feed(block):
                self._line(line)
                if line.number % _LINES_PER_STEP == 0:
                    yield
        rest = splitter.finish()
        if rest is not None:
            self._line(rest)
        self.result.lines = splitter.number
        self._place()
        yield

    def _line(self, line: RawLine) -> None:
        if line.number in self._known_bad:
            return
        if line.data is None:
            self._bad(line, f"the line has {line.size} bytes; {self._longest} is most", 0)
            return
        try:
            seq = self._check(line.data)
        except BadLineError as error:
            self._bad(line, error.reason, error.seq)
            return
        if seq in self.result.good:
            self._bad(line, f"seq {seq} stands twice in the object", 0)
            return
        self.result.good.add(seq, seq)
        if len(self.result.good) > MOST_RUNS:
            raise BadRecordError(f"more than {MOST_RUNS} holes between the seqs of its lines")

    def _bad(self, line: RawLine, reason: str, seq: int) -> None:
        if len(self.result.bad) >= self._most_bad:
            raise BadRecordError(
                f"more than {self._most_bad} bad lines; the first, line {self.result.bad[0].line}: "
                f"{self.result.bad[0].reason}"
            )
        found = BadLine(
            id=line_id(self._key, line.number),
            line=line.number,
            offset=line.offset,
            size=line.size,
            reason=reason,
            seq=seq if self._facts.first <= seq <= self._facts.last else 0,
        )
        self.result.bad.append(found)

    def _place(self) -> None:
        """Give bad lines the seqs that they must have had, as far as that can be told.

        A collector writes its lines in order and without holes, so line k has seq first + k - 1;
        a guess that contradicts a good line, or another bad one's own word, is not made.
        """
        facts = self._facts
        taken = IntervalSet()
        for bad in self.result.bad:
            if bad.seq and (bad.seq in self.result.good or bad.seq in taken):
                bad.seq = 0
            elif bad.seq:
                taken.add(bad.seq, bad.seq)
        for bad in self.result.bad:
            guess = facts.first + bad.line - 1
            if (
                not bad.seq
                and guess <= facts.last
                and guess not in self.result.good
                and guess not in taken
            ):
                bad.seq = guess
                taken.add(guess, guess)
