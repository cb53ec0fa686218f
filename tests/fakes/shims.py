"""Shims in tests: what to run, and what their logs hold."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spanyard_local.shimmed import ShimSpec

PYTHON = (sys.executable, "-I", "-S", "-u", "-c")


def spec(folder: Path, command: Sequence[str], container: str = "server", **more: Any) -> ShimSpec:
    """A run of `command` whose files are below `folder`."""
    told = {
        "environment": {"PATH": os.environ["PATH"]},
        "directory": folder,
        "log_root": folder / "logs",
        "namespace": "local",
        "pod": "p",
        "uid": "u",
        "restart": 0,
        "status_file": folder / f"{container}.json",
    }
    return ShimSpec(command=command, container=container, **{**told, **more})


def messages(of: ShimSpec) -> list[str]:
    """The lines of its log, of all its files, without CRI's prefixes. Partial ones are joined."""
    folder = of.log_folder
    names = sorted(p.name for p in folder.glob(f"{of.restart}.log.*"))
    if (folder / f"{of.restart}.log").exists():
        names.append(f"{of.restart}.log")
    lines: list[str] = []
    rest = ""
    for name in names:
        for line in (folder / name).read_text("utf-8", "replace").split("\n")[:-1]:
            _, _, mark, text = line.split(" ", 3)
            rest += text
            if mark == "F":
                lines.append(rest)
                rest = ""
    return lines


def lives(pid: int) -> bool:
    """Whether it runs; one that is dead and not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second while it is read
        return False
    return state != "Z"
