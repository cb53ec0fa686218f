"""The proof: every way in which a writer can be whole, short, doubled, open or continued."""

from dataclasses import replace

from spanyard_gateway.proof import LifeEvent, Quarantined, StoredRows, Waiting, fold

W = "uid/server/0@e1"
EVENT = LifeEvent(
    meta_writer=f"{W}/meta",
    seq=1,
    event="begin",
    subject=W,
    signal="logs",
    project="local.a",
    deployment="a",
    pod="a-0",
    container="server",
    timestamp="t1",
    cause="",
    message="",
    after_seq=0,
    lines=None,
    bytes=None,
    from_time="",
    to_time="",
    continues="",
    continues_seq=0,
)
META = {f"{W}/meta": StoredRows("gaps", 2, 2, 2)}


def end(last: int, seq: int = 2) -> LifeEvent:
    return replace(EVENT, seq=seq, event="end", after_seq=last, timestamp="t2")


def rows(
    count: int, *, distinct: int | None = None, last: int | None = None
) -> dict[str, StoredRows]:
    return {W: StoredRows("logs", count, distinct or count, last or count), **META}


def test_all_that_an_ended_writer_numbered_is_stored() -> None:
    proof = fold([EVENT, end(10)], rows(10), {}, {})
    assert proof.complete
    (writer,) = proof.writers
    assert (writer.state, writer.expected, writer.stored, writer.missing) == ("ended", 10, 10, 0)


def test_a_hole_is_missing() -> None:
    proof = fold([EVENT, end(10)], rows(9, last=10), {}, {})
    assert (proof.complete, proof.totals["missing"]) == (False, 1)


def test_a_lost_tail_is_missing() -> None:
    assert fold([EVENT, end(10)], rows(7), {}, {}).totals["missing"] == 3


def test_a_writer_that_announced_itself_and_stored_nothing_is_seen() -> None:
    proof = fold([EVENT, end(4)], META, {}, {})
    assert proof.totals["missing"] == 4


def test_a_double_does_not_hide_a_hole() -> None:
    proof = fold([EVENT, end(10)], rows(10, distinct=9, last=10), {}, {})
    assert (proof.totals["doubled"], proof.totals["missing"]) == (1, 1)


def test_what_is_in_quarantine_is_not_missing() -> None:
    proof = fold([EVENT, end(10)], rows(8, last=10), {W: Quarantined("logs", "local.a", 2)}, {})
    assert (proof.complete, proof.totals["missing"], proof.totals["quarantined"]) == (True, 0, 2)


def test_a_writer_without_an_end_is_open_and_nothing_is_proven() -> None:
    proof = fold([EVENT], rows(10), {}, {})
    assert (proof.complete, proof.totals["open"], proof.totals["missing"]) == (False, 1, 0)


def test_a_writer_that_went_on_after_its_end_is_open_again() -> None:
    resumed = replace(EVENT, seq=3, timestamp="t3")
    assert fold([EVENT, end(5), resumed], rows(8), {}, {}).writers[0].state == "open"
    assert fold([EVENT, end(5), resumed, end(8, seq=4)], rows(8), {}, {}).complete


def test_waiting_objects_are_pending_and_not_missing() -> None:
    proof = fold([EVENT, end(10)], rows(6), {}, {W: Waiting("logs", "local.a", 4, 10)})
    assert (proof.totals["pending"], proof.totals["missing"]) == (4, 0)


def test_an_object_that_is_loaded_but_not_yet_moved_is_not_counted_twice() -> None:
    proof = fold([EVENT, end(10)], rows(10), {}, {W: Waiting("logs", "local.a", 10, 10)})
    assert (proof.totals["pending"], proof.complete) == (0, True)


def test_the_successor_of_a_lost_spool_closes_the_writer_where_it_was_stored() -> None:
    new = "uid/server/0@e2"
    begin = replace(
        EVENT, meta_writer=f"{new}/meta", subject=new, continues=W, continues_seq=7, timestamp="t5"
    )
    events = [EVENT, begin, replace(end(3), meta_writer=f"{new}/meta", subject=new)]
    stored = {**rows(7), new: StoredRows("logs", 3, 3, 3)}
    proof = fold(events, stored, {}, {})
    assert [(w.state, w.expected) for w in proof.writers] == [("continued", 7), ("ended", 3)]
    assert proof.complete


