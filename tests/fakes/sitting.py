"""Somebody at a terminal: a program on a real pseudoterminal, and what its screen shows."""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_CONTROLS = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the session's terminal: Ctrl-C and Ctrl-Z go to its foreground."""
PATIENCE_S = 120.0
_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Screen:
    """Rows of characters as a terminal shows them. Raises ValueError for what it does not know.

    Like xterm it does not join and break lines again when its size changes.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.above: list[str] = []
        """Lines that have scrolled away."""
        self.lines: list[str] = [""] * rows
        self._x = self._y = 0
        self._rest = ""

    def resize(self, columns: int, rows: int) -> None:
        """As when its window is drawn at a corner; the line with the cursor stays."""
        while self._y >= rows:
            self._scroll()
            self._y -= 1
        self.columns, self.rows = columns, rows
        self.lines = [line[:columns] for line in (self.lines + [""] * rows)[:rows]]
        self._x = min(self._x, columns)

    def feed(self, text: str) -> None:
        """What a program printed."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
            elif found := _SEQUENCE.match(text, at):
                self._do(found[2], found[1])
                at = found.end()
            elif len(text) - at < 12:
                self._rest = text[at:]
                return
            else:
                raise ValueError(f"an unknown sequence: {text[at : at + 12]!r}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._x = 0
        elif character == "\n":
            self._down()
        elif unicodedata.combining(character):
            return
        elif ord(character) < 32:
            raise ValueError(f"a control character: {character!r}")
        else:
            if self._x >= self.columns:
                self._x = 0
                self._down()
            line = self.lines[self._y].ljust(self._x)
            self.lines[self._y] = line[: self._x] + character + line[self._x + 1 :]
            self._x += 1

    def _down(self) -> None:
        if self._y == self.rows - 1:
            self._scroll()
        else:
            self._y += 1

    def _scroll(self) -> None:
        self.above.append(self.lines.pop(0))
        self.lines.append("")

    def _do(self, what: str, given: str) -> None:
        if what == "m":
            return
        if what == "F":
            self._x, self._y = 0, max(0, self._y - int(given or 1))
        elif what == "H" and not given:
            self._x = self._y = 0
        elif what == "J" and given in {"", "0"}:
            self.lines[self._y] = self.lines[self._y][: self._x]
            self.lines[self._y + 1 :] = [""] * (self.rows - self._y - 1)
        elif what == "K" and given == "2":
            self.lines[self._y] = ""
        else:
            raise ValueError(f"an unknown sequence: {given}{what}")

    @property
    def text(self) -> str:
        """What is to be seen, without spaces at the ends of lines."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


class Sitting:
    """A program that has a terminal of its own, as leader of its session. Leave the block, and it
    is gone."""

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = Screen(columns, rows)
        self.printed = ""
        """All that came, as it came."""
        self._ours, theirs = pty.openpty()
        self._set_size()
        # Whoever began the tests may have told its own size, and that would count for more.
        given = {k: v for k, v in (env or os.environ).items() if k not in {"COLUMNS", "LINES"}}
        given["PYTHONFAULTHANDLER"] = "1"
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLS, *map(str, words)], stdin=theirs, stdout=theirs,
            stderr=theirs, cwd=cwd, env=given, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._changed = threading.Condition()
        self.trouble: Exception | None = None
        self._reader = threading.Thread(target=self._read, name="a terminal's screen", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # EIO: nobody has the terminal any more
                data = b""
            with self._changed:
                if data:
                    text = decoder.decode(data)
                    self.printed += text
                    try:
                        self.screen.feed(text)
                    except ValueError as error:
                        self.trouble = self.trouble or error
                self._changed.notify_all()
            if not data:
                return

    def press(self, keys: str) -> None:
        """Press keys: `\\x03` is Ctrl-C, `\\x1a` Ctrl-Z."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Draw the window larger or smaller."""
        with self._changed:
            self.screen.resize(columns, rows)
        self._set_size()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGWINCH)

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.rows, self.screen.columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows keys and takes whole lines, as a shell expects it."""
        flags = termios.tcgetattr(self._ours)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def until(self, holds: Callable[["Sitting"], object], seconds: float = PATIENCE_S) -> None:
        """Wait until something holds; looked at with everything that is printed."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not holds(self):
                left = deadline - time.monotonic()
                assert left > 0, f"too late; on the screen:\n{self.screen.text}\n"
                self._changed.wait(min(left, 0.1))

    def shows(self, text: str, seconds: float = PATIENCE_S) -> None:
        """Wait until the screen has the text."""
        self.until(lambda me: text in me.screen.text, seconds)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code; all that it printed has been read."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # a Python tells where it is
            self.process.wait()
            self._reader.join(10)
            raise AssertionError(f"it did not end; it printed\n{self.printed}") from None
        self._reader.join(10)
        assert self.trouble is None, f"{self.trouble} in {self.printed[-500:]!r}"
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(10)
        os.close(self._ours)
