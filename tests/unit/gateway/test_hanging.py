"""Which unfinished spans hang, and which nobody is left to end."""

import time

import pytest

from spanyard_gateway.hanging import SETTLED_NS, Heard, Life, is_gone, last_heard

S = 10**9
NOW = 10_000 * S


def test_a_span_that_waits_for_one_below_it_is_heard_of_with_it() -> None:
    words = [
        Heard("t", "root", "", 10),
        Heard("t", "child", "root", 20),
        Heard("t", "grandchild", "child", 90),
        Heard("t", "stuck", "root", 15),
        Heard("u", "child", "root", 99),  # another trace
        Heard("t", "a", "b", 5),
        Heard("t", "b", "a", 7),  # each other's ancestors
    ]
    found = last_heard(words)
    assert {key[1]: at for key, at in found.items() if key[0] == "t"} == {
        "root": 90, "child": 90, "grandchild": 90, "stuck": 15, "a": 7, "b": 7,
    }  # fmt: skip


def test_a_chain_of_twenty_thousand_spans_takes_a_moment() -> None:
    words = [Heard("t", str(n), str(n - 1), n) for n in range(20_000)]
    began = time.process_time()
    assert set(last_heard(words).values()) == {19_999}
    assert time.process_time() - began < 5  # 0.02 s; 20 s when each is told of each below it


def logs(run: int, begin: int, end: int | None, container: str = "server") -> Life:
    return Life(f"pod/{container}/{run}@e", "logs", begin * S, None if end is None else end * S)


def spans(end: int | None, name: str = "spans@e") -> Life:
    return Life(f"pod/{name}", "spans", 0, None if end is None else end * S)


@pytest.mark.parametrize(
    ("lives", "gone"),
    [
        ([], False),
        ([spans(None)], False),
        ([spans(200)], True),
        # One file was rotated away; the process writes another.
        ([spans(200, "spans/1@e"), spans(None, "spans/2@e")], False),
        ([spans(None), logs(0, 1, None)], False),
        # The container runs again; the span (of 100 s) is of its first run.
        ([spans(None), logs(0, 1, 150), logs(1, 151, None)], True),
        ([spans(None), logs(0, 1, 50), logs(1, 51, None)], False),
        ([spans(None), logs(0, 1, None), logs(1, 151, None)], True),
        # Which of two containers it is of nobody tells.
        ([spans(None), logs(0, 1, 150), logs(0, 1, None, "other")], False),
        # An init container began nothing.
        ([spans(None), logs(0, 1, 9, "fetch"), logs(0, 10, 150)], True),
        ([spans(None), logs(0, 1, 9, "fetch"), logs(0, 10, None)], False),
        # What it wrote last may still be on its way.
        ([spans((NOW - SETTLED_NS) // S + 1)], False),
    ],
)
def test_a_process_has_ended_when_its_pod_says_so(lives: list[Life], gone: bool) -> None:
    assert is_gone(lives, 100 * S, NOW) is gone
