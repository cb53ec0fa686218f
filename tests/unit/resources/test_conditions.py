"""Conditions as kstatus reads them."""

import pytest

from spanyard_core.resources.conditions import (
    MAX_MESSAGE,
    Because,
    conditions,
    find,
    is_true,
)
from spanyard_core.resources.kinds import Condition

THEN, NOW = "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"
STARTING = conditions(
    [], generation=1, now=THEN, ready="False", because=Because("Starting", "starts"),
    reconciling=Because("Starting", "starts"),
)  # fmt: skip


def test_what_is_on_its_way_is_reconciling_and_not_stalled() -> None:
    assert [(c.type, c.status) for c in STARTING] == [("Ready", "False"), ("Reconciling", "True")]
    assert find(STARTING, "Stalled") is None


def test_what_has_come_is_ready_alone() -> None:
    served = conditions(
        STARTING, generation=1, now=NOW, ready="True", because=Because("Serving", "serves")
    )
    assert [(c.type, c.status, c.last_transition_time) for c in served] == [("Ready", "True", NOW)]


def test_the_time_of_transition_moves_only_with_the_status() -> None:
    again = conditions(
        STARTING, generation=2, now=NOW, ready="False", because=Because("RollingOut", "other"),
    )  # fmt: skip
    ready = find(again, "Ready")
    assert ready is not None
    assert (ready.last_transition_time, ready.observed_generation) == (THEN, 2)
    assert ready.reason == "RollingOut"


def test_nothing_changes_when_nothing_happened() -> None:
    again = conditions(
        STARTING, generation=1, now=NOW, ready="False", because=Because("Starting", "starts"),
        reconciling=Because("Starting", "starts"),
    )  # fmt: skip
    assert again == STARTING


def test_a_bad_revision_beside_one_that_serves_is_ready_and_stalled() -> None:
    both = conditions(
        [], generation=3, now=NOW, ready="True", because=Because("Serving"),
        stalled=Because("CrashLoop"),
    )  # fmt: skip
    assert is_true(both, "Ready")
    assert is_true(both, "Stalled", generation=3)
    assert not is_true(both, "Stalled", generation=4)
    assert not is_true(both, "Reconciling")


def test_conditions_of_others_stay() -> None:
    theirs = Condition(type="Audited", status="True", reason="Yes", last_transition_time=THEN)
    made = conditions([theirs], generation=1, now=NOW, ready="True", because=Because("Accepted"))
    assert find(made, "Audited") == theirs


def test_a_long_message_is_cut() -> None:
    made = conditions(
        [], generation=1, now=NOW, ready="False", because=Because("InternalError", "x" * 40_000)
    )
    assert len(made[0].message) == MAX_MESSAGE


def test_a_reason_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="Sunny"):
        Because("Sunny")


def test_nothing_goes_on_and_is_stalled_at_once() -> None:
    why = Because("InternalError")
    with pytest.raises(ValueError, match="only one of"):
        conditions(
            [], generation=1, now=NOW, ready="False", because=why, reconciling=why, stalled=why
        )
