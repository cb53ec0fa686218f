"""What is read back against what was planned."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.clickhouse.hashes import city_hash64
from spanyard_ingester.verify import Expected, Stored, compare
from spanyard_ingester.warehouse import WriterSums


def sums(seqs: list[int], project: str = "a.b") -> WriterSums:
    return WriterSums(
        len(seqs),
        min(seqs),
        max(seqs),
        sum(seqs) % 2**64,
        sum(map(city_hash64, seqs)) % 2**64,
        project,
        project,
    )


EXPECTED = {"w": Expected("a.b", [(1, 3), (7, 8)])}
HASHES = {"w": sums([1, 2, 3, 7, 8]).hash_sum}


def test_all_none_and_anything_else() -> None:
    good = sums([1, 2, 3, 7, 8])
    assert compare(EXPECTED, HASHES, {"w": good})[0] is Stored.ALL
    assert compare(EXPECTED, HASHES, {})[0] is Stored.NONE
    assert compare(EXPECTED, HASHES, {"w": good, "x": good})[0] is Stored.ODD
    assert compare(EXPECTED, HASHES, {"x": good})[0] is Stored.ODD


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"count": 6}, "6 rows are stored, not 5"),
        ({"min_seq": 2}, "seqs 2…8 are stored, not 1…8"),
        ({"max_seq": 9}, "seqs 1…9 are stored, not 1…8"),
        ({"seq_sum": 20}, "not of the seqs expected"),
        ({"hash_sum": 1}, "not of the seqs expected"),
        ({"min_project": "a.a"}, "claim to be of the project 'a.a'"),
        ({"max_project": "z.z"}, "claim to be of the project 'z.z'"),
    ],
)
def test_each_sum_counts(changed: dict[str, Any], words: str) -> None:
    got = dataclasses.replace(sums([1, 2, 3, 7, 8]), **changed)
    stored, why = compare(EXPECTED, HASHES, {"w": got})
    assert stored is Stored.ODD
    assert words in why


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_no_other_rows_have_these_sums(seqs: list[int]) -> None:
    """One row doubled and another missing is what count, min and max do not show."""
    same = sorted(seqs) == [1, 2, 3, 7, 8]
    assert (compare(EXPECTED, HASHES, {"w": sums(seqs)})[0] is Stored.ALL) == same
