"""A rollout by the apps controller, look by look: which revision serves, which one comes."""

from typing import Any

import msgspec
import pytest

from spanyard_core.resources.kinds import DeploymentStatus, Revision, RevisionState
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.rollout import Wish
from spanyard_operator.deployments import telling
from spanyard_operator.deployments.observed import Seen, look
from spanyard_operator.deployments.revisions import adopted, settled
from spanyard_operator.deployments.telling import is_news, status_of
from tests.unit.operator.servers import apps, pod, replica_set, server
from tests.unit.operator.test_server_troubles import CRASH, TOLD, waiting

LATE = {
    "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
}
FORBIDDEN = (
    'pods "web-server-1-xyz" is forbidden: violates PodSecurity "restricted:latest": hostPath'
)


NOW = "2026-11-21T10:00:00Z"


def revision(number: int, state: RevisionState, hash_: str = "") -> Revision:
    return Revision(number=number, hash=hash_ or f"h{number}", state=state)


def seen(
    child: dict[str, Any] | None,
    sets: list[dict[str, Any]],
    pods: list[dict[str, Any]] | None = None,
    *,
    wanted: int = 2,
    revisions: tuple[Revision, ...] = (),
) -> Seen:
    return look(child, sets, pods or [], wanted=wanted, revisions=list(revisions), told=TOLD)


def told(
    found: Seen,
    *revisions: Revision,
    before: DeploymentStatus | None = None,
    replicas: int = 2,
    **wished: Any,
) -> DeploymentStatus:
    """The status, as the reconciler makes it."""
    deployment = server(replicas=replicas)
    if before is not None:
        deployment.status = before
    wish = Wish(hash=found.hash or "h1", replicas=replicas, generation=3, deadline=90.0, **wished)
    bad = telling.given_up(wish, found)
    return status_of(
        deployment,
        wish,
        found,
        revisions=settled(
            revisions, found, failed=bad.failure.reason if bad else "", limit=5, now=NOW
        ),
        endpoint="http://web-server.team.svc",
        collector=deployment.status.collector,
        now=NOW,
    )


def conditions(status: DeploymentStatus) -> dict[str, str]:
    return {c.type: f"{c.status} {c.reason}" for c in status.conditions}


FIRST = revision(1, "Starting")
SERVES = revision(1, "Serving")
SECOND = revision(2, "Starting")


def test_the_first_revision_starts() -> None:
    status = told(seen(apps(1, "h1", observed=0), [], revisions=(FIRST,)), FIRST)
    assert conditions(status) == {"Ready": "False Starting", "Reconciling": "True Starting"}
    assert (status.revision, status.replicas) == (0, 0)


def test_it_serves_when_all_replicas_are_ready() -> None:
    sets = [replica_set(1, "h1", order=1, asked=2, ready=2)]
    found = seen(apps(1, "h1", replicas=2, readyReplicas=2), sets, revisions=(FIRST,))
    status = told(found, FIRST)
    assert conditions(status) == {"Ready": "True Serving"}
    assert (status.revision, status.ready_replicas, status.revisions[0].state) == (1, 2, "Serving")


def test_one_that_serves_and_loses_a_replica_is_not_started_anew() -> None:
    sets = [replica_set(1, "h1", order=1, asked=2, ready=1)]
    crashed = pod(state=waiting("CrashLoopBackOff"), last=CRASH, restarts=4)
    found = seen(apps(1, "h1", replicas=2, readyReplicas=1), sets, [crashed], revisions=(SERVES,))
    status = told(found, SERVES)
    assert conditions(status) == {"Ready": "False CrashLoop", "Reconciling": "True Starting"}
    assert status.failure is not None
    assert (status.failure.exit_code, status.restarts, status.revision) == (3, 4, 1)


ROLLING = [
    replica_set(1, "h1", order=1, asked=2, ready=2),
    replica_set(2, "h2", order=2, asked=1, ready=0),
]