def test_a_told_gap_makes_the_whole_incomplete_though_no_number_is_missing() -> None:
    gap = replace(
        EVENT, seq=2, event="gap", cause="rotated-away", lines=12, bytes=None, after_seq=4
    )
    proof = fold([EVENT, gap, end(10, seq=3)], rows(10), {}, {})
    assert (proof.complete, proof.totals["gaps"], proof.totals["lostLines"]) == (False, 1, 12)
    assert proof.gaps[0].cause == "rotated-away"


def test_a_plain_object_is_whole_by_being_there() -> None:
    proof = fold(
        [],
        {"plain:ab": StoredRows("logs", 9, 9, 10)},
        {"plain:ab": Quarantined("logs", "local.a", 1)},
        {},
    )
    assert (proof.complete, proof.writers[0].expected) == (True, 10)


def test_a_hole_in_a_meta_writer_itself_is_shown() -> None:
    stored = {**rows(10), f"{W}/meta": StoredRows("gaps", 2, 2, 3)}
    proof = fold([EVENT, end(10)], stored, {}, {})
    assert [w.writer for w in proof.writers] == [W, f"{W}/meta"]
    assert proof.totals["missing"] == 1


def test_a_writer_of_which_only_objects_in_the_bucket_are_known_is_pending_and_open() -> None:
    proof = fold([], {}, {}, {W: Waiting("logs", "local.a", 5, 5)})
    assert (proof.complete, proof.totals["pending"], proof.totals["open"]) == (False, 5, 1)
    meta = fold([], {}, {}, {f"{W}/meta": Waiting("gaps", "local.a", 1, 1)})
    assert (meta.complete, meta.totals["pending"]) == (False, 1)


def test_a_writer_of_which_everything_was_set_aside_is_not_forgotten() -> None:
    aside = Quarantined("logs", "local.a", 5)
    proof = fold([], {}, {"?0123": aside}, {})
    assert (proof.complete, proof.totals["quarantined"], proof.writers[0].state) == (
        False,
        5,
        "open",
    )
    plain = fold([], {}, {"plain:ab": aside}, {})
    assert (plain.complete, plain.totals["expected"]) == (True, 5)


def test_nothing_is_missing_while_the_bucket_has_more_than_was_listed() -> None:
    proof = fold([EVENT, end(10)], rows(4), {}, {}, listed_all=False)
    assert (proof.complete, proof.totals["pending"], proof.totals["missing"]) == (False, 6, 0)


def test_the_backlog_is_as_old_as_its_oldest_object_and_says_whose_it_is() -> None:
    waiting = {
        W: Waiting("logs", "local.a", 4, 10, "k", 2, 300, 1_790_000_000_000_000_000),
        "uid/server/1@e1": Waiting("logs", "local.a", 1, 1, "k", 1, 20, 1_780_000_000_000_000_000),
    }
    proof = fold([EVENT, end(10)], rows(6), {}, waiting)
    assert (proof.backlog.objects, proof.backlog.bytes) == (3, 320)
    assert proof.backlog.oldest_at == "2026-05-28T20:26:40.000000000Z"
    first, second = proof.writers
    assert first.waiting_since == "2026-09-21T14:13:20.000000000Z"
    assert second.waiting_since == proof.backlog.oldest_at
    none = fold([EVENT, end(10)], rows(10), {}, {}, listed_all=False)
    assert (none.backlog.oldest_at, none.backlog.listed_all) == ("", False)
    assert none.writers[0].waiting_since == ""


def test_who_went_on_or_could_not_be_told_says_why_it_began_where_it_did() -> None:
    begun = replace(EVENT, cause="unverified", message="nobody answered")
    (writer,) = fold([begun], rows(10), {}, {}).writers
    assert (writer.state, writer.cause, writer.message) == ("open", "unverified", "nobody answered")
