"""What happened in a history, for whoever has to understand a failing seed."""

import asyncio
import hashlib
import logging
import traceback
from collections import deque

from tests.sim.process import current_process


class Chronicle(logging.Handler):
    """Events with their virtual time. Keeps the last ones, and a digest of all."""

    def __init__(self, keep: int = 60, *, verbose: bool = False) -> None:
        super().__init__(logging.INFO)
        self._last: deque[str] = deque(maxlen=keep)
        self._digest = hashlib.sha256()
        self._verbose = verbose
        self.count = 0

    def note(self, text: str) -> None:
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            now = 0.0
        process = current_process()
        line = f"{now:11.6f} {process.name if process else 'world':<12} {text}"
        self.count += 1
        self._digest.update(line.encode(errors="replace"))
        self._last.append(line)
        if self._verbose:
            print(line, flush=True)

    def emit(self, record: logging.LogRecord) -> None:
        """What the code under test logs is part of the story."""
        text = f"{record.levelname.lower()} {record.name}: {record.getMessage()[:300]}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1], limit=-4))
        self.note(text)

    @property
    def digest(self) -> str:
        """Equal for equal histories."""
        return self._digest.hexdigest()[:16]

    def tail(self) -> str:
        return "\n".join(self._last)
