"""Exponential histograms as histograms with explicit bounds.

Bucket i of scale s covers (base^i, base^(i+1)] with base = 2^(2^-s) (OTLP `metrics.proto`,
ExponentialHistogramDataPoint). All boundaries are kept, so no count moves between ranges; only a
value exactly on a negative boundary may be counted on its other side, because explicit buckets
include their upper bound everywhere and negative exponential ones their lower.
"""

from typing import Any

from spanyard_sidecar.otlp.form import RefusedRecordError

MAX_BUCKETS = 2_000
"""Per side; SDKs keep 160. More would be a line of a size that nobody plots."""


def explicit_buckets(data: Any) -> tuple[list[float], list[int]]:
    """Bounds (n) and counts (n + 1) of a data point. Raises RefusedRecordError."""
    positive, negative = data.positive, data.negative
    if max(len(positive.bucket_counts), len(negative.bucket_counts)) > MAX_BUCKETS:
        raise RefusedRecordError(
            f"an exponential histogram with more than {MAX_BUCKETS} buckets on a side"
        )
    bounds: list[float] = []
    counts: list[int] = []

    def add(count: int, upper: float) -> None:
        # Boundaries that coincide as doubles (extreme scales) merge their buckets.
        if bounds and upper <= bounds[-1]:
            counts[-1] += count
        else:
            bounds.append(upper)
            counts.append(count)

    if negative.bucket_counts:
        n = len(negative.bucket_counts)
        add(0, -_boundary(data.scale, negative.offset + n))
        for i in range(n - 1, -1, -1):
            add(negative.bucket_counts[i], -_boundary(data.scale, negative.offset + i))
    if data.zero_count or negative.bucket_counts or positive.bucket_counts:
        add(data.zero_count, max(data.zero_threshold, 0.0))
    if positive.bucket_counts:
        add(0, _boundary(data.scale, positive.offset))
        for i, count in enumerate(positive.bucket_counts):
            add(count, _boundary(data.scale, positive.offset + i + 1))
    return (bounds, [*counts, 0]) if bounds else ([], [])


def _boundary(scale: int, index: int) -> float:
    if not -64 <= scale <= 64:
        raise RefusedRecordError("an exponential histogram with a scale beyond ±64")
    try:
        # Exact integer part first: 2^(index / 2^scale) with as few roundings as possible.
        exponent = index * 2.0**-scale
        return float(2.0**exponent)
    except OverflowError:
        raise RefusedRecordError(
            "an exponential histogram with a boundary that no double can hold"
        ) from None
