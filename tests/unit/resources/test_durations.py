"""Durations in manifests."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.resources.durations import MAX_LENGTH, PATTERN, seconds, seconds_or, text


@pytest.mark.parametrize(
    ("written", "expected"),
    [("30s", 30), ("1h30m", 5400), ("7d", 604_800), ("500ms", 0.5), ("1d2h3m4s5ms", 93784.005)],
)
def test_a_duration_is_the_sum_of_its_parts(written: str, expected: float) -> None:
    assert seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written", ["", "5", "m", "30m1h", "1h1h", "1.5h", "-1s", " 1s", "1s\n", "1S", "1234567s"]
)
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        seconds(written)


def test_the_empty_text_is_not_set() -> None:
    assert seconds_or("", None) is None
    assert seconds_or("2m", None) == 120
    assert re.fullmatch(PATTERN, "")


@given(st.integers(1, 10**10))
def test_a_shown_duration_reads_back_as_itself(milliseconds: int) -> None:
    shown = text(milliseconds / 1000)
    assert len(shown) <= MAX_LENGTH
    assert seconds(shown) == pytest.approx(milliseconds / 1000, abs=1e-6)
