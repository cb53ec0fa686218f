"""A build's life: states, turns, retention."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanyard_core.resources.builds import (
    admit,
    begun,
    expired,
    failed,
    queued,
    step_begun,
    step_ended,
    steps_of,
    succeeded,
    too_many_attempts,
    wants_retry,
)
from spanyard_core.resources.conditions import find, is_true
from spanyard_core.resources.kinds import (
    ArtifactStatus,
    Build,
    BuildRetention,
    BuildSource,
    BuildSpec,
    BuildStatus,
    Metadata,
)
from spanyard_core.resources.reasons import REASONS, explain

T = [f"2026-11-21T14:45:{n:02d}Z" for n in range(60)]


def build(name: str = "b", *, status: BuildStatus | None = None, **spec: Any) -> Build:
    return Build(
        metadata=Metadata(name=name, namespace="local", generation=2),
        spec=BuildSpec(project="p", source=BuildSource(), **spec),
        status=status or BuildStatus(),
    )


def with_status(of: Build, status: BuildStatus) -> Build:
    return msgspec.structs.replace(of, status=status)


def flags(status: BuildStatus) -> str:
    return "".join(
        t[:2] for t in ("Ready", "Reconciling", "Stalled") if is_true(status.conditions, t)
    )


def test_a_build_goes_from_queued_over_its_steps_to_an_artifact() -> None:
    it = build(install="npm ci", build=" ")
    assert steps_of(it) == ["fetch", "install", "publish"]
    it = with_status(it, queued(it, now=T[0]))
    assert (it.status.phase, it.status.queued_at, flags(it.status)) == ("Queued", T[0], "Re")
    status = begun(it, now=T[1])
    assert (status.phase, status.attempt, status.started_at) == ("Building", 1, T[1])
    status = step_begun(it, status, "fetch", now=T[2])
    assert (status.step, status.message) == ("fetch", "runs fetch")
    status = step_ended(status, now=T[3], exit_code=0)
    assert [(s.name, s.started_at, s.finished_at, s.exit_code) for s in status.steps] == [
        ("fetch", T[2], T[3], 0)
    ]
    artifact = ArtifactStatus(key="k", digest="sha256:1", size=3)
    status = succeeded(it, status, artifact, now=T[4], log_complete=True)
    assert (status.phase, status.reason, status.step, flags(status)) == (
        "Succeeded", "Succeeded", "", "Re",
    )  # fmt: skip
    assert is_true(status.conditions, "Ready", generation=2)
    assert (status.finished_at, status.artifact, status.log_complete) == (T[4], artifact, True)


@pytest.mark.parametrize(
    "reason", [r for r, row in REASONS.items() if row.failure and "Build" in row.kinds]
)
def test_every_failure_of_the_table_ends_a_build_and_says_so(reason: str) -> None:
    it = build()
    status = failed(it, begun(it, now=T[1]), explain(reason), now=T[2], log_complete=False)
    cancelled = reason in {"Cancelled", "Superseded"}
    assert status.phase == ("Cancelled" if cancelled else "Failed")
    stalled = find(status.conditions, "Stalled")
    assert stalled is not None
    assert (stalled.reason, status.reason) == (reason, reason)
    assert flags(status) == "St"


def test_a_killed_runner_means_another_attempt_that_says_so() -> None:
    it = build()
    status = step_begun(it, begun(it, now=T[1]), "install", now=T[2])
    again = begun(with_status(it, status), now=T[5])
    assert (again.attempt, again.reason, again.steps) == (2, "Interrupted", [])
    assert again.message == (
        "attempt 2 starts: the one before was interrupted (its runner ended during install)"
    )
    assert too_many_attempts(with_status(it, again), limit=2) is not None
    assert too_many_attempts(with_status(it, again), limit=3) is None


def test_a_raised_retry_runs_a_finished_build_once_more() -> None:
    it = build(retry=1)
    first = queued(it, now=T[0])
    assert first.observed_retry == 1, "what stood there from the start asks for nothing"
    status = failed(it, begun(with_status(it, first), now=T[1]), explain("StepFailed"), now=T[2],
                    log_complete=True)  # fmt: skip
    assert not wants_retry(with_status(it, status))
    it = with_status(build(retry=2), status)
    assert wants_retry(it)
    again = queued(it, now=T[9])
    assert (again.phase, again.queued_at, again.observed_retry) == ("Queued", T[9], 2)
    assert (again.failure, again.log_complete, again.attempt) == (None, False, 1)
    assert not wants_retry(with_status(it, again))
    assert too_many_attempts(with_status(it, again), limit=1) is None, "a retry gives attempts"


def waiting(name: str, second: int, **spec: Any) -> Build:
    return build(name, status=BuildStatus(phase="Queued", queued_at=T[second]), **spec)


def running(name: str) -> Build:
    return build(name, status=BuildStatus(phase="Building", queued_at=T[0]))


class TestTurns:
    def test_in_parallel_all_start_as_far_as_there_is_room(self) -> None:
        builds = [waiting("c", 3), waiting("a", 1), running("r"), waiting("b", 2)]
        assert list(admit(builds, "Parallel").start) == ["a", "b", "c"]
        limited = admit(builds, "Parallel", room=1)
        assert list(limited.start) == ["a"]
        assert limited.wait == {"b": "", "c": ""}

    def test_in_series_the_first_queued_starts_when_nothing_runs(self) -> None:
        builds = [waiting("b", 2), waiting("a", 2), waiting("z", 1, cancel=True)]
        plan = admit(builds, "Serial")
        assert (list(plan.start), plan.wait, plan.supersede) == (["a"], {"b": "a"}, {})
        plan = admit([*builds, running("r")], "Serial")
        assert (list(plan.start), plan.wait) == ([], {"a": "r", "b": "r"})
        assert list(admit(builds, "Serial", room=0).start) == []

    def test_latest_only_leaves_out_all_but_the_newest_that_waits(self) -> None:
        builds = [waiting("a", 1), waiting("b", 2), waiting("c", 3)]
        plan = admit([*builds, running("r")], "SerialLatestOnly")
        assert (list(plan.start), plan.wait, plan.supersede) == (
            [], {"c": "r"}, {"a": "c", "b": "c"},
        )  # fmt: skip
        assert list(admit(builds, "SerialLatestOnly").start) == ["c"]
        assert admit([], "SerialLatestOnly").start == []


NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)


def over(name: str, phase: Any, hours: float, **more: Any) -> Build:
    at = (NOW - timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
    return build(name, status=BuildStatus(phase=phase, finished_at=at), **more)


class TestRetention:
    def test_count_and_age_remove_the_oldest_of_each_sort(self) -> None:
        builds = [over(f"s{n}", "Succeeded", n) for n in range(5)]
        builds += [over(f"f{n}", "Failed" if n % 2 else "Cancelled", n) for n in range(5)]
        builds += [waiting("w", 1), running("r")]
        rules = BuildRetention(succeeded_limit=3, failed_limit=4, ttl_after_succeeded="90m")
        gone = {e.build.metadata.name: e.why for e in expired(builds, rules, now=NOW)}
        assert gone == {
            "s2": "the project keeps successful builds for 90m",
            "s3": "the project keeps 3 successful builds",
            "s4": "the project keeps 3 successful builds",
            "f4": "the project keeps 4 failed builds",
        }

    def test_what_is_in_use_or_to_be_retried_stays(self) -> None:
        builds = [over("used", "Succeeded", 9), over("again", "Failed", 9, retry=1)]
        rules = BuildRetention(succeeded_limit=0, failed_limit=0)
        assert expired(builds, rules, now=NOW, in_use={"used"}) == []
        assert len(expired(builds, rules, now=NOW)) == 1

    def test_a_time_that_is_none_is_never_too_old(self) -> None:
        odd = build(status=BuildStatus(phase="Failed", finished_at="yesterday"))
        assert expired([odd], BuildRetention(ttl_after_failed="1s"), now=NOW) == []
