"""Sets of sequence numbers as sorted, disjoint, closed intervals."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class IntervalSet:
    """Which seqs of a writer are there. Millions of numbers in a handful of pairs."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in pairs:
            self.add(first, last)

    def add(self, first: int, last: int) -> None:
        """Add first…last; overlapping and adjacent intervals become one."""
        if first > last:
            raise ValueError(f"empty interval {first}…{last}")
        i = bisect_left(self._ends, first - 1)
        j = bisect_right(self._starts, last + 1)
        if i < j:
            first = min(first, self._starts[i])
            last = max(last, self._ends[j - 1])
        self._starts[i:j] = [first]
        self._ends[i:j] = [last]

    def discard(self, first: int, last: int) -> None:
        """Take first…last out."""
        for a, b in list(self.overlap(first, last)):
            i = bisect_left(self._ends, a)
            start, end = self._starts[i], self._ends[i]
            pieces = [(start, a - 1)] if start < a else []
            if b < end:
                pieces.append((b + 1, end))
            self._starts[i : i + 1] = [p[0] for p in pieces]
            self._ends[i : i + 1] = [p[1] for p in pieces]

    def overlap(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts of first…last that are in the set."""
        i = bisect_left(self._ends, first)
        while i < len(self._starts) and self._starts[i] <= last:
            yield max(first, self._starts[i]), min(last, self._ends[i])
            i += 1

    def missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts of first…last that are not in the set."""
        at = first
        for a, b in self.overlap(first, last):
            if at < a:
                yield at, a - 1
            at = b + 1
        if at <= last:
            yield at, last

    def covers(self, first: int, last: int) -> bool:
        """Whether all of first…last is in the set."""
        return next(self.missing(first, last), None) is None

    def __contains__(self, seq: int) -> bool:
        i = bisect_left(self._ends, seq)
        return i < len(self._starts) and self._starts[i] <= seq

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __len__(self) -> int:
        """Number of intervals (not of seqs: see `total`)."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, IntervalSet)
            and self._starts == other._starts
            and self._ends == other._ends
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return "IntervalSet([" + ", ".join(f"({a}, {b})" for a, b in self) + "])"

    @property
    def total(self) -> int:
        """Number of seqs in the set."""
        return sum(b - a + 1 for a, b in self)

    @property
    def last(self) -> int:
        """The greatest seq, 0 when empty."""
        return self._ends[-1] if self._ends else 0
