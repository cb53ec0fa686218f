"""The log of a build as it is printed.

The stream tells all of it from the first line, since the log of a build begins with the build. At
its end the stored text has the last word: whatever the stream did not tell is in there, and a line
that was shown is not shown again.
"""

from collections.abc import Iterator

from spanyard_local.cli.formats import parse_time
from spanyard_local.cli.listening import Listening
from spanyard_local.live_client import BuildStatus, Dropped, Line, Lines, Over, Partial, Resume

_REST_S, _LONGEST_REST_S = 1.0, 10.0
"""After its end: so long a silence, or so long in all, and the stored text tells the rest."""


class LiveBuild:
    """Texts of lines until the build has ended, or the stream cannot tell all."""

    def __init__(self, listening: Listening, build: str, begun: str) -> None:
        """`begun`: when it was made, RFC 3339."""
        since = (parse_time(begun) or 0) // 10**6
        listening.subscribe(f"build:{build}", resume=Resume(since, {}))
        self._listening = listening
        self.trouble = ""
        """Why the stream does not tell all."""
        self._parts: dict[str, str] = {}
        """Writer → the beginning of a line that goes on in its next record."""

    def lines(self, finished: set[str]) -> Iterator[str]:
        """Without newlines; ends when the phase is one of `finished`. Raises ServerError."""
        left = _LONGEST_REST_S
        ended = False
        while left > 0:
            event = self._listening.next(_REST_S if ended else None)
            if isinstance(event, Over | Partial):
                self.trouble = event.message
            elif isinstance(event, Dropped):
                self.trouble = f"{event.count:,} lines did not come live ({event.reason})"
            if event is None or self.trouble:
                return
            if ended:
                left -= _REST_S / 10
            if isinstance(event, BuildStatus):
                ended = ended or str(event.status.get("phase", "")) in finished
            elif isinstance(event, Lines):
                for item in event.items:
                    text = self._text(event.writer, item)
                    if text is not None:
                        yield text

    def _text(self, writer: str, item: Line) -> str | None:
        text = self._parts.pop(writer, "") + item.line
        if "split" in item.marks and "split-end" not in item.marks:
            self._parts[writer] = text
            return None
        return text
