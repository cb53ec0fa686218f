"""A picture on a terminal that changes in place: what was painted last is painted over."""

import io
import shutil
from collections.abc import Callable

from spanyard_local.terminal import Terminal

_SPARE = 2
"""Lines of the screen left for what is said beside the picture, and the cursor."""


class Painting:
    """On a terminal whose lines may be written over. The cursor stands below the picture."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._height = 0

    def paint(self, draw: Callable[[Terminal], None], *, whole: bool = False) -> None:
        """Show what `draw` prints; of a picture that is higher than the screen its head and its
        end, unless it is the last (`whole`), which may scroll."""
        sheet = io.StringIO()
        draw(Terminal(sheet, self._terminal.colours, self._terminal.live))
        lines = sheet.getvalue().splitlines()
        room = max(4, shutil.get_terminal_size().lines - _SPARE)
        if len(lines) > room and not whole:
            left = len(lines) - room + 1
            lines = [*lines[:2], f"… {left:,} lines more …", *lines[2 + left :]]
        self._terminal.out.write(self._over() + "".join(f"{line}\n" for line in lines))
        self._terminal.out.flush()
        self._height = 0 if whole else len(lines)

    def clear(self) -> None:
        """Take it away, so that something else may be printed where it stood."""
        self._terminal.out.write(self._over())
        self._terminal.out.flush()
        self._height = 0

    def _over(self) -> str:
        return f"\033[{self._height}F\033[J" if self._height else ""
