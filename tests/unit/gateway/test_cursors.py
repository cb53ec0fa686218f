"""Cursors: opaque, bound to their query, never trusted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.errors import SettingError
from spanyard_gateway.cursors import decode_cursor, encode_cursor, scope_of


@given(st.integers(0, 2**63 - 1), st.text(), st.integers(1, 2**63 - 1))
def test_a_position_survives_the_way_to_the_client_and_back(ns: int, writer: str, seq: int) -> None:
    scope = scope_of("logs", "local.a")
    cursor = encode_cursor(scope, [ns, writer, seq])
    assert decode_cursor(cursor, scope, [int, str, int]) == [ns, writer, seq]


def test_a_cursor_of_another_query_is_refused() -> None:
    cursor = encode_cursor(scope_of("logs", "local.a"), [1, "w", 1])
    with pytest.raises(SettingError, match="other filters"):
        decode_cursor(cursor, scope_of("logs", "local.b"), [int, str, int])


@given(st.text(max_size=80))
def test_anything_else_is_refused_and_never_crashes(text: str) -> None:
    with pytest.raises(SettingError, match="^cursor: "):
        decode_cursor(text, scope_of("logs"), [int, str, int])


def test_a_cursor_with_values_of_other_types_is_refused() -> None:
    scope = scope_of("logs")
    with pytest.raises(SettingError, match="^cursor: "):
        decode_cursor(encode_cursor(scope, ["1", "w", 1]), scope, [int, str, int])
