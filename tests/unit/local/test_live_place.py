"""The place of a subscription: what is shown, passed over or told as missing, and where it goes on."""

from spanyard_local.live_client import Dropped, Event, Line, Lines, Live, Passed, Resume, Subscribed
from spanyard_local.live_client.place import Place, Wish


def lines(first: int, last: int, *, left: int = 0, history: bool = False) -> Lines:
    items = [
        Line(seq=n, line=f"{n}", timestamp="", level="info") for n in range(first + left, last + 1)
    ]
    return Lines(
        id="a", type="server:log", writer="w", first=first, last=last, left=left, items=items, history=history
    )  # fmt: skip


def seqs(events: list[Event]) -> list[int]:
    return [item.seq for event in events if isinstance(event, Lines) for item in event.items]


def test_history_that_is_told_again_after_a_break_is_shown_once() -> None:
    place = Place(Wish("a", "server:a.b", history=5))
    told = [Subscribed(channel="c", pods=1), lines(3, 5, history=True)]
    heard = [x for event in told for x in place.take(event)]
    assert place.request() == {
        "type": "subscribe",
        "id": "a",
        "channel": "server:a.b",
        "history": 5,
    }
    again = [*told, lines(6, 7), Live(id="a", resume=Resume(9, {"w": 7, "v": 4})), lines(8, 8)]
    heard += [x for event in again for x in place.take(event)]
    assert seqs(heard) == [3, 4, 5, 6, 7, 8]
    assert not [event for event in heard if isinstance(event, Dropped)]
    assert place.resume() == Resume(9, {"v": 4, "w": 8})
    assert "history" not in place.request()


def test_a_history_that_has_moved_on_while_nobody_heard_it_leaves_no_silent_hole() -> None:
    """Only the newest are told anew; what lies between them and those that were shown is told."""
    told = [Subscribed(channel="c", pods=1), lines(3, 5, history=True)]
    over = Live(id="a", resume=Resume(9, {"w": 24}))
    for again, missing in (
        ([lines(20, 24, history=True), over], (6, 19, 14)),
        ([lines(6, 10, history=True), over], None),
        ([lines(4, 8, history=True), over], None),
        ([over], (6, 24, 19)),  # others' records are newer than all of its own
    ):
        place = Place(Wish("a", "server:a.b", history=5))
        heard = [x for event in [*told, told[0], *again] for x in place.take(event)]
        dropped = [event for event in heard if isinstance(event, Dropped)]
        assert [(d.first, d.last, d.count) for d in dropped] == ([missing] if missing else [])
        assert {d.reason for d in dropped} <= {"moved-on"}
        assert seqs(list(place.take(lines(25, 25)))) == [25]


def test_records_that_come_twice_are_passed_over_and_those_that_never_come_are_told() -> None:
    place = Place(Wish("a", "c:d", resume=Resume(1, {"w": 10})))
    assert list(place.take(lines(5, 10))) == []
    assert seqs(list(place.take(lines(9, 12)))) == [11, 12]
    assert [type(x) for x in place.take(Passed(id="a", writer="w", last=15, left=3))] == [Passed]
    assert seqs(list(place.take(lines(20, 21, left=1)))) == [21]
    [found] = Place(Wish("a", "c:d", resume=Resume(1, {"w": 10}))).take(
        Dropped(id="a", writer="w", first=11, last=12, count=2, reason="slow-client")
    )
    assert isinstance(found, Dropped)
    skipped = list(place.take(lines(30, 31)))
    assert isinstance(skipped[0], Dropped)
    assert (skipped[0].reason, skipped[0].count, skipped[0].last) == ("not-told", 8, 31)
