"""The loss ledger (I6): for every writer, what was expected, what is stored, what is known lost.

Facts come from four places and are only put together here: the writers' own begin, end and gap
records (table `gaps`), the rows themselves (counted through the projection by writer), the
quarantine, and the objects that still wait in the bucket. `fold` is pure; the queries are at the
edge, in `queries/proof.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from spanyard_core.clock import rfc3339
from spanyard_gateway.items import Backlog, GapItem, Proof, WriterProof


@dataclass(frozen=True, slots=True)
class LifeEvent:
    """One record of signal `gaps`, as stored."""

    meta_writer: str
    seq: int
    event: Literal["begin", "end", "gap"]
    subject: str
    signal: str
    project: str
    deployment: str
    pod: str
    container: str
    timestamp: str
    cause: str
    message: str
    after_seq: int
    lines: int | None
    bytes: int | None
    from_time: str
    to_time: str
    continues: str
    continues_seq: int


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of one writer in its table."""

    signal: str
    count: int
    distinct: int
    last: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Records of one writer that were set aside, whatever became of them there."""

    signal: str
    project: str
    records: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Objects of one writer that lie in the bucket and are not known to be loaded."""

    signal: str
    project: str
    records: int
    last: int
    """Their highest seq."""
    key: str = ""
    """One of them."""
    objects: int = 1
    size: int = 0
    """Bytes of them, as stored."""
    oldest_ns: int = 0
    """When the oldest of them was put there, nanoseconds since the epoch."""


@dataclass(slots=True)
class _Writer:
    signal: str = ""
    project: str = ""
    deployment: str = ""
    pod: str = ""
    container: str = ""
    state: Literal["open", "ended", "continued"] = "open"
    expected: int = 0
    begun_at: str = ""
    ended_at: str = ""
    begin_cause: str = ""
    begin_message: str = ""
    gaps: list[LifeEvent] = field(default_factory=list)


def fold(
    events: Iterable[LifeEvent],
    rows: Mapping[str, StoredRows],
    quarantined: Mapping[str, Quarantined],
    waiting: Mapping[str, Waiting],
    *,
    projects: Mapping[str, str] | None = None,
    listed_all: bool = True,
) -> Proof:
    """Put the facts together.

    `events` are ordered by meta writer and seq. `projects` names the project of writers that never
    announced themselves (plain objects). Without `listed_all` there is more in the bucket than
    `waiting` has: what is not stored may be there, and counts as pending.
    """
    writers: dict[str, _Writer] = {}
    continued: dict[str, tuple[int, str]] = {}
    for event in events:
        writer = writers.setdefault(event.subject, _Writer())
        writer.signal, writer.project = event.signal, event.project
        writer.deployment, writer.pod = event.deployment, event.pod
        writer.container = event.container
        if event.event == "begin":
            writer.state = "open"
            writer.begun_at = writer.begun_at or event.timestamp
            writer.ended_at = ""
            writer.begin_cause, writer.begin_message = event.cause, event.message
            if event.continues:
                continued[event.continues] = (event.continues_seq, event.timestamp)
        elif event.event == "end":
            writer.state = "ended"
            writer.expected = event.after_seq
            writer.ended_at = event.timestamp
        else:
            writer.gaps.append(event)
    for name, (last, when) in continued.items():
        # The lost spool's writer says nothing more; who goes on for it said where it stopped.
        writer = writers.setdefault(name, _Writer())
        if writer.state == "open":
            writer.state, writer.expected, writer.ended_at = "continued", last, when
    for name, stored in rows.items():
        writer = writers.setdefault(name, _Writer())
        writer.signal = writer.signal or stored.signal
        writer.project = writer.project or (projects or {}).get(name, "")
        if name.startswith("plain:") and writer.state == "open":
            # One object is all there ever is of it: it is complete by being there.
            aside = quarantined.get(name)
            writer.state = "ended"
            writer.expected = stored.distinct + (aside.records if aside else 0)
    for name, aside in quarantined.items():
        # Nothing else may be known of it: its only object was set aside.
        writer = writers.setdefault(name, _Writer())
        writer.signal = writer.signal or aside.signal
        writer.project = writer.project or aside.project
        if name.startswith("plain:") and name not in rows:
            writer.state, writer.expected = "ended", aside.records
    for name, lying in waiting.items():
        # Nothing of it is loaded yet, not even its begin: it is there all the same.
        writer = writers.setdefault(name, _Writer())
        writer.signal = writer.signal or lying.signal
        writer.project = writer.project or lying.project
    proofs = [
        _prove(
            name,
            writer,
            rows.get(name),
            quarantined[name].records if name in quarantined else 0,
            waiting.get(name),
            listed_all=listed_all,
        )
        for name, writer in sorted(writers.items())
        if not _is_quiet_meta(name, rows.get(name), waiting.get(name))
    ]
    told = [_gap_item(e) for _, w in sorted(writers.items()) for e in w.gaps]
    totals = {
        name: sum(getattr(p, name) for p in proofs)
        for name in (
            "expected",
            "stored",
            "quarantined",
            "pending",
            "missing",
            "doubled",
            "lost_lines",
            "gaps",
        )
    }
    totals["open"] = sum(p.state == "open" for p in proofs)
    totals["writers"] = len(proofs)
    names = {"lost_lines": "lostLines"}
    return Proof(
        complete=not any(
            totals[name] for name in ("missing", "doubled", "pending", "gaps", "open")
        ),
        writers=proofs,
        gaps=told,
        backlog=_backlog(waiting.values(), listed_all=listed_all),
        totals={names.get(k, k): v for k, v in totals.items()},
    )


