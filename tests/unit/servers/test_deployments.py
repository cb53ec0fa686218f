"""What a Deployment runs, what makes a revision, and the list of revisions."""

from typing import Any

import pytest

from spanyard_core.resources.deployments import (
    Content,
    begin,
    builds_in_use,
    choose,
    content,
    interrupted,
    latest_successful,
    limited,
    marked,
    revision_hash,
)
from spanyard_core.resources.kinds import DeploymentStatus, Revision
from tests.unit.servers.manifests import NOW, build, deployment

LATER = "2026-11-21T14:50:00Z"


def made(spec: dict[str, Any] | None = None, values: dict[str, str] | None = None) -> Content:
    wanted = deployment(**(spec or {}))
    return content(wanted, choose(wanted, [build("b1")]), values or {})


class TestChoice:
    def test_a_named_build_is_taken_when_it_succeeded(self) -> None:
        choice = choose(deployment(buildRef={"name": "b1"}), [build("b0"), build("b1")])
        assert choice.build is not None
        assert choice.build.metadata.name == "b1"

    def test_a_named_build_that_is_not_there_is_a_failure(self) -> None:
        choice = choose(deployment(buildRef={"name": "b9"}), [build("b1")])
        assert choice.failure is not None
        assert choice.failure.reason == "BuildMissing"
        assert "b9" in choice.failure.message

    def test_a_named_build_of_another_namespace_is_not_there(self) -> None:
        choice = choose(deployment(buildRef={"name": "b1"}), [build("b1", namespace="other")])
        assert choice.failure is not None

    def test_a_named_build_of_another_project_is_not_usable(self) -> None:
        choice = choose(deployment(buildRef={"name": "b1"}), [build("b1", project="other")])
        assert choice.failure is not None
        assert "belongs to project other" in choice.failure.message

    def test_a_named_build_that_runs_is_waited_for(self) -> None:
        choice = choose(deployment(buildRef={"name": "b1"}), [build("b1", "Building")])
        assert (choice.failure, choice.wait) == (None, "b1 is building")

    @pytest.mark.parametrize("phase", ["Failed", "Cancelled"])
    def test_a_named_build_that_did_not_succeed_is_a_failure(self, phase: Any) -> None:
        choice = choose(deployment(buildRef={"name": "b1"}), [build("b1", phase)])
        assert choice.failure is not None
        assert choice.failure.reason == "BuildNotUsable"

    def test_following_takes_the_build_that_was_asked_for_last_not_the_one_that_ended_last(
        self,
    ) -> None:
        older, newer = build("b1", created="2026-01-01"), build("b2", created="2026-01-02")
        older.status.finished_at, newer.status.finished_at = "2026-01-09", "2026-01-03"
        assert latest_successful("shop", [newer, older]) is newer

    def test_of_builds_made_in_the_same_second_the_one_queued_last_is_the_newest(self) -> None:
        older, newer = build("web-9"), build("web-10")
        older.status.queued_at = "2026-11-21T14:45:00.100000000Z"
        newer.status.queued_at = "2026-11-21T14:45:00.200000000Z"
        assert latest_successful("shop", [newer, older]) is newer

    def test_following_does_not_go_back_while_what_serves_is_built_once_more(self) -> None:
        old = build("b1", created="2026-01-01")
        wanted = deployment()
        wanted.status.revisions = [
            Revision(number=1, hash="a", state="Replaced", build="b1"),
            Revision(number=2, hash="b", state="Serving", build="b2"),
        ]
        for phase in ("Queued", "Building"):
            again = build("b2", phase, created="2026-01-02")  # type: ignore[arg-type]
            choice = choose(wanted, [old, again])
            assert (choice.build, choice.wait) == (None, f"b2 is {phase.lower()} once more")
        failed = build("b2", "Failed", created="2026-01-02")
        assert choose(wanted, [old, failed]).build is old
        newer = build("b3", created="2026-01-03")
        assert choose(wanted, [old, again, newer]).build is newer

    def test_following_stays_with_the_last_good_build_when_a_newer_one_fails(self) -> None:
        good, bad = build("b1", created="2026-01-01"), build("b2", "Failed", created="2026-01-02")
        assert choose(deployment(), [good, bad]).build is good

    def test_following_looks_at_its_own_project_only(self) -> None:
        choice = choose(deployment(), [build("b1", project="other")])
        assert choice.wait == "project shop has none yet"

    def test_following_waits_while_a_first_build_runs_and_fails_when_all_failed(self) -> None:
        failed = build("b1", "Failed", created="2026-01-01")
        running = build("b2", "Queued", created="2026-01-02")
        assert choose(deployment(), [failed, running]).wait == "b2 is queued"
        assert choose(deployment(), [failed]).failure is not None

    def test_an_image_needs_no_build(self) -> None:
        assert choose(deployment(image="nginx:1"), []).image == "nginx:1"


