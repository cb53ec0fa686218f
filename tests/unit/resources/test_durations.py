"""Durations in manifests."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.resources.builds import failed, succeeded
from spanyard_core.resources.durations import MAX_LENGTH, PATTERN, seconds, seconds_or, text
from spanyard_core.resources.kinds import ArtifactStatus, Build, BuildSource, BuildSpec, Metadata
from spanyard_core.resources.reasons import explain


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


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ("2026-11-21T14:46:32.6Z", "1m33s"),
        ("2026-11-21T14:45:00.250000001Z", "250ms"),
        ("2026-11-21T14:44:00Z", "0s"),
    ],
)
def test_how_long_a_build_ran_is_shown_as_a_person_would_say_it(end: str, shown: str) -> None:
    spec = BuildSpec(project="p", source=BuildSource())
    ran = Build(metadata=Metadata(name="b"), spec=spec)
    ran.status.started_at = "2026-11-21T14:45:00Z"
    over = succeeded(ran, ran.status, ArtifactStatus(), now=end, log_complete=True)
    assert over.duration == shown
    ran.status.started_at = ""
    ended = failed(ran, ran.status, explain("Cancelled"), now=end, log_complete=False)
    assert ended.duration == ""
