"""Query parameters: what is read, and what is said about what can't be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.clock import rfc3339
from spanyard_core.errors import SettingError
from spanyard_gateway.params import Query, duration_ns, parse_query, time_ns

NOW = 1_800_000_000_000_000_000


def parse(
    *items: tuple[str, str],
    names: tuple[str, ...] = ("limit", "from", "to", "level"),
    now_ns: int = NOW,
) -> Query:
    return parse_query(items, names, attributes=True, now_ns=now_ns)


@given(st.integers(0, 2**63 - 1))
def test_every_time_that_the_api_prints_is_read_back_to_the_nanosecond(ns: int) -> None:
    assert time_ns(rfc3339(ns), NOW) == ns


def test_a_zone_is_taken_into_account() -> None:
    assert time_ns("2026-11-21T15:45:00.5+01:00", NOW) == time_ns("2026-11-21T14:45:00.5Z", NOW)


def test_a_duration_is_a_time_before_now() -> None:
    assert time_ns("15m", NOW) == time_ns("-15m", NOW) == NOW - 900 * 10**9


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-11-21", "2026-11-21T14:45:00", "2026-02-30T00:00:00Z"]
)
def test_what_is_not_a_time_is_refused_with_the_parameters_name(text: str) -> None:
    with pytest.raises(SettingError, match="^from: "):
        parse(("from", text))


def test_durations_have_units() -> None:
    assert duration_ns("1.5s") == 1_500_000_000
    with pytest.raises(ValueError, match="not a duration"):
        duration_ns("15")


@pytest.mark.parametrize("text", ["0", "1001", "-1", "ten", "1e3", "٣"])
def test_a_limit_outside_its_range_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="^limit: .*1 to 1000"):
        parse(("limit", text))


def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(
        SettingError, match=r"^levle: no such parameter here; known are limit, from"
    ):
        parse(("levle", "error"))


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(SettingError, match="^level: given twice"):
        parse(("level", "error"), ("level", "warn"))


def test_attributes_are_read_by_their_prefix() -> None:
    query = parse(("attr.gen_ai.request.model", "m-1"), ("attr.a", ""))
    assert query.attributes == {"gen_ai.request.model": "m-1", "a": ""}


def test_an_empty_range_of_time_is_an_error_and_not_an_empty_answer() -> None:
    with pytest.raises(SettingError, match="nothing can match"):
        parse(("from", "5m"), ("to", "10m"))


def test_the_scope_of_a_cursor_is_all_but_the_page() -> None:
    one = parse(("level", "error"), ("limit", "5"))
    two = parse(("level", "error"), ("limit", "7"))
    other = parse(("level", "warn"))
    assert one.scope() == two.scope() != other.scope()


def test_a_cursor_stays_good_while_a_duration_before_now_moves_on() -> None:
    one = parse(("from", "1d"))
    later = parse(("from", "1d"), now_ns=NOW + 10**9)
    assert one["from"] != later["from"]
    assert one.scope() == later.scope() != parse(("from", "2d")).scope()
    fixed = parse(("from", rfc3339(NOW))), parse(("from", rfc3339(NOW + 1)))
    assert fixed[0].scope() != fixed[1].scope()


@pytest.mark.parametrize(
    "text", ["0", "1001", "0000000011000", "9" * 5_000, "٣", "+5", " 5", "1.0"]
)
def test_a_limit_is_within_its_bounds_however_it_is_written(text: str) -> None:
    with pytest.raises(SettingError, match="is not a whole number from 1 to 1000"):
        parse(("limit", text))
