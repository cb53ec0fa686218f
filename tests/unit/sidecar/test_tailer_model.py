"""The tailer against a model, under a kubelet and a collector that do anything at any time.

Real files. Every piece that the runtime wrote must come out exactly once, in the order of its file
and stream, or lie where a gap was told. `SPANYARD_TAILER_EXAMPLES` sets how many histories are
tried; SPANYARD_TAILER_STEPS how long each is.
"""

import os
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spanyard_core.files import SystemFiles
from spanyard_sidecar.holding import HoldSettings
from spanyard_sidecar.model import Block, Gap, Identity, State
from spanyard_sidecar.tailer import CriSource, TailSettings
from tests.fakes.handclock import HandClock
from tests.fakes.kubelet import ContainerLog

_TOKEN = re.compile(r"<(\d+)>")
_IDENTITY = Identity("team.app", pod="app-0", pod_uid="uid")
_OLD_FILE, _PARTIAL = 60.0, 30.0


@dataclass(slots=True, eq=False)
class Piece:
    """One CRI line that was written."""

    number: int
    inode: int
    file: int
    """Counts files in the order in which the runtime opened them."""
    stream: str
    full: bool
    owed: bool = True
    """False: its bytes were cut short in the writing, so a part of it may be all there is."""
    late: bool = False
    """Written to a file that had a successor already."""


@dataclass(slots=True)
class Delivered:
    """One record as the pipeline got it."""

    seq: int
    pieces: list[int]
    stream: str
    marks: list[str]


class TailerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="spanyard-tailer-"))
        self.log = ContainerLog(self.root / "server")
        self.clock = HandClock()
        self.written: list[Piece] = []
        self.torn: tuple[Piece, bytes] | None = None
        self.file = 0
        self.renamed: Path | None = None
        """Renamed, and the runtime not told yet."""
        self.names: dict[Path, int] = {}
        """Rotated file → which one it is."""
        self.destructive = False
        """Something happened after which a gap may be told."""
        self.delivered: list[Delivered] = []
        self.shown: dict[int, Delivered] = {}
        self.late_until = 0.0
        """The file before may still grow until then."""
        self.gaps: list[tuple[int, Gap]] = []
        """With the last seq before each."""
        self.durable: tuple[int, int, State | None] = (0, 0, None)
        """How many records and gaps are durable, and the state with them."""
        self.source = self._opened(None)

    def teardown(self) -> None:
        try:
            self._quiesce()
            self._check()
        finally:
            self.source.close()
            self.log.close()
            shutil.rmtree(self.root)

    # -- the collector -------------------------------------------------------------------------

    def _opened(self, state: State | None) -> CriSource:
        return CriSource(
            SystemFiles(),
            self.clock,
            _IDENTITY,
            folder=str(self.root / "server"),
            container="server",
            restart=0,
            epoch="e",
            state=state,
            settings=TailSettings(
                old_file=_OLD_FILE, partial=_PARTIAL, hold=HoldSettings(pinned=10_000_000)
            ),
        )

    def _take(self, block: Block) -> None:
        last = self.delivered[-1].seq if self.delivered else 0
        assert not (block.gaps and block.records), "a gap and records in one block have no order"
        for gap in block.gaps:
            self.gaps.append((last, gap))
        assert bool(block.lines) == (block.records > 0)
        lines = [msgspec.json.decode(line) for line in block.lines.splitlines()]
        assert len(lines) == block.records
        for seq, line in enumerate(lines, block.first):
            assert line["seq"] == seq == last + 1
            last = seq
            pieces = [int(n) for n in _TOKEN.findall(line["message"])]
            record = Delivered(seq, pieces, line.get("stream", ""), line.get("marks", []))
            self.delivered.append(record)
            if not self.destructive:
                # Shown live before it is durable: after a kill the number must mean the same.
                # (Of bytes that somebody took away meanwhile, nothing can mean anything.)
                assert self.shown.setdefault(seq, record) == record
        if block.cut or block.gaps:
            self._commit()

    def _commit(self) -> None:
        # Through JSON, as in the spool.
        state = msgspec.json.decode(msgspec.json.encode(self.source.state()))
        self.durable = (len(self.delivered), len(self.gaps), state)

    @rule(times=st.integers(1, 4), budget=st.sampled_from([1, 5000, 1 << 20]))
    def read(self, times: int, budget: int) -> None:
        for _ in range(times):
            block = self.source.read(budget)
            if block is not None:
                self._take(block)

    @rule()
    def commit(self) -> None:
        self._commit()

    @rule()
    def look(self) -> None:
        """What a scan does while the spool is full."""
        self.source.look()

    @rule()
    def kill(self) -> None:
        records, gaps, state = self.durable
        del self.delivered[records:]
        del self.gaps[gaps:]
        self.source.close()
        self.source = self._opened(state)

    @rule()
    def restart(self) -> None:
        self._commit()
        self.kill()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def much_time_passes(self) -> None:
        self._abandon()
        self.clock.advance(_OLD_FILE + 1)

    # -- the runtime ---------------------------------------------------------------------------

    def _piece(self, stream: str, *, full: bool, size: int = 0) -> tuple[Piece, bytes]:
        number = len(self.written) + 1
        piece = Piece(number, self.log.inode, self.file, stream, full)
        self.written.append(piece)
        tag = "F" if full else "P"
        text = f"{self.log.clock.next()} {stream} {tag} <{number}>{'x' * size}\n"
        return piece, text.encode()

    @precondition(lambda self: self.torn is None)
    @rule(
        count=st.integers(1, 5),
        stream=st.sampled_from(["stdout", "stderr"]),
        size=st.sampled_from([0, 30, 300, 3000]),
    )
    def write_lines(self, count: int, stream: str, size: int) -> None:
        for _ in range(count):
            self.log.raw(self._piece(stream, full=True, size=size)[1])

    @precondition(lambda self: self.torn is None)
    @rule(stream=st.sampled_from(["stdout", "stderr"]), full=st.booleans())
    def write_piece(self, stream: str, full: bool) -> None:
        self.log.raw(self._piece(stream, full=full)[1])

    @precondition(lambda self: self.torn is None)
    @rule(share=st.floats(0.01, 0.99))
    def write_half(self, share: float) -> None:
        piece, text = self._piece("stdout", full=True)
        cut = max(1, int(len(text) * share))
        self.log.raw(text[:cut])
        self.torn = (piece, text[cut:])

    @precondition(lambda self: self.torn is not None)
    @rule()
    def write_other_half(self) -> None:
        assert self.torn is not None
        self.log.raw(self.torn[1])
        self.torn = None

    def _abandon(self) -> None:
        if self.torn is not None:
            self.torn[0].owed = False
            # What comes behind it in this file would be read as one line with it.
            self.log.raw(b"\n")
            self.torn = None

    # -- the kubelet ---------------------------------------------------------------------------

    @precondition(lambda self: self.renamed is None)
    @rule()
    def rename(self) -> None:
        self.renamed = self.log.rename()
        self.names[self.renamed] = self.file

    @precondition(lambda self: self.renamed is not None)
    @rule()
    def reopen(self) -> None:
        self._abandon()
        self.log.reopen()
        self.file += 1
        self.renamed = None
        self.late_until = self.clock.now + _OLD_FILE - 1

    @precondition(lambda self: self.renamed is not None)
    @rule()
    def undo_rename(self) -> None:
        assert self.renamed is not None
        self.log.undo(self.renamed)
        self.renamed = None

    @precondition(lambda self: self.renamed is None)
    @rule()
    def rotate(self) -> None:
        self.rename()
        self.reopen()

    def _may_grow(self) -> Path | None:
        """The file before, while a runtime that is slow to reopen may still write to it."""
        path = next((p for p, file in self.names.items() if file == self.file - 1), None)
        allowed = self.clock.now < self.late_until and self.renamed is None
        return path if allowed and path is not None and path.exists() else None

    @precondition(lambda self: self._may_grow() is not None)
    @rule(full=st.booleans(), stream=st.sampled_from(["stdout", "stderr"]))
    def late_line(self, full: bool, stream: str) -> None:
        path = self._may_grow()
        assert path is not None
        if path.with_name(path.name + ".gz").exists():
            return  # it was compressed: the kubelet knows that the runtime is done with it
        piece, text = self._piece(stream, full=full)
        piece.inode, piece.file, piece.late = path.stat().st_ino, self.file - 1, True
        with path.open("ab") as out:
            out.write(text)

    @precondition(lambda self: self.renamed is None)
    @rule(times=st.integers(2, 5), keep=st.integers(1, 3))
    def rotate_often(self, times: int, keep: int) -> None:
        """More than anybody looks at: the oldest go, seen or not."""
        self._abandon()
        for _ in range(times):
            self.write_lines(1, "stdout", 0)
            self.rotate()
        while len(self._files_left()) > keep:
            self.delete_oldest()

    def _files_left(self) -> set[str]:
        return {path.name.removesuffix(".gz") for path in self._old()}

    def _old(self) -> list[Path]:
        return [p for p in self.log.rotated() if p != self.renamed]

    @precondition(lambda self: self._old())
    @rule(keep=st.booleans(), which=st.integers(0, 3))
    def compress(self, keep: bool, which: int) -> None:
        plain = [p for p in self._old() if p.suffix != ".gz"]
        if plain:
            self.log.compress(plain[which % len(plain)], keep=keep)

    @precondition(lambda self: self._old())
    @rule()
    def remove_originals(self) -> None:
        for path in self._old():
            if path.with_name(path.name + ".gz").exists():
                path.unlink()

    @precondition(lambda self: self._old())
    @rule()
    def delete_oldest(self) -> None:
        oldest = self._old()[0]
        oldest = oldest.with_name(oldest.name.removesuffix(".gz"))
        state = self.durable[2]
        if state is None or not state["files"]:
            # Nobody who is sure to live on knows that there ever was anything.
            for piece in self.written:
                piece.owed = piece.owed and piece.file != self.names[oldest]
        self.log.delete(oldest)
        self.destructive = True

    @precondition(lambda self: self.renamed is None)
    @rule()
    def truncate(self) -> None:
        self._abandon()
        state = self.durable[2] or {"files": []}
        if not any(file["inode"] == self.log.inode for file in state["files"]):
            # Nobody who is sure to live on knows that there was anything.
            for piece in self.written:
                piece.owed = piece.owed and piece.file != self.file
        self.log.truncate()
        self.destructive = True

    # -- what must hold ------------------------------------------------------------------------

    def _quiesce(self) -> None:
        self._abandon()
        if self.renamed is not None:
            self.reopen()
        # A last line, so that the newest file has content and older ones are given up in the end.
        self.log.raw(self._piece("stdout", full=True)[1])
        for _ in range(6):
            for _ in range(2000):
                block = self.source.read(1 << 20)
                if block is None:
                    break
                self._take(block)
            else:
                raise AssertionError("reading never came to its end")
            self.clock.advance(_OLD_FILE + 1)

    @invariant()
    def numbers_have_no_holes(self) -> None:
        assert [d.seq for d in self.delivered] == list(range(1, len(self.delivered) + 1))

    def _check(self) -> None:
        counts = Counter(n for d in self.delivered for n in d.pieces)
        twice = [n for n, count in counts.items() if count > 1]
        assert not twice, f"pieces {twice} came twice"
        known = {piece.number: piece for piece in self.written}
        assert set(counts) <= set(known)
        place = {n: d.seq for d in self.delivered for n in d.pieces}
        self._check_order(known)
        missing = [p for p in self.written if p.owed and p.number not in counts]
        for piece in missing:
            assert self._is_told(piece, place), (
                f"{piece} is lost and not told; gaps: {self.gaps}, delivered: {self.delivered}"
            )
        if not self.destructive:
            assert not self.gaps, f"nothing was lost, but told: {self.gaps}"

    def _check_order(self, known: dict[int, Piece]) -> None:
        last: dict[tuple[int, str], int] = {}
        for record in self.delivered:
            for n in record.pieces:
                piece = known[n]
                assert record.stream in (piece.stream, ""), f"{piece} came as {record}"
                key = (piece.file, piece.stream)
                assert last.get(key, 0) < n, f"{piece} came after {last[key]}"
                last[key] = n
            whole = [known[n] for n in record.pieces]
            if whole and not record.marks and not any(p.late for p in whole):
                cut_short = any(not p.owed for p in self.written[whole[-1].number :])
                assert whole[-1].full or cut_short, f"{record} ends with a piece"
                assert not any(p.full for p in whole[:-1]), f"{record} joins two lines"

    def _is_told(self, piece: Piece, place: dict[int, int]) -> bool:
        """Whether a gap stands between a lost piece's neighbours: in its file, then in later ones."""
        here = (piece.file, piece.number)
        low, high = 0, len(self.delivered) + 1
        for other in self.written:
            seq = place.get(other.number)
            there = (other.file, other.number)
            if seq is None or there == here:
                continue
            if there < here and other.file == piece.file:
                low = max(low, seq)
            elif there > here and not (other.late or piece.late):
                high = min(high, seq)
        return any(low <= after < high for after, _ in self.gaps)


TailerMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SPANYARD_TAILER_EXAMPLES", "80")),
    stateful_step_count=int(os.environ.get("SPANYARD_TAILER_STEPS", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTailerAgainstModel = pytest.mark.slow(TailerMachine.TestCase)