class TestRevisionHash:
    @pytest.mark.parametrize(
        "change",
        [
            {"command": "node other.js"},
            {"port": 9000},
            {"env": [{"name": "A", "value": "1"}]},
            {"resources": {"limits": {"memory": "1Gi"}}},
            {"health": {"path": "/health"}},
            {"runtimeImage": "node:22"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_it_changes_with_what_runs(self, change: dict[str, Any]) -> None:
        assert revision_hash(made(change)) != revision_hash(made())

    @pytest.mark.parametrize(
        "change",
        [
            {"replicas": 3},
            {"suspend": True},
            {"revisionHistoryLimit": 1},
            {"progressDeadline": "1m"},
            {"terminationGracePeriod": "5s"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_it_does_not_change_with_how_many_and_how_long(self, change: dict[str, Any]) -> None:
        assert revision_hash(made(change)) == revision_hash(made())

    def test_a_changed_secret_changes_it_and_is_not_in_the_content(self) -> None:
        env = [
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]
        one, two = made({"env": env}, {"KEY": "swordfish"}), made({"env": env}, {"KEY": "tuna"})
        assert revision_hash(one) != revision_hash(two)
        assert "swordfish" not in repr(one)

    def test_the_order_of_variables_does_not_count(self) -> None:
        a, b = {"name": "A", "value": "1"}, {"name": "B", "value": "2"}
        assert revision_hash(made({"env": [a, b]})) == revision_hash(made({"env": [b, a]}))

    def test_a_build_run_again_with_another_result_changes_it(self) -> None:
        wanted = deployment()
        one, two = (
            content(wanted, choose(wanted, [build("b1", digest=digest)]), {})
            for digest in ("sha256:1", "sha256:2")
        )
        assert revision_hash(one) != revision_hash(two)


def revisions(*states: Any) -> list[Revision]:
    return [Revision(number=n, hash=f"h{n}", state=s) for n, s in enumerate(states, 1)]


class TestRevisions:
    def test_numbers_grow_by_one(self) -> None:
        first, listed = begin([], made(), now=NOW)
        second, listed = begin(listed, made({"port": 9000}), now=NOW)
        assert (first.number, second.number) == (1, 2)
        assert [r.number for r in listed] == [1, 2]
        assert second.build == "b1"

    def test_the_newest_starts_again_under_its_own_number(self) -> None:
        _, listed = begin([], made(), now=NOW)
        listed = marked(listed, 1, "Failed", "NeverReady", now=LATER)
        again, listed = begin(listed, made(), now=NOW)
        assert again.number == 1
        assert [(r.number, r.state, r.reason) for r in listed] == [(1, "Starting", "")]
        assert (again.ready_at, again.ended_at) == ("", "")

    def test_older_content_gets_a_new_number_and_leaves_its_old_one(self) -> None:
        _, listed = begin([], made(), now=NOW)
        _, listed = begin(listed, made({"port": 9000}), now=NOW)
        back, listed = begin(listed, made(), now=NOW)
        assert back.number == 3
        assert [r.number for r in listed] == [2, 3]

    def test_one_that_serves_replaces_the_one_that_did(self) -> None:
        listed = marked(revisions("Failed", "Serving", "Starting"), 3, "Serving", now=NOW)
        assert [r.state for r in listed] == ["Failed", "Replaced", "Serving"]
        times = [(r.ready_at, r.ended_at) for r in listed]
        assert times == [("", ""), ("", NOW), (NOW, "")]

    def test_its_times_move_with_its_state_alone(self) -> None:
        served = marked(revisions("Starting"), 1, "Serving", now=NOW)
        assert marked(served, 1, "Serving", now=LATER) == served
        [stopped] = marked(served, 1, "Replaced", now=LATER)
        assert (stopped.ready_at, stopped.ended_at) == (NOW, LATER)
        [again] = marked([stopped], 1, "Serving", now=LATER)
        assert (again.ready_at, again.ended_at) == (LATER, "")

    def test_a_start_that_a_kill_interrupted_does_not_stand_there_for_ever(self) -> None:
        _, listed = begin(revisions("Serving"), made(), now=NOW)
        listed = interrupted(listed)
        assert [r.state for r in listed] == ["Serving", "Replaced"]
        again, listed = begin(listed, made(), now=NOW)
        assert (again.number, again.state) == (2, "Starting")

    def test_the_history_is_limited_and_never_by_what_runs_or_by_the_newest_number(self) -> None:
        listed = revisions("Serving", "Failed", "Replaced", "Replaced", "Failed")
        assert [r.number for r in limited(listed, 2)] == [1, 4, 5]
        assert [r.number for r in limited(listed, 0)] == [1, 5]

    def test_builds_of_revisions_in_a_status_and_named_ones_are_in_use(self) -> None:
        one = deployment(buildRef={"name": "named"})
        one.status = DeploymentStatus(
            revisions=[
                Revision(number=1, hash="a", state="Replaced", build="old"),
                Revision(number=2, hash="b", state="Serving", build="serves"),
                Revision(number=3, hash="c", state="Starting", build="starts"),
            ]
        )
        assert set(builds_in_use([one, deployment()])) == {
            "named",
            "old",
            "serves",
            "starts",
        }
