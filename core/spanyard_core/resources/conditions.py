"""`Ready`, `Reconciling` and `Stalled` as kstatus reads them; pure, and made here alone.

`Ready` is always there. The other two are there only while they are true: `Reconciling` says that
work goes on, `Stalled` that it does not go on without somebody's help. Argo CD, Flux and
`kubectl wait` then agree on what an object is: in progress, failed or current. A Deployment whose
new revision is bad while the old one serves is `Ready` and `Stalled` at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spanyard_core.resources.kinds import Condition, ConditionStatus
from spanyard_core.resources.reasons import REASONS

READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
OURS = (READY, RECONCILING, STALLED)
MAX_MESSAGE = 2_000
"""Characters of a message; the CRDs allow 32,768, etcd and people like less."""


@dataclass(frozen=True)
class Because:
    """Why a condition is as it is: a reason of the table, and a sentence."""

    reason: str
    message: str = ""

    def __post_init__(self) -> None:
        """A reason that is not in the table is a mistake of ours: ValueError."""
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not in spanyard_core.resources.reasons")


def conditions(
    old: Sequence[Condition],
    *,
    generation: int,
    now: str,
    ready: ConditionStatus,
    because: Because,
    reconciling: Because | None = None,
    stalled: Because | None = None,
) -> list[Condition]:
    """The conditions of now: `old` gives the times of transition and what others wrote.

    `now` is RFC 3339; a time of transition moves only when the status does, so that nothing is
    written when nothing changed. Equal input gives an equal list.
    """
    if reconciling and stalled:
        raise ValueError("what is stalled does not go on: only one of reconciling and stalled")
    wanted: list[tuple[str, ConditionStatus, Because]] = [(READY, ready, because)]
    if reconciling:
        wanted.append((RECONCILING, "True", reconciling))
    if stalled:
        wanted.append((STALLED, "True", stalled))
    made: list[Condition] = []
    for type_, status, why in wanted:
        before = find(old, type_)
        unmoved = before is not None and before.status == status
        made.append(
            Condition(
                type=type_,
                status=status,
                reason=why.reason,
                message=_clipped(why.message),
                observed_generation=generation,
                last_transition_time=before.last_transition_time if before and unmoved else now,
            )
        )
    return made + [condition for condition in old if condition.type not in OURS]


def find(among: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of a type, or None."""
    return next((condition for condition in among if condition.type == type_), None)


def is_true(among: Iterable[Condition], type_: str, *, generation: int | None = None) -> bool:
    """True when it is there and true, and, when asked, said of this generation or a later one."""
    found = find(among, type_)
    return (
        found is not None
        and found.status == "True"
        and (generation is None or found.observed_generation >= generation)
    )


def _clipped(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
