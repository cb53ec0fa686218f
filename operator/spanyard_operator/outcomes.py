"""What can keep a reconciler from its end, and what a status then says: one place for all kinds.

A reconciler raises one of these from any depth; whoever writes the status turns it into conditions
by `conditions_of`. Anything else that is raised is tried again by the work queue.
"""

from collections.abc import Sequence
from typing import Unpack

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.conditions import Because, conditions
from spanyard_core.resources.kinds import Condition, ConditionStatus, Failure
from spanyard_core.resources.reasons import REASONS, Facts, explain


class OutcomeError(SpanyardError):
    """It does not go on now. `because` stands in the conditions."""

    def __init__(self, because: Because) -> None:
        super().__init__(f"{because.reason}: {because.message}")
        self.because = because


class WaitingError(OutcomeError):
    """It goes on by itself, when something else happens or after `again` seconds."""

    def __init__(self, because: Because, *, again: float | None = None) -> None:
        super().__init__(because)
        self.again = again


class StalledError(OutcomeError):
    """It does not go on without somebody's help. `failure` says what to do."""

    def __init__(self, failure: Failure, *, again: float | None = None) -> None:
        super().__init__(Because(failure.reason, failure.message))
        self.failure = failure
        self.again = again


def waiting(reason: str, *, again: float | None = None, **facts: Unpack[Facts]) -> WaitingError:
    """A WaitingError with the text of the table."""
    return WaitingError(Because(reason, REASONS[reason].told(**facts)), again=again)


def stalled(reason: str, *, again: float | None = None, **facts: Unpack[Facts]) -> StalledError:
    """A StalledError with the texts of the table."""
    return StalledError(explain(reason, **facts), again=again)


def conditions_of(
    outcome: OutcomeError,
    old: Sequence[Condition],
    *,
    generation: int,
    now: str,
    ready: ConditionStatus = "False",
    ready_because: Because | None = None,
) -> list[Condition]:
    """The conditions of an object that waits or is stalled; `ready` when it serves all the same."""
    return conditions(
        old,
        generation=generation,
        now=now,
        ready=ready,
        because=ready_because or outcome.because,
        reconciling=None if isinstance(outcome, StalledError) else outcome.because,
        stalled=outcome.because if isinstance(outcome, StalledError) else None,
    )
