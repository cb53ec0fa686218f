"""What a commit says of itself, cleaned and bounded."""

import time

from spanyard_core.commits import MOST_AUTHOR, Commit, cleaned


def test_a_name_that_is_far_too_long_takes_no_time() -> None:
    began = time.process_time()
    author = cleaned(Commit(author="n" * 200_000)).author
    # Some 3 ms; looked at to its end 160 s.
    assert time.process_time() - began < 2
    assert author == "n" * (MOST_AUTHOR - 1) + "…"


def test_an_address_in_a_name_is_taken_out_at_any_place() -> None:
    for text in ("Ann <ann@example.org>", "ann@example.org Ann", "(ann@example.org)  Ann"):
        assert cleaned(Commit(author=text)).author == "Ann"
