"""What statuses and Events tell of a deployment's story, and what they do not."""

from typing import Any

from spanyard_core.resources.api import ResourceEvent
from spanyard_core.resources.kinds import (
    ArchiveSource,
    Build,
    BuildSource,
    BuildSpec,
    BuildStatus,
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    LocalReference,
    Metadata,
    Revision,
    StepStatus,
)
from spanyard_gateway.timeline.declared import MAX_BUILDS, builds_of, entries


def build(name: str, **status: Any) -> Build:
    source = BuildSource(archive=ArchiveSource(digest="sha256:a"))
    return Build(
        metadata=Metadata(name=name, namespace="team"),
        spec=BuildSpec(project="p", source=source),
        status=BuildStatus(**status),
    )


def deployment(*revisions: Revision, **spec: Any) -> Deployment:
    return Deployment(
        metadata=Metadata(name="agent", namespace="team"),
        spec=DeploymentSpec(project="p", **spec),
        status=DeploymentStatus(revisions=list(revisions)),
    )


def test_builds_are_those_that_it_ran_or_names_and_all_that_it_follows() -> None:
    some = [build(f"b{n:02}", queued_at=f"2026-11-22T10:00:{n % 60:02}Z") for n in range(60)]
    ran = Revision(number=1, hash="x", state="Serving", build="b00")
    one = deployment(ran, build_ref=LocalReference("b59"))
    assert [b.metadata.name for b in builds_of(one, some)] == ["b59", "b00"]
    followed = [b.metadata.name for b in builds_of(deployment(ran, follow=True), some)]
    assert len(followed) == MAX_BUILDS
    assert followed[:2] == ["b00", "b59"]  # what it runs is never left out


def test_no_revision_starts_before_its_build_ended_though_its_times_have_whole_seconds() -> None:
    made = build("b1", phase="Succeeded", started_at="2026-11-22T10:00:00.5Z",
                 finished_at="2026-11-22T10:00:03.25Z")  # fmt: skip
    revision = Revision(number=1, hash="x", state="Serving", build="b1",
                        started_at="2026-11-22T10:00:03Z", ready_at="2026-11-22T10:00:04Z")  # fmt: skip
    told = sorted(entries(deployment(revision), [made], []), key=lambda one: one.place)
    assert [one.item.title for one in told] == [
        "succeeded", "revision 1 starts", "revision 1 serves",
    ]  # fmt: skip
    assert told[1].item.time == "2026-11-22T10:00:03.250000000Z"


def test_what_revisions_tell_is_not_told_again_by_events_while_they_are_kept() -> None:
    def event(reason: str, message: str) -> ResourceEvent:
        return ResourceEvent(
            time="2026-11-22T10:00:00Z", type="Normal", reason=reason, message=message
        )

    kept = Revision(number=2, hash="x", state="Serving", started_at="2026-11-22T10:00:00Z")
    told = entries(deployment(kept), [], [
        event("RevisionReplaced", "revision 2 serves instead of revision 1"),
        event("RevisionReplaced", "revision 1 serves instead of revision 0"),
        event("RevisionRefused", "revision 2 is not taken"),
    ])  # fmt: skip
    assert [(one.item.kind, one.item.detail) for one in told] == [
        ("revision", ""),
        ("event", "revision 1 serves instead of revision 0"),
        ("event", "revision 2 is not taken"),
    ]


def test_what_has_no_time_yet_is_not_told() -> None:
    running = build(
        "b1", phase="Building", queued_at="2026-11-22T10:00:00Z", attempt=1,
        steps=[StepStatus(name="fetch", started_at="2026-11-22T10:00:01Z")],
    )  # fmt: skip
    told = entries(deployment(), [running], [])
    assert [(one.item.title, one.item.status) for one in told] == [
        ("sha256:a", ""), ("queued", ""), ("fetch", "running"),
    ]  # fmt: skip
    assert told[-1].item.duration_ns is None


def test_a_revision_that_starts_serves_and_ends_within_a_second_does_so_in_this_order() -> None:
    second = "2026-11-22T10:00:03Z"
    one = Revision(number=1, hash="x", state="Replaced", build="b1", started_at=second,
                   ready_at=second, ended_at=second)  # fmt: skip
    told = sorted(entries(deployment(one), [], []), key=lambda one: one.place)
    assert [one.item.status for one in told] == ["Starting", "Serving", "Replaced"]


def test_events_that_say_the_same_at_once_are_told_apart() -> None:
    event = ResourceEvent(
        time="2026-11-21T10:00:00Z", type="Warning", reason="Unhealthy", message="no"
    )
    found = entries(deployment(), [], [event, event, event])
    assert len({one.place for one in found}) == len({one.item.id for one in found}) == 3
