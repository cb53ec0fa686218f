"""What the command line prints: tables, colours on a terminal only, human numbers."""

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

_UNPRINTED = re.compile(r"[^ -~]")
_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


@dataclass(frozen=True, slots=True)
class Terminal:
    """A stream to print on; knows whether it is a terminal (and `NO_COLOR`, no-color.org)."""

    out: IO[str]
    colours: bool
    live: bool
    """Whether a line may be written over."""

    @classmethod
    def of(cls, out: IO[str] | None = None) -> "Terminal":
        """The stream as it is, standard output by default."""
        out = out or sys.stdout
        tty = out.isatty()
        dumb = os.environ.get("TERM") == "dumb"
        return cls(out, tty and not dumb and not os.environ.get("NO_COLOR"), tty and not dumb)

    def style(self, text: str, *names: str) -> str:
        """`text` in a style, or as it is where there are no colours."""
        if not self.colours:
            return text
        return f"\033[{';'.join(_CODES[n] for n in names)}m{text}\033[0m"

    def print(self, text: str = "") -> None:
        """One line."""
        print(text, file=self.out, flush=True)

    def status(self, text: str) -> None:
        """A line that the next status replaces; an ordinary one where that is not possible."""
        if not self.live:
            self.print(text)
            return
        room = shutil.get_terminal_size().columns - 1
        shown = text
        while width(shown) > room:
            shown = shown[:-1]
        self.out.write("\r\033[2K" + shown)
        self.out.flush()

    def end_status(self) -> None:
        """Leave the last status standing."""
        if self.live:
            self.out.write("\n")
            self.out.flush()

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Columns as wide as they need; numbers to the right."""
        cells = [[printable(str(c)) for c in row] for row in rows]
        widths = [max([len(h), *(width(row[i]) for row in cells)]) for i, h in enumerate(header)]
        right = [
            all(isinstance(row[i], int) and not isinstance(row[i], bool) for row in rows)
            and bool(rows)
            for i in range(len(header))
        ]
        titles = [_pad(h, w, r) for h, w, r in zip(header, widths, right, strict=True)]
        self.print(self.style("  ".join(titles).rstrip(), "bold"))
        for row in cells:
            padded = [_pad(c, w, r) for c, w, r in zip(row, widths, right, strict=True)]
            self.print("  ".join(padded).rstrip())


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)  # most is, and a trace's table asks this 100,000 times
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _pad(text: str, columns: int, right: bool) -> str:
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def printable(text: str) -> str:
    """Text of users with control characters shown, so that it cannot steer the terminal."""
    return "".join(
        c if c.isprintable() else chr(0x2400 + ord(c)) if ord(c) < 32 else "\ufffd" for c in text
    )


def printable_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def as_json(value: object, indent: int | None = None) -> str:
    """A value as JSON that steers no terminal either: what cannot be printed is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "\n".join(
        line if line.isprintable() else _UNPRINTED.sub(_escaped, line) for line in text.split("\n")
    )


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def count(n: int, noun: str) -> str:
    """`1 line`, `1,204 lines`."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
