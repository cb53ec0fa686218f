"""Whatever happens in whatever order: the promises of a rollout hold."""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.resources.conditions import find
from spanyard_core.resources.kinds import CollectorStatus, DeploymentStatus, Revision
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
)
from tests.unit.servers.manifests import NOW, deployment

STEPS_AT_MOST = 6
"""From one moment to rest: stop the old candidate, start, promote, scale, and some."""

happening = st.one_of(
    st.tuples(st.just("want"), st.sampled_from(["a", "b", "c", ""])),
    st.tuples(st.just("replicas"), st.integers(0, 3)),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("ready"), st.tuples(st.booleans(), st.integers(0, 3))),
    st.tuples(st.just("fail"), st.tuples(st.booleans(), st.booleans())),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 61])),
    st.tuples(st.just("touch"), st.none()),
)
stories = st.lists(st.lists(happening, min_size=1, max_size=3), max_size=20)
"""What happens between two looks, look by look."""


@dataclass
class Model:
    """A runner without processes: it does what `decide` says."""

    wish: Wish = field(
        default_factory=lambda: Wish(wait="a build", replicas=2, deadline=60, generation=1)
    )
    serving: Group | None = None
    candidate: Group | None = None
    given_up: GivenUp | None = None
    now: float = 0.0
    number: int = 0
    status: DeploymentStatus | None = None

    def change(self, **fields: Any) -> None:
        generation = self.wish.generation + 1
        self.wish = replace(self.wish, **{"generation": generation, **fields})

    def happen(self, what: str, value: Any) -> None:
        if what == "want":
            missing = None if value else explain("BuildMissing", name="x")
            self.change(hash=value, wait="", failure=missing)
        elif what == "touch":
            self.change()  # another field of the spec
        elif what in {"replicas", "suspend"}:
            self.change(**{what: value})
        elif what == "wait":
            self.now += value
        else:
            which = "serving" if value[0] else "candidate"
            group = getattr(self, which)
            if group is None:
                return
            if what == "ready":
                n = min(value[1], group.wanted)
                group = replace(group, ready=n, running=group.wanted, failure=None)
            else:
                bad = explain("CrashLoop", exit_code=1)
                group = replace(group, ready=0, failure=bad, hopeless=value[1])
            setattr(self, which, group)

    def settle(self) -> None:
        for _ in range(STEPS_AT_MOST):
            step = decide(self.wish, self.serving, self.candidate, self.given_up, self.now)
            if step is None:
                return
            self.do(step)
        raise AssertionError("it does not come to rest")

    def do(self, step: Any) -> None:
        before = self.serving
        match step:
            case Start():
                assert self.candidate is None
                assert self.wish.hash
                assert self.wish.hash != (before.hash if before else None)
                assert not self.is_given_up()
                self.number += 1
                self.given_up = None
                self.candidate = Group(
                    number=self.number,
                    hash=self.wish.hash,
                    since=self.now,
                    wanted=self.wish.replicas,
                )
            case Promote():
                assert self.candidate is not None
                assert self.candidate.hash == self.wish.hash
                assert self.candidate.ready == self.candidate.wanted == self.wish.replicas > 0
                self.serving, self.candidate = self.candidate, None
            case Scale(which, replicas):
                group = getattr(self, which)
                ready = min(group.ready, replicas)
                setattr(self, which, replace(group, wanted=replicas, ready=ready))
            case Stop("serving"):
                assert self.wish.suspend or self.wish.replicas == 0
                self.serving = None
            case Stop():
                self.candidate = None
            case GiveUp(failure):
                assert failure.reason
                assert failure.remedy
                assert self.candidate is not None
                self.given_up = GivenUp(self.candidate.hash, self.wish.generation, failure)
                self.candidate = None

    def is_given_up(self) -> bool:
        asked = (self.wish.hash, self.wish.generation)
        return self.given_up is not None and (self.given_up.hash, self.given_up.generation) == asked

    def tell(self) -> None:
        told = deployment(generation=self.wish.generation)
        if self.status is not None:
            told.status = self.status
        self.status = describe(
            told,
            self.wish,
            self.serving,
            self.candidate,
            self.given_up,
            revisions=[Revision(number=self.number, hash="x", state="Starting")],
            endpoint="",
            collector=CollectorStatus(),
            now=NOW,
        )


@given(stories)
def test_a_rollout_comes_to_rest_never_takes_a_server_away_and_tells_a_consistent_story(
    story: list[list[tuple[str, Any]]],
) -> None:
    model = Model()
    for between in story:
        for what, value in between:
            model.happen(what, value)
        model.settle()
        model.tell()
        wish, status = model.wish, model.status
        assert status is not None
        conditions = {c.type: c for c in status.conditions}
        assert "Ready" in conditions
        assert not {"Reconciling", "Stalled"} <= set(conditions)
        assert all(c.observed_generation == wish.generation for c in conditions.values())
        ready = find(status.conditions, "Ready")
        assert ready is not None
        if wish.suspend or wish.replicas == 0:
            assert model.serving is None
            assert model.candidate is None
        else:
            well = model.serving is not None and model.serving.ready == model.serving.wanted
            assert (ready.status == "True") == well
            assert model.candidate is None or model.candidate.hash == wish.hash
            serves = model.serving is not None and model.serving.hash == wish.hash
            if wish.hash and not serves and model.candidate is None:
                assert model.is_given_up()
            # Nothing is left undone in silence.
            done = serves and well
            assert done == (set(conditions) == {"Ready"} and ready.status == "True")
        if "Stalled" in conditions:
            assert status.failure is not None
            assert status.failure.reason == status.reason
