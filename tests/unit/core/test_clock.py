"""Times as lines, object names and plans carry them."""

import time
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.clock import SystemClock, compact_utc, rfc3339, utc_day

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS = st.integers(0, 253_402_300_799 * 10**9)
"""Up to the end of the year 9999."""


@given(NANOSECONDS)
def test_a_timestamp_is_rfc3339_with_nine_digits(ns: int) -> None:
    text = rfc3339(ns)
    seconds, fraction = text[:-1].split(".")
    parsed = datetime.fromisoformat(seconds + "+00:00")
    assert text.endswith("Z")
    assert len(fraction) == 9
    assert (parsed - EPOCH) // timedelta(seconds=1) * 10**9 + int(fraction) == ns


@given(NANOSECONDS, NANOSECONDS)
def test_timestamps_sort_as_text_in_the_order_of_time(a: int, b: int) -> None:
    assert (rfc3339(a) < rfc3339(b)) == (a < b)


@given(NANOSECONDS)
def test_names_and_days_are_parts_of_the_same_time(ns: int) -> None:
    text = rfc3339(ns)
    assert compact_utc(ns) == text[:19].replace("-", "").replace(":", "") + "Z"
    assert utc_day(ns) == text[:10]


def test_times_before_the_epoch_borrow_from_the_second() -> None:
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"


async def test_the_system_clock_tells_time_and_sleeps() -> None:
    clock = SystemClock()
    before = time.time_ns()
    assert before <= clock.time_ns()
    start = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() >= start + 0.009
