"""Names of the writer's objects: parsed, pending, processed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard.names import (
    EventFileName,
    is_pending,
    is_processed,
    parse_event_file,
    pending_key,
    processed_key,
)
from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import parse_key

KEY = "observability/logs/team.shop/20261121T144500Z_1a2b-00ff.jsonl"


def test_a_key_says_type_project_time_and_what_makes_it_unique() -> None:
    assert parse_event_file(KEY) == EventFileName(
        "logs", "team.shop", "20261121T144500Z", "1a2b-00ff", "observability"
    )


def test_keys_move_between_pending_and_processed() -> None:
    done = processed_key(KEY)
    assert done == KEY.replace("observability/", "processed/")
    assert pending_key(done) == KEY
    assert pending_key(KEY) == KEY
    assert processed_key(done) == done
    assert is_pending(KEY)
    assert not is_pending(done)
    assert is_processed(done)
    assert not is_processed(KEY)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "notes.txt",
        KEY.replace("logs", "profiles"),
        KEY.replace("team.shop", "shop"),
        KEY.replace("_1a2b-00ff", ""),
        KEY.replace("20261121T144500Z", "now"),
        KEY + ".zst",
        f"observability/logs/team.shop/20261121T144500Z_{'0a' * 10}-1-9.jsonl.zst",
    ],
)
def test_other_names_are_refused(key: str) -> None:
    with pytest.raises(BadRecordError):
        parse_event_file(key)
    assert not is_pending(key)
    assert not is_processed(key)


@given(st.from_regex(r"[0-9A-Za-z-]{1,100}", fullmatch=True))
def test_what_is_made_is_a_plain_object_for_the_ingester(unique: str) -> None:
    name = EventFileName("spans", "a.b", "20261121T144500Z", unique)
    assert parse_event_file(name.pending) == name
    assert parse_key(name.pending).key() == name.pending
