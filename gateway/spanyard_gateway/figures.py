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

    from_: str | None = msgspec.field(name="from", default=None)
    """What was counted; null where one trace was asked for without a time."""
    to: str | None = None
    facets: list[Facet]


class MetricName(msgspec.Struct, rename="camel", kw_only=True):
    """One metric, as it was measured in a time."""

    name: str
    kind: str
    """By its latest point, like unit and description."""
    unit: str
    description: str
    points: int
    series: int
    """How many different ones, by attributes and pod."""
    attributes: list[str]
    """Keys that its points have, at most 20."""


class MetricNames(msgspec.Struct, rename="camel", kw_only=True):
    """What was measured, by name."""

    names: list[MetricName]
    more: bool
    """There are more than the 500 told."""


class MetricPoint(msgspec.Struct, rename="camel", kw_only=True):
    """One piece of the time; null: nothing was measured, or it does not say."""

    time: str
    rate: float | None = None
    """Per second: what a counter grew by, how many values a histogram counted."""
    mean: float | None = None
    """Of the points of a gauge or up-down counter, of the values of a histogram."""
    min: float | None = None
    max: float | None = None
    p50: float | None = None
    """Of a histogram, by its buckets."""
    p95: float | None = None
    p99: float | None = None


class MetricSeriesOf(msgspec.Struct, rename="camel", kw_only=True):
    """One series; what does not make it one is null."""

    deployment: str | None
    revision: str | None
    value: str | None
    """Of the attribute asked for; empty where a point does not have it."""
    points: list[MetricPoint]


class MetricSeries(msgspec.Struct, rename="camel", kw_only=True):
    """One metric over time, the series with most points first."""

    from_: str = msgspec.field(name="from")
    to: str
    step_seconds: int
    kind: str
    """Empty: no point of this name in this time."""
    unit: str
    series: list[MetricSeriesOf]
    more: bool
    """There are more than the 20 told."""
