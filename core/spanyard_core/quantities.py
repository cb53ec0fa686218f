"""Durations and sizes as people write them: `5s`, `250ms`, `10MB`, `64MiB`; pure."""

import math
import re

_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    # as Kubernetes writes quantities
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_QUANTITY_RE = re.compile(r"(\d{1,21}(?:\.\d{1,9})?)\s*([A-Za-z]*)", re.ASCII)

DURATION_HELP = "a duration: 5s, 250ms, 2m, 1h, 7d, or seconds as a number"
SIZE_HELP = "a size: 10MB, 64MiB, 2GiB, or bytes as a number"


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError that says what is allowed."""
    match = _QUANTITY_RE.fullmatch(text.strip())
    if not match or match[2] not in {"", *_DURATIONS}:
        raise ValueError(f"not {DURATION_HELP}")
    return float(match[1]) * _DURATIONS[match[2] or "s"]


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError that says what is allowed."""
    match = _QUANTITY_RE.fullmatch(text.strip())
    if not match or match[2] not in {"", *_SIZES}:
        raise ValueError(f"not {SIZE_HELP}")
    number, unit = match[1], _SIZES[match[2] or "B"]
    if "." not in number:
        return int(number) * unit
    size = float(number) * unit
    if size != math.floor(size):
        raise ValueError("not a whole number of bytes")
    return int(size)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same."""
    for unit, factor in reversed(_DURATIONS.items()):
        number = seconds / factor
        if seconds and number == math.floor(number):
            return f"{int(number)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads back as the same."""
    for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"
