"""The checker: everything written is stored exactly once, in order, or told as lost.

Looks at the tables as they are, past every interface, and compares with what the oracle knows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.sim.oracle import HALF, Oracle, Track, Written
from tests.sim.tables import Row, Tables

_TEXT = {"logs": "message", "spans": "name", "metrics": "name", "scores": "name"}


@dataclass(slots=True)
class Findings:
    """What was found wrong, and some numbers for whoever wants to know what a seed covers."""

    wrong: list[str] = field(default_factory=list)
    stored: int = 0
    told: int = 0
    """Records that lie in a reported gap."""

    def add(self, text: str) -> None:
        self.wrong.append(text)

    def raise_if_any(self) -> None:
        if self.wrong:
            more = f"\n… and {len(self.wrong) - 12} more" if len(self.wrong) > 12 else ""
            raise AssertionError("\n".join(self.wrong[:12]) + more)


class Checker:
    """One look at the tables."""

    def __init__(self, oracle: Oracle, tables: Tables, epoch: str = "") -> None:
        """`epoch` is that of the collector that came to its end in good order."""
        self._oracle, self._tables, self._epoch = oracle, tables, epoch
        self.found = Findings()
        self._gaps: dict[str, list[Row]] = defaultdict(list)
        """Subject → its gap lines."""
        self._meta: dict[str, list[Row]] = defaultdict(list)
        """Subject → its begin and end lines, in order."""

    def check(self) -> Findings:
        """Everything that must hold after the quiet."""
        writers = self._by_writer()
        for row in sorted(self._tables.rows("gaps"), key=lambda r: (r["writer"], r["seq"])):
            (self._gaps if row["event"] == "gap" else self._meta)[row["subject"]].append(row)
        self._check_numbers(writers)
        self._check_ends(writers)
        by_track: dict[str, dict[str, list[Row]]] = defaultdict(dict)
        for (signal, writer), rows in writers.items():
            if signal != "gaps":
                by_track[writer.partition("@")[0]][writer] = rows
        for name in sorted(by_track):
            if name not in self._oracle.tracks:
                self.found.add(f"records of {name}, which nobody wrote")
        for name, track in sorted(self._oracle.tracks.items()):
            self._check_track(track, by_track.get(name, {}))
        self._check_attempts()
        self._check_traces()
        return self.found

    # -- ids -----------------------------------------------------------------------------------

    def _by_writer(self) -> dict[tuple[str, str], list[Row]]:
        writers: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for signal in ("traces", "spans", "logs", "metrics", "scores", "gaps"):
            for row in self._tables.rows(signal):
                writers[signal, str(row["writer"])].append(row)
                self.found.stored += 1
        for rows in writers.values():
            rows.sort(key=lambda r: int(r["seq"]))
        return dict(sorted(writers.items()))

    def _check_numbers(self, writers: dict[tuple[str, str], list[Row]]) -> None:
        for (signal, writer), rows in writers.items():
            seqs = Counter(int(row["seq"]) for row in rows)
            for seq, count in seqs.items():
                if count > 1:
                    self.found.add(f"{writer}#{seq} is stored {count} times in {signal}")
            told = self._told_numbers(writer)
            missing = [n for n in range(1, max(seqs) + 1) if n not in seqs and n not in told]
            if missing:
                self.found.add(f"{writer}: numbers {_short(missing)} are missing, untold")
            if not writer.endswith("/meta") and writer not in self._meta:
                self.found.add(f"{writer} has records and no begin line")

    def _check_ends(self, writers: dict[tuple[str, str], list[Row]]) -> None:
        """Who was read to the end says so, and with which number: else it would count as open."""
        for (signal, writer), rows in writers.items():
            if signal == "gaps" or not self._epoch or not writer.endswith(f"@{self._epoch}"):
                continue
            last = self._meta[writer][-1] if self._meta.get(writer) else None
            bad = [int(r["seq"]) for r in self._tables.bad if r.get("writer") == writer]
            most = max([int(rows[-1]["seq"]), *bad])
            if last is None or last["event"] != "end" or last.get("afterSeq", 0) != most:
                self.found.add(f"{writer} has records up to #{most}, and its last word is {last}")

    def _told_numbers(self, writer: str) -> set[int]:
        told = {int(row["seq"]) for row in self._tables.bad if row.get("writer") == writer}
        for gap in self._gaps.get(writer, ()):
            if gap.get("cause") in {"spool-damaged", "damaged", "spool-lost"}:
                after = int(gap.get("afterSeq", 0))
                told.update(range(after + 1, after + 1 + int(gap.get("lines") or 0)))
        return told

    # -- tracks --------------------------------------------------------------------------------

    def _check_track(self, track: Track, epochs: dict[str, list[Row]]) -> None:
        field_name = _TEXT[track.signal]
        places: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for writer, rows in epochs.items():
            for row in rows:
                places[str(row[field_name])].append((writer, int(row["seq"])))
        known = {record.text for record in track.records}
        torn = [raw for r in track.records if not r.owed or r.text not in places for raw in r.raw]
        torn += track.fragments
        for text in places:
            # Parts of a record show, without the whole, where its beginning or its end is lost.
            if text not in known and not any(text in raw for raw in torn):
                self.found.add(f"{track.writer}: {text[:60]!r} is stored and was never written")
        unverified = {
            subject
            for subject, lines in self._meta.items()
            if any(line.get("cause") == "unverified" for line in lines)
        }
        for record in track.records:
            at = places.get(record.text, [])
            again = sum(writer not in unverified for writer, _ in at)
            if again > 1 and not record.twice:
                where = ", ".join(f"{w}#{n}" for w, n in at)
                self.found.add(f"{track.writer}: {record.text[:40]!r} is stored as {where}")
        self._check_halves(track, places)
        if track.ordered:
            self._check_order(track, places)
        self._check_losses(track, places, epochs)

    def _check_halves(self, track: Track, places: dict[str, list[tuple[str, int]]]) -> None:
        """A line whose writer died within it lies in quarantine, as far as it was written."""
        bad = [
            str(row["unreadable"])
            for row in self._tables.bad
            if str(row.get("writer")).partition("@")[0] == track.writer and "unreadable" in row
        ]
        for record in track.records:
            half = record.note == HALF and record.text not in places
            if half and not any(record.raw[0].startswith(text) for text in bad):
                self.found.add(f"{track.writer}: the half line {record.text} has vanished")

    def _check_order(self, track: Track, places: dict[str, list[tuple[str, int]]]) -> None:
        last: dict[str, tuple[int, str]] = {}
        epoch = ""
        left: set[str] = set()
        for record in track.records:
            for writer, seq in places.get(record.text, ())[:1]:
                if writer != epoch:
                    if writer in left and not record.twice and len(places[record.text]) == 1:
                        self.found.add(f"{track.writer}: {writer} goes on after another epoch")
                    left.add(epoch)
                    epoch = writer
                before = last.get(writer, (0, ""))
                if seq <= before[0]:
                    self.found.add(
                        f"{writer}: {record.text[:40]!r} has #{seq}, after "
                        f"{before[1][:40]!r} with #{before[0]}"
                    )
                last[writer] = (seq, record.text)

    def _check_losses(
        self,
        track: Track,
        places: dict[str, list[tuple[str, int]]],
        epochs: dict[str, list[Row]],
    ) -> None:
        gaps = [
            gap
            for subject, lines in self._gaps.items()
            if subject.partition("@")[0] == track.writer
            for gap in lines
            if not (gap.get("cause") == "spool-full" and not gap.get("lines"))
        ]
        known = {record.text for record in track.records}
        odd = [text for text in places if text not in known]
        for before, lost, after in _runs(track.records, places):
            owed = [r for r in lost if r.owed and not (gaps and _is_partly_stored(r, odd))]
            if not owed:
                continue
            covering = [gap for gap in gaps if _lies_between(gap, before, after)]
            if not covering:
                first, last = owed[0], owed[-1]
                self.found.add(
                    f"{track.writer}: {len(owed)} records are lost, untold: {first.text[:40]!r} "
                    f"to {last.text[:40]!r}, between {before} and {after}; its gaps: "
                    f"{[_gap_text(g) for g in gaps]}"
                )
                continue
            lines = [gap.get("lines") for gap in covering]
            if None not in lines and sum(lines) < len(owed):  # type: ignore[arg-type]  # no None
                self.found.add(
                    f"{track.writer}: {len(owed)} records are lost after {before}, and the gaps "
                    f"there tell of {sum(lines)} lines"  # type: ignore[arg-type]  # no None
                )
            sizes = [gap.get("bytes") for gap in covering]
            lost_bytes = sum(record.size for record in owed)
            if None not in sizes and sum(sizes) < lost_bytes:  # type: ignore[arg-type]  # no None
                self.found.add(
                    f"{track.writer}: {lost_bytes} bytes are lost after {before}, and the gaps "
                    f"there tell of {sum(sizes)}"  # type: ignore[arg-type]  # no None
                )
            self.found.told += len(owed)

    # -- the database --------------------------------------------------------------------------

    def _check_attempts(self) -> None:
        for table, parts in self._tables.parts.items():
            attempts = Counter(part.attempt for part in parts)
            for attempt, count in attempts.items():
                if count > 1:
                    self.found.add(f"attempt {attempt} has {count} parts in {table}")
        if self._tables.inserts:
            self.found.add(f"inserts still run: {self._tables.inserts}")

    def _check_traces(self) -> None:
        wanted: dict[tuple[str, str], tuple[str, str]] = {}
        for row in self._tables.rows("spans"):
            key = (str(row["project"]), str(row["traceId"]))
            start, end = str(row["startTime"]), str(row.get("endTime") or "")
            there = wanted.get(key, (start, end))
            wanted[key] = (min(start, there[0]), max(end, there[1]))
        for key, times in wanted.items():
            stored = self._tables.traces.get(key)
            if stored is None or stored[0] > times[0] or stored[1] < times[1]:
                self.found.add(f"trace_index of {key} says {stored} and should say {times}")


def _runs(
    records: Iterable[Written], places: dict[str, list[tuple[str, int]]]
) -> Iterator[tuple[tuple[str, int] | None, list[Written], tuple[str, int] | None]]:
    """Runs of records that are not stored, with the places before and after."""
    before: tuple[str, int] | None = None
    lost: list[Written] = []
    for record in records:
        at = places.get(record.text)
        if not at:
            lost.append(record)
            continue
        if lost:
            yield before, lost, at[0]
            lost = []
        before = at[-1]
    if lost:
        yield before, lost, None


def _lies_between(gap: Row, before: tuple[str, int] | None, after: tuple[str, int] | None) -> bool:
    subject, seq = str(gap["subject"]), int(gap.get("afterSeq", 0))
    if before is not None and subject == before[0] and seq < before[1]:
        return False
    if after is not None and subject == after[0] and seq >= after[1]:
        return False
    named = {place[0] for place in (before, after) if place is not None}
    return not named or subject in named


def _is_partly_stored(record: Written, odd: list[str]) -> bool:
    """Its first pieces lie in a gap, and the last ones stand behind it as a record of their own."""
    return len(record.ends) > 1 and any(text and text in raw for text in odd for raw in record.raw)


def _gap_text(gap: Row) -> str:
    return (
        f"{gap.get('cause')} of {gap['subject']} after {gap.get('afterSeq', 0)}: "
        f"{gap.get('lines')} lines, {gap.get('bytes')} bytes"
    )


def _short(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:10]))
    return f"{text}, … ({len(numbers)})" if len(numbers) > 10 else text
