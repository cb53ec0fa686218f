"""What was written, and so what must be found at the end: the other side of the checker.

A track is one writer as the world sees it, without the epochs that collectors give it. Every
record carries a text that occurs once in the history.
"""

from dataclasses import dataclass, field

from spanyard_core.records import Signal
from tests.sim.inodes import Inode

HALF = "never finished, or nonsense: belongs into quarantine"


@dataclass(slots=True, eq=False)
class Written:
    """One record that an application produced."""

    text: str
    size: int
    """Bytes in the file; of OTLP 0."""
    ns: int
    """Wall time at which it was written."""
    ends: tuple[tuple[Inode, int], ...] = ()
    """Its pieces: the file of each, and the offset behind it there."""
    owed: bool = True
    """Must be stored or told as lost. False: may be (a power cut took the bytes from the file, a
    request was never acknowledged)."""
    raw: tuple[str, ...] = ()
    """Its text as written, and the lines of the file that carry it: what a cut or a lost file may
    leave a part of."""
    twice: bool = False
    """May be stored more than once (a request repeated over the loss of the spool)."""
    note: str = ""


@dataclass(slots=True, eq=False)
class Track:
    """Records of one source in the order in which they must be numbered."""

    writer: str
    """`{pod uid}/{container}/{restart}` and the like, without `@epoch`."""
    signal: Signal
    records: list[Written] = field(default_factory=list)
    ordered: bool = True
    fragments: list[str] = field(default_factory=list)
    """Texts of lines that never got their end: a collector may give any beginning of one up as
    a record, or the whole."""

    def add(self, text: str, size: int, ns: int, *ends: tuple[Inode, int]) -> Written:
        record = Written(text, size, ns, ends)
        self.records.append(record)
        return record


class Oracle:
    """All tracks of a history."""

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
        self._texts = 0

    def track(self, writer: str, signal: Signal, *, ordered: bool = True) -> Track:
        track = self.tracks.get(writer)
        if track is None:
            track = self.tracks[writer] = Track(writer, signal, ordered=ordered)
        return track

    def text(self, what: str) -> str:
        """A text that nobody else writes; no text is the beginning of another."""
        self._texts += 1
        return f"<{what}-{self._texts:06d}>"

    def power_lost(self, left: list[Inode]) -> None:
        """These files came back, with the sizes that they have; others are gone."""
        sizes = {inode: len(inode.data) for inode in left}
        for track in self.tracks.values():
            for record in track.records:
                if any(end > sizes.get(inode, 0) for inode, end in record.ends):
                    record.owed = False
                    record.note = "taken by a power cut"

    def spool_lost(self) -> None:
        """What was acknowledged over OTLP and not uploaded is gone, and its digests with it."""
        for track in self.tracks.values():
            for record in track.records if not track.ordered else ():
                record.owed, record.twice = False, True
                record.note = "the spool was lost"

    @property
    def count(self) -> int:
        return sum(len(track.records) for track in self.tracks.values())
