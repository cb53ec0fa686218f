"""What was written, and so what must be found at the end: the other side of the checker.

A track is one writer as the world sees it, without the epochs that collectors give it. Every
record carries a text that occurs once in the history.
"""

from dataclasses import dataclass, field

from spanyard_core.records import Signal


@dataclass(slots=True, eq=False)
class Written:
    """One record that an application produced."""

    text: str
    size: int
    """Bytes in the file; of OTLP 0."""
    ns: int
    """Wall time at which it was written."""
    inode: int = 0
    end: int = 0
    """Offset behind its last byte in that file."""
    owed: bool = True
    """Must be stored or told as lost. False: may be (a power cut took the bytes from the file, a
    request was never acknowledged)."""
    raw: tuple[str, ...] = ()
    """Its text as written, and the last line of the file that carries some of it: what a cut may
    leave the beginning of."""
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

    def add(self, text: str, size: int, ns: int, *, inode: int = 0, end: int = 0) -> Written:
        record = Written(text, size, ns, inode, end)
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

    def power_lost(self, sizes: dict[int, int]) -> None:
        """Files came back with these sizes (inode → bytes; absent: gone)."""
        for track in self.tracks.values():
            for record in track.records:
                if record.inode and record.end > sizes.get(record.inode, 0):
                    record.owed = False
                    record.note = "taken by a power cut"
                    track.fragments += record.raw

    @property
    def count(self) -> int:
        return sum(len(track.records) for track in self.tracks.values())
