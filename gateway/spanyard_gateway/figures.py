"""What the API answers with where it counts instead of listing: values over time.

Field names are camelCase, times RFC 3339 in UTC, as in `items`. A number that is not there (the
percentile of nothing) is null, never 0.
"""

from typing import Literal

import msgspec


class TraceFigures(msgspec.Struct, rename="camel", kw_only=True):
    """What the list of traces would add up to."""

    traces: int
    """By the time they began; running ones too."""
    errors: int
    """Of them, those whose status is `error`."""
    p50_ns: int | None
    """Of those that have ended: the duration that half of them do not exceed."""
    p95_ns: int | None
    p99_ns: int | None
    input_tokens: int
    """Of all ended spans of these traces."""
    output_tokens: int
    cost: float


class TracePoint(TraceFigures, kw_only=True):
    """One piece of the time."""

    time: str
    """When it begins; it lasts `stepSeconds`."""


class TraceSeriesOf(msgspec.Struct, rename="camel", kw_only=True):
    """One series; `deployment` and `revision` are null where they do not make one."""

    deployment: str | None
    revision: str | None
    other: bool
    """All that are not among the largest."""
    total: TraceFigures
    points: list[TracePoint]
    """All pieces, empty ones too."""


class TraceSeries(msgspec.Struct, rename="camel", kw_only=True):
    """Traces over time, the series with most traces first; at most 20 and one for the others."""

    from_: str = msgspec.field(name="from")
    to: str
    step_seconds: int
    series: list[TraceSeriesOf]


class ScorePoint(msgspec.Struct, rename="camel", kw_only=True):
    """One piece of the time; the numbers are null where there is none."""

    time: str
    count: int
    mean: float | None
    min: float | None
    max: float | None


class ScoreTotal(msgspec.Struct, rename="camel", kw_only=True):
    """Of all the time."""

    count: int
    mean: float | None
    p5: float | None
    p50: float | None
    p95: float | None


class ScoreBar(msgspec.Struct, rename="camel", kw_only=True):
    """How many values lie from `from` to below `to`; the last one includes `to`."""

    from_: float = msgspec.field(name="from")
    to: float
    count: int


class ScoreShare(msgspec.Struct, rename="camel", kw_only=True):
    """How often a value or label was given."""

    value: str
    count: int


class ScoreSeriesOf(msgspec.Struct, rename="camel", kw_only=True):
    """The scores of one name, or of one name and revision."""

    name: str
    deployment: str | None
    revision: str | None
    kind: Literal["number", "boolean", "category"]
    """`category`: some have a label; `boolean`: all are 0 or 1."""
    total: ScoreTotal
    points: list[ScorePoint]
    histogram: list[ScoreBar]
    """Of a `number`: ten bars from the least value of the name to its greatest; else empty."""
    values: list[ScoreShare]
    """Of a `boolean` 0 and 1, of a `category` its most frequent labels; else empty."""


class ScoreSeries(msgspec.Struct, rename="camel", kw_only=True):
    """Scores over time, by name."""

    from_: str = msgspec.field(name="from")
    to: str
    step_seconds: int
    series: list[ScoreSeriesOf]
    more: bool
    """There are more names or revisions than the answer has."""


class LogBucket(msgspec.Struct, rename="camel", kw_only=True):
    """Lines from `time` until the next bucket."""

    time: str
    total: int
    levels: dict[str, int]
    """Only levels that occur."""


class LogHistogram(msgspec.Struct, rename="camel", kw_only=True):
    """Lines over time; buckets without lines are there too, with the total 0."""

    from_: str = msgspec.field(name="from")
    to: str
    step_seconds: int
    buckets: list[LogBucket]


class FacetValue(msgspec.Struct, rename="camel"):
    """A value, and how many records have it."""

    value: str
    count: int


class Facet(msgspec.Struct, rename="camel", kw_only=True):
    """The most frequent values of a field; `more`: there are others."""

    field: str
    values: list[FacetValue]
    more: bool


class Facets(msgspec.Struct, rename="camel", kw_only=True):
    """All fields that can be counted; a field without a value that says something has no values."""

    facets: list[Facet]
