"""Tables that fit: columns aligned, some left out and others cut where a terminal is too narrow."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spanyard_local.terminal import Terminal, printable, width

_LEAST = 8
"""No flexible column is cut below this, as long as that is enough."""
_VERY_LEAST = 3
_GAP = 2


class Cell(NamedTuple):
    """A text and how it looks on a terminal."""

    text: str
    styles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """`flexible` columns give way where the terminal is too narrow, the widest first."""

    title: str
    right: bool = False
    flexible: bool = False
    spare: int = 0
    """Rather than cut others short this one is left out; the highest first. 0: never."""


Row = Sequence[Cell | str]


def print_table(
    terminal: Terminal, columns: Sequence[Column], rows: Iterable[Row], *, keep_empty: bool = False
) -> None:
    """A header and the rows; columns that are empty throughout are left out, unless they are kept."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    shown = [
        i for i in range(len(columns)) if i == 0 or keep_empty or any(r[i].text for r in cells)
    ]
    columns = [columns[i] for i in shown]
    cells = [[row[i] for i in shown] for row in cells]
    widths = [
        max([width(column.title), *(width(row[i].text) for row in cells)])
        for i, column in enumerate(columns)
    ]
    if terminal.live:
        room = shutil.get_terminal_size().columns
        kept = _kept(columns, widths, room)
        columns, widths = [columns[i] for i in kept], [widths[i] for i in kept]
        cells = [[row[i] for i in kept] for row in cells]
        _fit(columns, widths, room)
    head = [
        _padded(cut(c.title, w), w, right=c.right) for c, w in zip(columns, widths, strict=True)
    ]
    terminal.print(terminal.style((" " * _GAP).join(head).rstrip(), "bold"))
    for row in cells:
        parts = []
        for cell, column, room in zip(row, columns, widths, strict=True):
            padded = _padded(cut(cell.text, room), room, right=column.right)
            parts.append(terminal.style(padded, *cell.styles) if cell.styles else padded)
        terminal.print((" " * _GAP).join(parts).rstrip())


def _cell(cell: Cell | str) -> Cell:
    given = cell if isinstance(cell, Cell) else Cell(cell)
    return Cell(printable(given.text), given.styles)


def _kept(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Which columns there is room for, where the flexible ones are as narrow as they may be."""
    kept = list(range(len(columns)))
    least = [min(w, _LEAST) if c.flexible else w for c, w in zip(columns, widths, strict=True)]
    while sum(least[i] for i in kept) + _GAP * (len(kept) - 1) > room:
        spare = max(kept, key=lambda i: columns[i].spare)
        if not columns[spare].spare:
            break
        kept.remove(spare)
    return kept


def _fit(columns: Sequence[Column], widths: list[int], room: int) -> None:
    """Make the widest narrower until all fit: the flexible ones first, then, rather than wrap
    every line, any."""
    excess = sum(widths) + _GAP * (len(widths) - 1) - room
    flexible = [i for i, column in enumerate(columns) if column.flexible]
    for those, least in ((flexible, _LEAST), (range(len(columns)), _VERY_LEAST)):
        while excess > 0:
            able = [i for i in those if widths[i] > least]
            if not able:
                break
            widths[max(able, key=lambda i: widths[i])] -= 1
            excess -= 1


def cut(text: str, room: int) -> str:
    """The beginning of a text in that many columns, with … where something is left out."""
    if width(text) <= room:
        return text
    text = text[: 4 * room]  # combining characters take no column
    while text and width(text) > room - 1:
        text = text[:-1]
    return text + "…"


def _padded(text: str, columns: int, *, right: bool) -> str:
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space
