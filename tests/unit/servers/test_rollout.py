"""The state machine of a rollout, by value."""

from typing import Any

import pytest

from spanyard_core.resources.conditions import find, is_true
from spanyard_core.resources.kinds import CollectorStatus, DeploymentStatus, Failure, Revision
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.rollout import (
    GivenUp,
    GiveUp,
    Group,
    Promote,
    Scale,
    Start,
    Stop,
    Wish,
    decide,
    describe,
    next_look,
)
from tests.unit.servers.manifests import NOW, deployment

BAD = explain("CrashLoop", exit_code=1)
WISH = Wish(hash="new", replicas=2, deadline=60, generation=2)


def group(hash_: str = "new", **state: Any) -> Group:
    return Group(**{"number": 2, "hash": hash_, "since": 100.0, "wanted": 2, **state})


OLD = group("old", number=1, running=2, ready=2)


class TestDecisions:
    def test_a_new_wish_starts_beside_what_serves(self) -> None:
        assert decide(WISH, OLD, None, None, 100) == Start()

    def test_a_candidate_that_is_not_all_ready_is_waited_for(self) -> None:
        assert decide(WISH, OLD, group(running=2, ready=1), None, 159) is None

    def test_a_candidate_that_is_all_ready_takes_over(self) -> None:
        assert decide(WISH, OLD, group(running=2, ready=2), None, 100) == Promote()

    def test_a_candidate_that_fails_is_tried_again_until_the_deadline(self) -> None:
        failing = group(failure=BAD)
        assert decide(WISH, OLD, failing, None, 159.9) is None
        assert decide(WISH, OLD, failing, None, 160) == GiveUp(BAD)

    def test_a_candidate_that_just_never_gets_ready_is_given_up_at_the_deadline(self) -> None:
        step = decide(WISH, OLD, group(running=2), None, 160)
        assert isinstance(step, GiveUp)
        assert step.failure.reason == "DeadlineExceeded"
        assert "1m" in step.failure.message

    def test_a_hopeless_candidate_is_given_up_at_once(self) -> None:
        assert decide(WISH, OLD, group(failure=BAD, hopeless=True), None, 100) == GiveUp(BAD)

    def test_who_waits_for_the_end_gives_up_after_some_tries(self) -> None:
        wish = Wish(hash="new", replicas=2, deadline=60, tries=3)
        third_runs = group(failure=BAD, running=2, restarts=2)
        assert decide(wish, OLD, third_runs, None, 101) is None
        third_failed = group(failure=BAD, running=1, restarts=2)
        assert decide(wish, OLD, third_failed, None, 101) == GiveUp(BAD)
        assert decide(wish, OLD, group(running=2, restarts=3), None, 101) is None

    def test_what_was_given_up_is_not_started_until_the_spec_or_the_build_changes(self) -> None:
        given_up = GivenUp("new", 2, BAD)
        assert decide(WISH, OLD, None, given_up, 500) is None
        changed_spec = Wish(hash="new", replicas=2, generation=3)
        assert decide(changed_spec, OLD, None, given_up, 500) == Start()
        changed_build = Wish(hash="newer", replicas=2, generation=2)
        assert decide(changed_build, OLD, None, given_up, 500) == Start()

    def test_a_candidate_that_is_no_longer_wanted_stops(self) -> None:
        assert decide(WISH, OLD, group("between"), None, 100) == Stop("candidate")

    def test_going_back_to_what_serves_stops_the_candidate_and_nothing_else(self) -> None:
        back = Wish(hash="old", replicas=2)
        assert decide(back, OLD, group(), None, 100) == Stop("candidate")
        assert decide(back, OLD, None, None, 100) is None

    def test_without_a_build_what_serves_goes_on(self) -> None:
        lost = Wish(failure=explain("BuildMissing", name="b9"))
        assert decide(lost, OLD, None, None, 100) is None

    def test_another_number_of_replicas_scales_and_does_not_roll(self) -> None:
        three = Wish(hash="old", replicas=3)
        assert decide(three, OLD, None, None, 100) == Scale("serving", 3)
        assert decide(Wish(hash="new", replicas=3), OLD, group(ready=2), None, 100) == Scale(
            "candidate", 3
        )

    @pytest.mark.parametrize("wish", [Wish(hash="old", suspend=True), Wish(hash="old", replicas=0)])
    def test_suspended_or_scaled_to_nothing_all_stop(self, wish: Wish) -> None:
        assert decide(wish, OLD, group(), None, 100) == Stop("candidate")
        assert decide(wish, OLD, None, None, 100) == Stop("serving")
        assert decide(wish, None, None, None, 100) is None

    def test_the_deadline_is_looked_at_when_it_comes(self) -> None:
        assert next_look(WISH, group(), 130) == 30
        assert next_look(WISH, None, 130) is None


