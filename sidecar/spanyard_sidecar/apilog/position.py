"""Where a reader of `pods/log` stands, and what of an answer that begins anew is already read.

The API knows no offsets: one asks for the lines since a time, in whole seconds, and gets those of
the file that is written now, in its order. So a position is the second that the newest line began,
and how many lines of it were read; an answer whose first line is the one that was first then is the
same file, and so many of its lines are known. If it is not, the kubelet has begun another file, and
only times are left: lines up to the last one's time are known, and if that one does not come, what
lay between is lost.

A line is `2026-11-21T14:45:00.123456789Z text`, nine digits, in the zone of the node.
"""

from collections.abc import Iterable, Iterator

import msgspec

from spanyard_sidecar.cri_time import normal_time

SECOND = len("2026-11-21T14:45:00")
_UNDECIDED, _BY_TIME = -1, -2


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """After the last line that was read, or begun to be, if it is too long for a record; all empty
    before the first."""

    first: str = ""
    """Time, in UTC, of the first line of the newest second."""
    lines: int = 0
    """Lines since then, that one among them."""
    last: str = ""
    """Time of the last line."""
    same: int = 0
    """Lines in a row that have that time, up to the last."""

    @property
    def since(self) -> str:
        """For the query: the whole second."""
        return f"{self.first[:SECOND]}Z" if self.first else ""


def line_time(line: bytes) -> str:
    """The time of a line in UTC; "" when it does not begin with one: the kubelet's own words."""
    text = line[:36].partition(b" ")[0]
    try:
        return normal_time(text.decode("ascii"))
    except UnicodeDecodeError:
        return ""


def times_of(lines: Iterable[bytes]) -> Iterator[str]:
    """The times of lines that have one."""
    known, time = b"", ""
    for line in lines:
        stamp = line.partition(b" ")[0]
        if stamp != known:
            known, time = stamp, line_time(line)
        yield time


def after(position: Position, times: Iterable[str]) -> Position:
    """The position behind more whole lines with these times."""
    first, count, last, same = position.first, position.lines, position.last, position.same
    second = first[:SECOND]
    for time in times:
        if time[:SECOND] > second:
            first, count, second = time, 1, time[:SECOND]
        elif time[:SECOND] == second:
            count += 1  # of an earlier one, late: nobody would send it again
        same = same + 1 if time == last else 1
        last = time
    return Position(first, count, last, same)


class Skipper:
    """Passes what is new of one answer. Feed it line by line; pure."""

    def __init__(self, position: Position, *, floor: str = "") -> None:
        """`floor`: without a position, lines up to this time were read as another run's."""
        self._position = position
        self._floor = floor
        self._left = _UNDECIDED
        self._seen_last = 0
        self.connected = not position.first
        """The answer goes on where we were: nothing lies between."""
        self.passing = False
        """Everything from here on is new."""

    def is_new(self, time: str) -> bool:
        """Whether the next line is, by its time."""
        if self.passing:
            return True
        position = self._position
        if not position.first:
            if time <= self._floor:
                return False
        elif self._left == _UNDECIDED and time == position.first:
            self._left = position.lines - 1
            return self._counted(time)
        elif self._left > 0:
            self._left -= 1
            return self._counted(time)
        elif self._left < 0:
            self._left = _BY_TIME
            if time < position.last:
                return False
            if time == position.last and self._seen_last < position.same:
                self._seen_last += 1
                self.connected = True
                return False
        self.passing = True
        return True

    def _counted(self, time: str) -> bool:
        if not self._left:
            self.connected = time == self._position.last
        return False