def test_the_old_one_serves_while_the_new_one_starts() -> None:
    found = seen(apps(2, "h2", replicas=3, readyReplicas=2), ROLLING, revisions=(SERVES, SECOND))
    status = told(found, SERVES, SECOND)
    assert conditions(status) == {"Ready": "True Serving", "Reconciling": "True RollingOut"}
    assert (status.revision, status.replicas) == (1, 3)


def test_the_new_one_serves_when_the_old_one_has_gone_and_not_before() -> None:
    both = [
        replica_set(1, "h1", order=1, asked=1, ready=1),
        replica_set(2, "h2", order=2, asked=2, ready=2),
    ]
    child = apps(2, "h2", replicas=3, readyReplicas=3)
    assert not seen(child, both, revisions=(SERVES, SECOND)).complete
    both[0] = replica_set(1, "h1", order=1, asked=0)
    # The Deployment's status is a step behind: still nobody is missing.
    status = told(seen(child, both, revisions=(SERVES, SECOND)), SERVES, SECOND)
    assert (status.revision, [r.state for r in status.revisions]) == (2, ["Replaced", "Serving"])


def test_a_revision_that_came_to_something_is_known_by_the_hashes_in_its_pods_names() -> None:
    starting = told(seen(apps(2, "h2"), ROLLING, revisions=(SERVES, SECOND)), SERVES, SECOND)
    assert [r.templates for r in starting.revisions] == [["rs1"], []]
    # A new release of the operator gives the same revision another template.
    again = [replica_set(1, "h1", order=2, asked=1, ready=1)]
    before = msgspec.structs.replace(SERVES, templates=["rs1"])
    status = told(seen(apps(1, "h1"), again, revisions=(before,)), before)
    assert [r.templates for r in status.revisions] == [["rs1", "rs2"]]
    assert told(seen(apps(1, "h1"), [], revisions=(before,)), before).revisions[0].templates == [
        "rs1"
    ]


def test_a_bad_revision_is_given_up_and_the_old_one_serves_on() -> None:
    crashed = pod(owner="rs-2", state=waiting("CrashLoopBackOff"), last=CRASH)
    child = apps(2, "h2", replicas=3, readyReplicas=2, **LATE)
    found = seen(child, ROLLING, [crashed], revisions=(SERVES, SECOND))
    status = told(found, SERVES, SECOND)
    assert conditions(status) == {"Ready": "True Serving", "Stalled": "True CrashLoop"}
    assert [(r.state, r.reason) for r in status.revisions] == [
        ("Serving", ""), ("Failed", "CrashLoop"),
    ]  # fmt: skip
    assert status.failure is not None
    assert status.failure.last_lines == ["one", "two"]
    said = list(telling.events(told(found, SERVES, SECOND, before=None), status))
    assert said == []
    before = DeploymentStatus(revision=1, revisions=[SERVES, SECOND])
    assert [reason for _, reason, _ in telling.events(before, status)] == ["RevisionRefused"]


def test_one_that_is_late_without_a_reason_of_its_pods_says_how_far_it_came() -> None:
    child = apps(2, "h2", replicas=3, readyReplicas=2, **LATE)
    status = told(seen(child, ROLLING, revisions=(SERVES, SECOND)), SERVES, SECOND)
    assert status.failure is not None
    assert status.failure.reason == "DeadlineExceeded"
    assert "1m30s" in status.failure.message
    assert "0 of 2 replicas" in status.failure.message


def test_one_that_was_late_and_gets_ready_after_all_serves() -> None:
    failed = revision(2, "Failed")
    sets = [replica_set(1, "h1", order=1, asked=0), replica_set(2, "h2", order=2, asked=2, ready=2)]
    status = told(seen(apps(2, "h2"), sets, revisions=(SERVES, failed)), SERVES, failed)
    assert conditions(status) == {"Ready": "True Serving"}
    assert status.revision == 2


