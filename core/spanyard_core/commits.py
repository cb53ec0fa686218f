"""What a commit says of itself: its subject, who wrote it and when it was made.

All of it is somebody's text, and it goes into statuses that terminals and pages print: cleaned and
bounded here, by whoever writes it and once more by whoever is told it.
"""

import re
import unicodedata
from datetime import UTC, datetime

import msgspec

MOST_SUBJECT = 200
MOST_AUTHOR = 100
"""Characters; both are limits of the CRD too."""
LOG = (
    "log", "-1", "--no-show-signature", "--no-notes", "--no-color", "--no-patch",
    "--encoding=UTF-8", "--format=%ct%x00%aN%x00%B",
)  # fmt: skip
"""Arguments of git, before the commit. The name is the one of `.mailmap`, where there is one; of the
message `%B`, because `%s` joins the lines of a first paragraph."""
_JOINERS = "\u200c\u200d"
"""Of letters and emoji: invisible, but they belong to the text."""
_ADDRESS = re.compile(r"[<(]?[^\s<>()@]+@[^\s<>()@]+[>)]?")
_READ_AUTHOR = 10 * MOST_AUTHOR
"""Of a name so much is looked at: for addresses each character may be followed to the end, which of a
name of 40,000 takes 7 s."""
_LAST_YEAR = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class Commit(msgspec.Struct, kw_only=True, frozen=True):
    """What is empty is not known."""

    id: str = ""
    subject: str = ""
    """The first line of the message."""
    author: str = ""
    """A name without an address."""
    committed_at: str = ""
    """RFC 3339 in UTC, whole seconds."""


def cleaned(commit: Commit) -> Commit:
    """Texts without what steers a terminal or hides, on one line, and no longer than they may be."""
    return msgspec.structs.replace(
        commit,
        subject=_line(commit.subject, MOST_SUBJECT),
        author=_line(_ADDRESS.sub(" ", commit.author[:_READ_AUTHOR]), MOST_AUTHOR),
        committed_at=_time(commit.committed_at),
    )


def parsed(commit: str, said: str) -> Commit:
    """Of what `git LOG COMMIT` printed; of anything else the id alone."""
    parts = said.split("\0", 2)
    if len(parts) != 3:
        return Commit(id=commit)
    seconds, author, message = parts
    subject = next((line for line in message.split("\n") if line.strip()), "")
    return cleaned(Commit(id=commit, subject=subject, author=author, committed_at=_moment(seconds)))


def _line(text: str, most: int) -> str:
    shown = "".join(c if c in _JOINERS or _printed(c) else " " for c in text[: 4 * most])
    line = " ".join(shown.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _printed(character: str) -> bool:
    """Neither a control character nor one that turns direction, hides, or is half of another."""
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def _moment(seconds: str) -> str:
    """A machine with a wrong clock, or a joker, made it: none that is before 1970 or after 9999."""
    if not seconds.isascii() or not seconds.isdigit() or not 0 < int(seconds[:12]) < _LAST_YEAR:
        return ""
    return f"{datetime.fromtimestamp(int(seconds[:12]), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _time(text: str) -> str:
    """An API server refuses a status with anything else in it."""
    return text if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII) else ""
