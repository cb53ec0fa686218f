"""Verify: whether what is stored of an attempt is what its plan says. Pure but for the hash sums."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spanyard_ingester.operations import Plan, Range
from spanyard_ingester.warehouse import WriterSums

_MODULUS = 2**64


class Stored(enum.Enum):
    """What of an attempt is stored."""

    ALL = "all"
    NONE = "none"
    ODD = "something else"


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be stored of one writer."""

    project: str
    ranges: Sequence[Range]


def expected_of(plan: Plan) -> dict[str, Expected]:
    """Writer → what the plan loads of it. A plan never has one writer under two projects."""
    ranges: dict[str, list[Range]] = {}
    projects: dict[str, str] = {}
    for item in plan.objects:
        ranges.setdefault(item.writer, []).extend(item.ranges)
        projects[item.writer] = item.project
    return {writer: Expected(projects[writer], pairs) for writer, pairs in ranges.items()}


def compare(
    expected: Mapping[str, Expected], hashes: Mapping[str, int], stored: Mapping[str, WriterSums]
) -> tuple[Stored, str]:
    """What is stored, and the first difference in words."""
    if not stored:
        return Stored.NONE, "nothing is stored"
    for writer in stored:
        if writer not in expected:
            return (
                Stored.ODD,
                f"rows of the writer {writer[:120]!r} are stored, which no object has",
            )
    for writer, wanted in expected.items():
        got = stored.get(writer)
        if got is None:
            return Stored.ODD, f"no row of the writer {writer[:120]!r} is stored"
        difference = _difference(wanted, hashes[writer], got)
        if difference:
            return Stored.ODD, f"of the writer {writer[:120]!r}, {difference}"
    return Stored.ALL, ""


def _difference(wanted: Expected, hash_sum: int, got: WriterSums) -> str:
    count = sum(last - first + 1 for first, last in wanted.ranges)
    if got.count != count:
        return f"{got.count} rows are stored, not {count}"
    for project in (got.min_project, got.max_project):
        if project != wanted.project:
            return f"rows claim to be of the project {project[:120]!r}, not {wanted.project!r}"
    first = min(first for first, _ in wanted.ranges)
    last = max(last for _, last in wanted.ranges)
    total = sum((first + last) * (last - first + 1) // 2 for first, last in wanted.ranges)
    if (got.min_seq, got.max_seq) != (first, last):
        return f"seqs {got.min_seq}…{got.max_seq} are stored, not {first}…{last}"
    if got.seq_sum % _MODULUS != total % _MODULUS or got.hash_sum % _MODULUS != hash_sum:
        return "as many rows as expected are stored, but not of the seqs expected"
    return ""
