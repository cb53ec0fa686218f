"""Back-off grows, is capped, is jittered from the given randomness, and can be reset."""

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.retry import Backoff


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(Random(1), first=1, most=10, jitter=0)
    assert list(islice(backoff, 6)) == [1, 2, 4, 8, 10, 10]
    assert backoff.attempts == 6


def test_reset_begins_again() -> None:
    backoff = Backoff(Random(1), first=1, jitter=0)
    list(islice(backoff, 5))
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.next() == 1


@given(st.integers(), st.floats(0, 1))
def test_jitter_only_shortens_and_by_no_more_than_its_share(seed: int, jitter: float) -> None:
    delays = list(islice(Backoff(Random(seed), first=4, factor=1, most=4, jitter=jitter), 20))
    assert all(4 * (1 - jitter) <= d <= 4 for d in delays)


def test_the_same_randomness_gives_the_same_delays() -> None:
    a, b = (list(islice(Backoff(Random(7)), 8)) for _ in range(2))
    assert a == b
    assert a != list(islice(Backoff(Random(8)), 8))


def test_an_outage_of_days_does_not_overflow() -> None:
    backoff = Backoff(Random(1), jitter=0)
    *_, last = islice(backoff, 100_000)
    assert last == 30


@pytest.mark.parametrize(
    "wrong", [{"first": 0}, {"first": 60}, {"factor": 0.5}, {"jitter": 1.5}, {"jitter": -1}]
)
def test_impossible_shapes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="back-off"):
        Backoff(Random(1), **wrong)
