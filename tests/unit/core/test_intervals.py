"""Interval sets against the plain set of numbers they stand for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spanyard_core.intervals import IntervalSet

PAIR = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda p: (min(p), max(p)))


class IntervalsAgainstSets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.real = IntervalSet()
        self.model: set[int] = set()

    @rule(pair=PAIR)
    def add(self, pair: tuple[int, int]) -> None:
        self.real.add(*pair)
        self.model |= set(range(pair[0], pair[1] + 1))

    @rule(pair=PAIR)
    def discard(self, pair: tuple[int, int]) -> None:
        self.real.discard(*pair)
        self.model -= set(range(pair[0], pair[1] + 1))

    @rule(pair=PAIR)
    def ask(self, pair: tuple[int, int]) -> None:
        asked = set(range(pair[0], pair[1] + 1))
        assert numbers(self.real.overlap(*pair)) == sorted(asked & self.model)
        assert numbers(self.real.missing(*pair)) == sorted(asked - self.model)
        assert self.real.covers(*pair) == (asked <= self.model)

    @invariant()
    def is_the_same_set(self) -> None:
        assert numbers(iter(self.real)) == sorted(self.model)
        assert all((n in self.real) == (n in self.model) for n in range(42))
        assert self.real.total == len(self.model)
        assert self.real.last == max(self.model, default=0)

    @invariant()
    def is_canonical(self) -> None:
        pairs = list(self.real)
        assert all(a <= b for a, b in pairs)
        assert all(b + 1 < c for (_, b), (c, _) in pairwise(pairs))
        assert len(self.real) == len(pairs)
        assert self.real == IntervalSet(pairs)

    def teardown(self) -> None:
        assert self.real == IntervalSet((n, n) for n in self.model)


def numbers(pairs: object) -> list[int]:
    return [n for a, b in pairs for n in range(a, b + 1)]  # type: ignore[attr-defined]


TestIntervalsAgainstSets = pytest.mark.slow(IntervalsAgainstSets.TestCase)


@given(st.permutations([(1, 3), (4, 9), (20, 20), (10, 12), (2, 5)]))
def test_the_order_of_adding_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    assert list(IntervalSet(pairs)) == [(1, 12), (20, 20)]


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="empty interval 5…4"):
        IntervalSet().add(5, 4)


def test_changing_the_set_while_walking_it_is_safe() -> None:
    seqs = IntervalSet([(1, 2), (5, 6)])
    for first, last in seqs:
        seqs.discard(first, last)
    assert list(seqs) == []


def test_millions_of_numbers_cost_a_handful_of_pairs() -> None:
    seqs = IntervalSet((n, n + 9) for n in range(1, 1_000_000, 10))
    assert list(seqs) == [(1, 1_000_000)]
    assert repr(seqs) == "IntervalSet([(1, 1000000)])"