def told(
    wish: Wish = WISH,
    serving: Group | None = None,
    candidate: Group | None = None,
    given_up: GivenUp | None = None,
) -> DeploymentStatus:
    return describe(
        deployment(generation=2),
        wish,
        serving,
        candidate,
        given_up,
        revisions=[Revision(number=1, hash="old", state="Serving", build="b1")],
        endpoint="http://127.0.0.1:8080",
        collector=CollectorStatus(),
        now=NOW,
    )


def states(status: DeploymentStatus) -> dict[str, str]:
    return {c.type: c.status for c in status.conditions}


class TestStatus:
    def test_while_nothing_but_waiting_for_a_build_happens(self) -> None:
        status = told(Wish(wait="b1 is building"))
        assert states(status) == {"Ready": "False", "Reconciling": "True"}
        assert status.reason == "WaitingForBuild"
        assert "b1 is building" in status.message

    def test_while_a_first_revision_starts(self) -> None:
        status = told(candidate=group(running=2, ready=1))
        assert states(status) == {"Ready": "False", "Reconciling": "True"}
        assert (status.reason, status.revision, status.ready_replicas) == ("Starting", 0, 0)

    def test_while_a_second_one_starts_the_first_is_ready(self) -> None:
        status = told(serving=OLD, candidate=group(running=2))
        assert states(status) == {"Ready": "True", "Reconciling": "True"}
        assert (status.reason, status.revision, status.build) == ("RollingOut", 1, "b1")
        assert (status.replicas, status.ready_replicas) == (2, 2)

    def test_while_a_bad_one_is_tried_again_its_failure_is_told(self) -> None:
        status = told(serving=OLD, candidate=group(failure=BAD, restarts=3))
        assert states(status) == {"Ready": "True", "Reconciling": "True"}
        assert status.failure == BAD
        assert "keeps ending" in status.message

    def test_a_bad_one_given_up_stalls_while_the_old_one_is_ready(self) -> None:
        status = told(serving=OLD, given_up=GivenUp("new", 2, BAD))
        assert states(status) == {"Ready": "True", "Stalled": "True"}
        assert status.reason == "CrashLoop"
        assert "revision 1 goes on serving" in status.message
        assert status.failure == BAD

    def test_a_bad_first_one_given_up_is_neither_ready_nor_under_way(self) -> None:
        status = told(given_up=GivenUp("new", 2, BAD))
        assert states(status) == {"Ready": "False", "Stalled": "True"}

    def test_when_it_serves(self) -> None:
        status = told(Wish(hash="old", replicas=2, generation=2), serving=OLD)
        assert states(status) == {"Ready": "True"}
        assert is_true(status.conditions, "Ready", generation=2)
        assert (status.reason, status.failure) == ("Serving", None)
        assert status.selector == "spanyard.dev/deployment=shop"

    def test_a_serving_one_that_keeps_dying_is_not_ready_and_not_stalled(self) -> None:
        dying = group("old", number=1, running=1, ready=1, restarts=4, failure=BAD)
        status = told(Wish(hash="old", replicas=2), serving=dying)
        assert states(status) == {"Ready": "False", "Reconciling": "True"}
        ready = find(status.conditions, "Ready")
        assert ready is not None
        assert ready.reason == "CrashLoop"
        assert (status.restarts, status.failure) == (4, BAD)

    def test_a_missing_build_stalls_and_what_serves_is_ready(self) -> None:
        failure: Failure = explain("BuildMissing", name="b9")
        status = told(Wish(failure=failure), serving=OLD)
        assert states(status) == {"Ready": "True", "Stalled": "True"}
        assert status.failure == failure

    def test_suspended_and_scaled_to_nothing(self) -> None:
        status = told(Wish(hash="old", suspend=True))
        assert states(status) == {"Ready": "False"}
        assert status.reason == "Suspended"
        assert states(told(Wish(hash="old", replicas=0))) == {"Ready": "True"}
        assert states(told(Wish(hash="old", replicas=0), serving=OLD))["Reconciling"] == "True"

    def test_nothing_changes_when_nothing_happened(self) -> None:
        first = told(serving=OLD, candidate=group())
        assert told(serving=OLD, candidate=group()) == first