def test_pods_that_are_refused_are_told_without_their_changing_names() -> None:
    refused = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": FORBIDDEN}]}
    sets = [replica_set(1, "h1", order=1, asked=2, running=0, **refused)]
    status = told(seen(apps(1, "h1"), sets, revisions=(FIRST,)), FIRST)
    assert status.failure is not None
    assert status.failure.reason == "PodRefused"
    assert "violates PodSecurity" in status.failure.message
    assert "xyz" not in status.failure.message


def test_nobody_serves_when_it_is_stopped_and_the_same_number_starts_again() -> None:
    stopped = [replica_set(1, "h1", order=1, asked=0)]
    status = told(seen(apps(1, "h1"), stopped, wanted=0, revisions=(SERVES,)), SERVES, replicas=0)
    assert conditions(status) == {"Ready": "True ScaledToZero"}
    assert (status.revision, status.revisions[0].state) == (0, "Replaced")
    started = [replica_set(1, "h1", order=1, asked=2, ready=1)]
    again = told(seen(apps(1, "h1"), started, revisions=tuple(status.revisions)), *status.revisions)
    assert again.revisions[0].state == "Starting"
    assert conditions(again)["Reconciling"] == "True Starting"


@pytest.mark.parametrize("suspend", [False, True])
def test_a_refused_child_is_told_also_while_nothing_is_to_run(*, suspend: bool) -> None:
    refused = explain("InvalidSpec", where="spec.resources", detail="no quantity")
    child = seen(apps(1, "h1"), [], wanted=0, revisions=(SERVES,))
    status = told(child, SERVES, replicas=0, suspend=suspend, failure=refused)
    ready = "Suspended" if suspend else "InvalidSpec"
    assert conditions(status) == {"Ready": f"False {ready}", "Stalled": "True InvalidSpec"}
    assert (status.reason, status.failure) == ("InvalidSpec", refused)


def test_pods_that_are_replaced_within_a_revision_do_not_stop_it_serving() -> None:
    sets = [
        replica_set(1, "h1", order=1, asked=2, ready=2),
        replica_set(1, "h1", order=2, asked=1, ready=0),
    ]
    status = told(seen(apps(1, "h1"), sets, revisions=(SERVES,)), SERVES)
    assert conditions(status) == {"Ready": "True Serving", "Reconciling": "True RollingOut"}
    assert "pods of revision 1 are being replaced" in status.message
    assert [r.state for r in status.revisions] == ["Serving"]


def test_a_superseded_start_is_no_start_any_more() -> None:
    third = revision(3, "Starting")
    sets = [*ROLLING, replica_set(3, "h3", order=3, asked=1)]
    found = seen(apps(3, "h3"), sets, revisions=(SERVES, SECOND, third))
    states = [r.state for r in told(found, SERVES, SECOND, third).revisions]
    assert states == ["Serving", "Replaced", "Starting"]


def test_revisions_that_a_status_has_lost_are_known_by_their_replica_sets() -> None:
    found = seen(apps(2, "h2"), ROLLING)
    assert [(r.number, r.hash, r.state) for r in adopted([], found)] == [
        (1, "h1", "Serving"), (2, "h2", "Replaced"),
    ]  # fmt: skip
    assert found.serving is not None
    assert found.serving.number == 1


def test_other_words_for_the_same_trouble_are_no_news() -> None:
    def at(name: str, exit_code: int = 3) -> DeploymentStatus:
        ended = {"terminated": {**CRASH["terminated"], "exitCode": exit_code, "message": name}}
        crashed = pod(name, owner="rs-2", state=waiting("CrashLoopBackOff"), last=ended)
        child = apps(2, "h2", replicas=3, readyReplicas=2)
        return told(seen(child, ROLLING, [crashed], revisions=(SERVES, SECOND)), SERVES, SECOND)

    assert not is_news(at("web-server-2-a"), at("web-server-2-b"))
    assert is_news(at("web-server-2-a"), at("web-server-2-a", exit_code=4))
    assert is_news(DeploymentStatus(), at("web-server-2-a"))
