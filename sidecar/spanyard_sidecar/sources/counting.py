"""What a copy, an unpacking or a packing did, in numbers and words."""

import os
from collections import Counter
from dataclasses import dataclass, field

SHOWN = 10
"""Names of one kind that are told; of the rest the number."""


@dataclass
class Copied:
    """What a copy did."""

    files: int = 0
    size: int = 0
    """Bytes."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Name of what ignore rules left out → how often."""
    links: list[str] = field(default_factory=list)
    """Symbolic links that lead out of the folder; not copied, they would lead nowhere elsewhere."""
    special: list[str] = field(default_factory=list)
    """Sockets, pipes, devices; not copied."""

    def told(self) -> list[str]:
        """For the log."""
        lines = [f"copied {counted(self.files)}, {in_units(self.size)}"]
        if self.left_out:
            names = [f"{n} ({c} times)" if c > 1 else n for n, c in self.left_out.most_common()]
            lines.append(f"left out by ignore rules: {_some(names)}")
        if self.links:
            lines.append(f"not copied, links that lead out of the folder: {_some(self.links)}")
        if self.special:
            lines.append(f"not copied, neither files nor folders: {_some(self.special)}")
        return lines


def leads_out(name: str, leads: str) -> bool:
    """Whether a link at `name`, relative to the root, leads out of the root by its text."""
    if leads.startswith("/"):
        return True
    path = os.path.normpath(os.path.join(os.path.dirname(name), leads))
    return path == ".." or path.startswith("../")


def counted(files: int) -> str:
    """`3 files`."""
    return "1 file" if files == 1 else f"{files} files"


def in_units(size: int) -> str:
    """`3.2 MB`."""
    number = float(size)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
