"""Which batches are read for a page of stored records."""

from typing import Any

import pytest

from spanyard_gateway.queries.live import BATCHES, PAGE, _of_a_page


def looked_at(*spans: tuple[int, int]) -> list[dict[str, Any]]:
    """What the database tells of batches with these first and last numbers: in the order of the first."""
    return [{"batch": n, "first": first, "last": last} for n, (first, last) in enumerate(spans)]


FIVE = [(first, first + PAGE // 4 - 1) for first in range(1, 10 * PAGE // 4, PAGE // 4)]
"""Of which four are a page."""


@pytest.mark.parametrize(
    ("spans", "after", "count"),
    [
        (FIVE, 0, 4),
        (FIVE, 100, 5),  # a hundred of the first are not wanted
        (sorted(FIVE * 2), 0, 8),  # each twice
        ([(1, 100)], 0, 1),
        ([(1, 10 * PAGE), (10 * PAGE + 1, 11 * PAGE)], 0, 1),
        ([(1, 10 * PAGE), (10 * PAGE + 1, 11 * PAGE)], 10 * PAGE - 5, 2),
        ([(PAGE, 2 * PAGE), (2 * PAGE + 2, 3 * PAGE)], 0, 1),
    ],
)
def test_a_page_is_read_from_so_many_batches_as_hold_it(
    spans: list[tuple[int, int]], after: int, count: int
) -> None:
    assert _of_a_page(looked_at(*spans), after) == ([*range(count)], None)


def test_what_tells_of_a_hole_of_another_batch_belongs_to_it() -> None:
    spans = [(1, 2 * PAGE), (5, 5), (2 * PAGE, 2 * PAGE + 9), (2 * PAGE + 9, 3 * PAGE)]
    assert _of_a_page(looked_at(*spans, (3 * PAGE + 1, 4 * PAGE)), 0) == ([0, 1, 2, 3], None)


def test_where_more_lies_across_than_is_looked_at_the_page_ends_before_it() -> None:
    holes = [(n, n) for n in range(3, 3 + BATCHES)]
    most = [*range(BATCHES)]
    assert _of_a_page(looked_at((1, 100), *holes), 0) == (most, holes[-1][0])
    assert _of_a_page(looked_at((1, PAGE), *holes), 0) == (most, holes[-1][0])


def test_of_all_that_lie_across_one_place_none_waits_for_the_next_page() -> None:
    spans = looked_at(*[(1, 100)] * 8 * BATCHES, (50, 60))
    assert _of_a_page(spans, 7, 8 * BATCHES) == ([*range(8 * BATCHES)], 50)
