"""What the server prints: plain and JSON lines on stdout and stderr, each counted."""

import json
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

Stream = Literal["stdout", "stderr"]


class Lines:
    """Prints whole lines, one writer at a time, and knows exactly how many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def plain(self, level: str, text: str, *, stream: Stream = "stdout") -> None:
        """`2026-11-21 14:45:00,123 INFO text`."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        self.raw([f"{now} {level} {text}"], stream=stream)

    def json(self, level: str, text: str, *, stream: Stream = "stdout", **fields: Any) -> None:
        """A JSON object with `level`, `msg` and fields."""
        self.raw([json.dumps({"level": level, "msg": text, **fields})], stream=stream)

    def trace(self, error: BaseException) -> None:
        """An exception's trace on stderr, as Python prints it: several lines."""
        text = "".join(traceback.format_exception(error)).rstrip("\n")
        self.raw(text.split("\n"), stream="stderr")

    def raw(self, texts: Iterable[str], *, stream: Stream = "stdout") -> None:
        """Lines as they are; none may contain a newline."""
        block = [text.replace("\n", " ") for text in texts]
        out = sys.stdout if stream == "stdout" else sys.stderr
        with self._lock:
            out.write("".join(f"{text}\n" for text in block))
            out.flush()
            self._counts[stream] += len(block)

    def counts(self) -> dict[str, int]:
        """Stream → lines printed."""
        with self._lock:
            return {"stdout": self._counts["stdout"], "stderr": self._counts["stderr"]}
