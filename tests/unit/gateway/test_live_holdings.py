"""What tokens hold in memory: whoever holds most gives way, and nothing stays counted."""

import pytest

from spanyard_gateway.live.holdings import AllHeldError, Held, Holdings, TooMuchHeldError


class Table:
    def __init__(self, most_of_holder: int = 100, most: int = 200) -> None:
        self.holdings = Holdings(most_of_holder, most)
        self.gave_up: list[str] = []

    def take(self, holder: str, count: int, name: str = "") -> Held:
        return self.holdings.take(holder, count, lambda: self.gave_up.append(name))


def test_whoever_holds_most_gives_its_largest_to_one_who_holds_less() -> None:
    it = Table()
    for name, count in (("a1", 30), ("a2", 60)):
        it.take("ann", count, name)
    for name, count in (("b1", 40), ("b2", 40)):
        it.take("bob", count, name)
    it.take("eve", 29, "e1")
    assert it.gave_up == []
    it.take("dan", 2, "d1")
    assert it.gave_up == ["a2"], "of ninety, sixty"
    assert it.holdings.total == 30 + 80 + 29 + 2
    it.take("dan", 58, "d2")
    it.take("dan", 2, "d3")
    assert it.gave_up == ["a2", "b1"]


def test_whoever_would_hold_most_is_refused_and_nobody_gives_way_for_it() -> None:
    it = Table(most_of_holder=1_000)
    it.take("ann", 100)
    it.take("bob", 90)
    for _ in range(3):
        with pytest.raises(AllHeldError):
            it.take("bob", 20)
        with pytest.raises(AllHeldError):
            it.take("eve", 201)
    assert (it.gave_up, it.holdings.total) == ([], 190)
    with pytest.raises(TooMuchHeldError):
        it.take("eve", 1_001)


def test_tokens_without_writers_are_never_refused() -> None:
    it = Table(most_of_holder=10, most=10)
    it.take("ann", 10)
    it.take("ann", 0)
    it.take("bob", 0)
    assert it.gave_up == []


def test_what_is_let_go_is_free_once_whatever_comes_after() -> None:
    it = Table()
    one, two = it.take("ann", 60), it.take("ann", 40)
    it.holdings.shrink(one, 10)
    it.holdings.shrink(one, 50)
    assert it.holdings.total == 50, "it does not grow again"
    for _ in range(2):
        it.holdings.let_go(one)
    it.holdings.shrink(one, 0)
    assert it.holdings.total == 40
    it.holdings.let_go(two)
    assert it.holdings.total == 0
    assert not it.holdings._held
    assert not it.holdings._totals
