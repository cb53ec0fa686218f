"""Blocks of commands in Markdown pages: what stands there, and what a comment above says of it.

A block of `console`, `sh` or `bash` is run by test_docs.py, unless a comment directly above it, or
(for a whole page) above its first section, says otherwise:

    <!-- not run: needs a bucket at AWS -->
    <!-- tested by: tests/e2e/test_demo.py -->
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = {"console", "sh", "bash"}
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w-]*)\s*")
_NOTE = re.compile(r"<!-- (?P<kind>not run|tested by): (?P<text>.+?) -->")


@dataclass(frozen=True, slots=True)
class Note:
    """What a comment says: `not run` and why, or `tested by` and which file."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command, and what is shown as its output."""

    text: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    note: Note | None

    @property
    def commands(self) -> list[Command]:
        """`console`: each `$ …` with its continued lines and its output. Else the whole script."""
        if self.language != "console":
            return [Command(self.text)]
        commands: list[Command] = []
        continued = False
        for line in self.text.splitlines():
            if line.startswith("$ "):
                commands.append(Command(line[2:]))
            elif not commands:
                raise ValueError(f"{self.page}:{self.line}: output without a command: {line!r}")
            elif continued:
                last = commands.pop()
                commands.append(Command(f"{last.text}\n{line}"))
            else:
                commands[-1].shown.append(line)
            continued = (line.startswith("$ ") or continued) and line.endswith("\\")
        return commands


def blocks_of(page: str, text: str) -> list[Block]:
    """All blocks of commands of a page."""
    found: list[Block] = []
    lines = text.splitlines()
    of_page = _of_page(text)
    at = 0
    while at < len(lines):
        opening = _FENCE.fullmatch(lines[at])
        if not opening:
            at += 1
            continue
        end = at + 1
        while end < len(lines) and lines[end].strip() != opening["fence"]:
            end += 1
        if end == len(lines):
            raise ValueError(f"{page}:{at + 1}: this block has no end")
        if opening["language"] in LANGUAGES:
            body = [line.removeprefix(opening["indent"]) for line in lines[at + 1 : end]]
            above = next((line for line in reversed(lines[:at]) if line.strip()), "")
            own = _NOTE.fullmatch(above.strip())
            note = Note(own["kind"], own["text"]) if own else of_page
            found.append(Block(page, at + 1, opening["language"], "\n".join(body), note))
        at = end + 1
    return found


def _of_page(text: str) -> Note | None:
    """A comment above the first section, and not directly above a block."""
    head, fence, _ = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0].partition("```")
    if fence and head.rstrip().endswith("-->"):
        head = head.rstrip().rpartition("<!--")[0]
    found = _NOTE.search(head)
    return Note(found["kind"], found["text"]) if found else None


def pages(root: Path) -> list[Path]:
    """README.md and everything below docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def looks_like(shown: list[str], printed: str) -> bool:
    """Whether output is as a page shows it: any number for a number, anything for `…`."""
    pattern = r"\s*\n\s*".join(_line_pattern(line.strip()) for line in shown if line.strip())
    return re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL) is not None


def _line_pattern(line: str) -> str:
    parts = re.split(r"(\d[\d,.]*|…|[0-9a-f]{16,})", line)
    return "".join(
        ".*" if part == "…" else r"[\d,.]+" if i % 2 and part[0].isdigit() else re.escape(part)
        for i, part in enumerate(parts)
    )
