"""Times cut into equal pieces for plots: whole seconds, minutes, hours or days of UTC.

Aligned to the clock, not to `from`: a plot that is asked for again a moment later has the same
pieces, and two plots of one time can be laid over each other.
"""

from dataclasses import dataclass

from spanyard_core.clock import rfc3339
from spanyard_core.errors import SettingError
from spanyard_gateway.params import Query

SECOND = 10**9
_DAY_S = 86_400
_STEPS_S = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1_800,
    3_600,
    7_200,
    10_800,
    21_600,
    43_200,
)
DEFAULT_NS = 3_600 * SECOND
"""Without `from`: the hour before `to`."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Pieces that cover a time; the first and last one may reach beyond it."""

    start: int
    """In ns, of what is asked for; inclusive."""
    end: int
    """Exclusive."""
    origin: int
    """Where the first piece begins, in ns."""
    step_s: int
    count: int

    @property
    def step_ns(self) -> int:
        return self.step_s * SECOND

    def time(self, index: int) -> str:
        """When a piece begins, as answers have it."""
        return rfc3339(self.origin + index * self.step_ns)

    def index_sql(self, time_ns: str) -> str:
        """The piece's number, of an expression in ns; `params` has what it binds."""
        return f"intDiv({time_ns} - {{origin:Int64}}, {{step:Int64}})"

    @property
    def params(self) -> dict[str, int]:
        return {"origin": self.origin, "step": self.step_ns}


def bucketed(start: int, end: int, most: int) -> Buckets:
    """The finest round pieces of which at most `most` (1 and more) cover `start` to `end`, in ns."""
    for step in _STEPS_S:
        made = _cut(start, end, step, step)
        if made.count <= most:
            return made
    days = _cut(start, end, _DAY_S, _DAY_S).count
    return _cut(start, end, -(-days // most) * _DAY_S, _DAY_S)


def _cut(start: int, end: int, step_s: int, aligned_s: int) -> Buckets:
    origin = start // (aligned_s * SECOND) * aligned_s * SECOND
    return Buckets(start, end, origin, step_s, -(-(end - origin) // (step_s * SECOND)))


def range_of(query: Query, now_ns: int) -> tuple[int, int]:
    """The time that is counted, in ns: to now without a `to`, from an hour before it without a
    `from`. Raises SettingError when that is none."""
    end = max(1, now_ns if query["to"] is None else query["to"])
    start = max(0, end - DEFAULT_NS) if query["from"] is None else query["from"]
    if start >= end:
        raise SettingError("from: not before now, and there is no `to`, so nothing can match")
    return start, end


def buckets_of(query: Query, now_ns: int) -> Buckets:
    """Those that a query's `from`, `to` and `buckets` ask for. Raises SettingError."""
    start, end = range_of(query, now_ns)
    return bucketed(start, end, query["buckets"] or 1)
