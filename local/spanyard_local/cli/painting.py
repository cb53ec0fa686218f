"""A picture on a terminal that changes in place: what was painted last is painted over."""

import io
import os
import re
import shutil
from collections.abc import Callable

from spanyard_local.terminal import Terminal, count, width

_SPARE = 2
"""Lines of the screen left for what is said beside the picture, and the cursor."""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Painting:
    """On a terminal whose lines may be written over. The cursor stands below the picture."""

    def __init__(self, terminal: Terminal, *, head: int = 2, tail: bool = True) -> None:
        """Of a picture that is higher than the screen `head` lines are shown at least, and with
        `tail` its end, else what comes first."""
        self._terminal = terminal
        self._head = head
        self._tail = tail
        self._height = 0
        self._size: os.terminal_size | None = None
        self._left = False
        """Whether others have written below it since."""

    def paint(self, draw: Callable[[Terminal], None], *, whole: bool = False) -> None:
        """Show what `draw` prints, cut to the screen unless it is the last (`whole`), which may
        scroll."""
        over, size = self._over(), shutil.get_terminal_size()
        sheet = io.StringIO()
        draw(Terminal(sheet, self._terminal.colours, self._terminal.live))
        lines = sheet.getvalue().splitlines()
        if not whole:
            lines = self._cut(lines, max(self._head + 2, size.lines - _SPARE))
        self._terminal.out.write(over + "".join(f"{line}\n" for line in lines))
        self._terminal.out.flush()
        # A line that is too wide for the terminal takes more than one of its.
        rows = (-(-width(_STYLE.sub("", line)) // size.columns) for line in lines)
        self._height = 0 if whole else sum(max(1, taken) for taken in rows)
        self._size = size

    def _cut(self, lines: list[str], room: int) -> list[str]:
        if len(lines) <= room:
            return lines
        left = len(lines) - room + 1
        more = f"… {count(left, 'line')} more …"
        if self._tail:
            return [*lines[: self._head], more, *lines[self._head + left :]]
        return [*lines[: room - 1], more]

    def clear(self) -> None:
        """Take it away, so that something else may be printed where it stood."""
        self._terminal.out.write(self._over())
        self._terminal.out.flush()
        self._height = 0

    def afresh(self) -> None:
        """Others have written below it: the next picture begins there. Also from a signal handler."""
        self._left = True

    @property
    def fits(self) -> bool:
        """Whether it stands there, on a terminal as large as when it was painted."""
        return not self._left and shutil.get_terminal_size() == self._size

    def _over(self) -> str:
        left, self._left = self._left, False
        if left or not self._height:
            return ""
        if not self.fits:
            # Terminals differ in what they make of lines that no longer fit: nobody knows where
            # the picture begins.
            return "\033[H\033[J"
        return f"\033[{self._height}F\033[J"