def _backlog(waiting: Iterable[Waiting], *, listed_all: bool) -> Backlog:
    those = list(waiting)
    oldest = min((w.oldest_ns for w in those if w.oldest_ns), default=0)
    return Backlog(
        objects=sum(w.objects for w in those),
        bytes=sum(w.size for w in those),
        oldest_at=rfc3339(oldest) if oldest else "",
        listed_all=listed_all,
    )


def _is_quiet_meta(name: str, stored: StoredRows | None, waiting: Waiting | None) -> bool:
    """A meta writer whose own numbers have no hole is not worth a row: it only tells of others."""
    last = max(stored.last if stored else 0, waiting.last if waiting else 0)
    return (
        name.endswith("/meta")
        and (stored is None or stored.count == stored.distinct == last)
        and (stored is not None or waiting is None)
    )


def _prove(
    name: str,
    writer: _Writer,
    stored: StoredRows | None,
    quarantined: int,
    waiting: Waiting | None,
    *,
    listed_all: bool,
) -> WriterProof:
    count = stored.count if stored else 0
    distinct = stored.distinct if stored else 0
    expected = writer.expected
    if writer.state == "open" or name.endswith("/meta"):
        expected = max(
            stored.last if stored else 0, waiting.last if waiting else 0, writer.expected
        )
    found = distinct + quarantined
    # An object in the bucket may be loaded already and only not yet moved: what is stored counts.
    unseen = max(0, expected - found)
    pending = min(waiting.records if waiting else 0, unseen) if listed_all else unseen
    return WriterProof(
        writer=name,
        signal=writer.signal,
        project_id=writer.project,
        deployment=writer.deployment,
        pod=writer.pod,
        container=writer.container,
        state=writer.state if not name.endswith("/meta") else "ended",
        expected=expected,
        stored=count,
        quarantined=quarantined,
        pending=pending,
        missing=unseen - pending,
        doubled=count - distinct,
        lost_lines=sum(g.lines or 0 for g in writer.gaps),
        lost_bytes=sum(g.bytes or 0 for g in writer.gaps),
        gaps=len(writer.gaps),
        begun_at=writer.begun_at,
        ended_at=writer.ended_at,
        cause=writer.begin_cause,
        message=writer.begin_message,
        waiting_since=rfc3339(waiting.oldest_ns) if waiting and waiting.oldest_ns else "",
    )


def _gap_item(event: LifeEvent) -> GapItem:
    return GapItem(
        writer=event.subject,
        project_id=event.project,
        signal=event.signal,
        cause=event.cause,
        message=event.message,
        after_seq=event.after_seq,
        lines=event.lines,
        bytes=event.bytes,
        from_time=event.from_time,
        to_time=event.to_time,
        timestamp=event.timestamp,
    )
