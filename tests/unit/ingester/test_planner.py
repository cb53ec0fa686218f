"""The planner: fairness between projects, and subtraction that never loads a seq twice."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spanyard_core.chunks import ChunkFacts
from spanyard_core.intervals import IntervalSet
from spanyard_core.object_names import ChunkName
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.planner import Limits, Prepared, Ready, choose, fit

Pair = tuple[int, int]


def ready(project: str = "a.b", writer: str = "w", first: int = 1, last: int = 10) -> Ready:
    facts = ChunkFacts(
        signal="logs",
        project=project,
        writer=writer,
        first=first,
        last=last,
        records=last - first + 1,
        decoded=100 * (last - first + 1),
        time_ns=0,
        sha256="",
    )
    name: ChunkName = facts.name
    return Ready(name.key(), name, 10, 0.0, facts)


def prepared(first: int, last: int, writer: str = "w", project: str = "a.b") -> Prepared:
    item = ready(project, writer, first, last)
    return Prepared(item, Path("x"), False, "", writer, first, last)


class TestChoose:
    def test_each_project_gets_one_object_per_turn(self) -> None:
        flood = [ready("big.one", f"w{i}") for i in range(100)]
        small = [ready("small.one", "v")]
        chosen = choose([flood, small], Limits(objects=4))
        assert [item.name.project for item in chosen] == [
            "big.one",
            "small.one",
            "big.one",
            "big.one",
        ]

    def test_limits_hold_for_objects_rows_and_bytes(self) -> None:
        queue = [ready(writer=f"w{i}") for i in range(20)]
        assert len(choose([queue], Limits(objects=7))) == 7
        assert len(choose([queue], Limits(rows=35))) == 3
        assert len(choose([queue], Limits(decoded=4_999))) == 4

    def test_a_first_object_is_taken_whatever_its_size(self) -> None:
        assert len(choose([[ready(), ready()]], Limits(rows=1))) == 1

    def test_nothing_gives_nothing(self) -> None:
        assert choose([], Limits()) == []


def state_with(handled: Sequence[Pair] = (), busy: Sequence[Pair] = ()) -> LedgerState:
    scope = ready().scope
    state = LedgerState()
    state.handled[scope] = IntervalSet(handled)
    state.busy[scope] = IntervalSet(busy)
    return state


class TestFit:
    def test_what_is_handled_is_left_out(self) -> None:
        result = fit([prepared(1, 20)], state_with([(5, 10)]))
        [(_, loaded)] = result.objects
        assert loaded.ranges == [(1, 4), (11, 20)]
        assert loaded.rows == 14
        assert result.exclude == {"w": [(5, 10)]}

    def test_what_is_busy_waits(self) -> None:
        item = prepared(1, 20)
        assert fit([item], state_with(busy=[(20, 30)])).later == [item]

    def test_what_is_covered_is_not_loaded(self) -> None:
        item = prepared(3, 7)
        assert fit([item], state_with([(1, 10)])).covered == [item]

    def test_a_writer_under_two_projects_never_shares_a_batch(self) -> None:
        one, two = prepared(1, 5), prepared(1, 5, project="evil.one")
        result = fit([one, two], LedgerState())
        assert [item for item, _ in result.objects] == [one]
        assert result.later == [two]

    def test_an_exclusion_never_hits_another_object_of_the_writer(self) -> None:
        """Exclusions go by writer: an object that leaves out what the next one loads must not
        share its insert."""
        state = state_with([(1, 5)])
        first, second = prepared(1, 10), prepared(6, 12)
        result = fit([first, second], state)
        assert [item for item, _ in result.objects] == [first]
        assert result.later == [second]

    def test_an_object_without_a_good_line_is_done(self) -> None:
        item = prepared(1, 3)
        item.present = []
        [(done, loaded)] = fit([item], LedgerState()).done
        assert done is item
        assert loaded.absent == [(1, 3)]

    @given(
        ranges=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 10)), max_size=8),
        handled=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)), max_size=4),
        busy=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), max_size=2),
    )
    def test_one_insert_stores_every_seq_at_most_once_and_only_what_is_missing(
        self, ranges: list[Pair], handled: list[Pair], busy: list[Pair]
    ) -> None:
        done = IntervalSet((a, a + n) for a, n in handled)
        taken = IntervalSet((a, a + n) for a, n in busy)
        items = [prepared(a, a + n) for a, n in ranges]
        result = fit(items, state_with(list(done), list(taken)))
        # What the engine does: all files' lines, less what is excluded for their writer.
        excluded = IntervalSet(result.exclude.get("w", ()))
        stored: list[int] = []
        for item, loaded in result.objects:
            lines = [seq for a, b in item.held for seq in range(a, b + 1) if seq not in excluded]
            assert lines == [seq for a, b in loaded.ranges for seq in range(a, b + 1)]
            stored += lines
        assert len(stored) == len(set(stored))
        assert not any(seq in done or seq in taken for seq in stored)
        everywhere = len(result.objects) + len(result.later) + len(result.covered)
        assert everywhere + len(result.done) == len(items)
        for item in result.later:
            # Nothing waits without a reason: a part of it is busy, or in this very batch.
            assert any(
                seq in taken or seq in stored or seq in excluded
                for seq in range(item.first, item.last + 1)
            )
