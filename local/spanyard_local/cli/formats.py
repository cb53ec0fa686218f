"""How values look to people: ages, durations, numbers, times, ids."""

import re
from datetime import UTC, datetime

from spanyard_local.terminal import Terminal, printable

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
SHORT_ID = 12
"""Characters of a trace's id in lists: unique among millions, and short enough to type."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def parse_time(text: str) -> int | None:
    """RFC 3339 in UTC, as every answer has it, as nanoseconds; None for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        whole = datetime.fromisoformat(match[1] + "+00:00")
    except ValueError:
        return None
    return int(whole.timestamp()) * 10**9 + int((match[2] or "").ljust(9, "0") or 0)


def age(text: str | None, now_ns: int) -> str:
    """How long ago, as `kubectl` says it: 45s, 12m, 5h, 3d; empty for no time."""
    when = parse_time(text or "")
    if when is None:
        return ""
    seconds = max(0, (now_ns - when) // 10**9)
    for unit, size, until in (("s", 1, 120), ("m", 60, 180 * 60), ("h", 3600, 48 * 3600)):
        if seconds < until:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def between(start: str | None, end: str | None, now_ns: int) -> str:
    """From a time to another, or to now; empty where it has not begun."""
    begun = parse_time(start or "")
    if begun is None:
        return ""
    ended = parse_time(end or "")
    return duration((now_ns if ended is None else ended) - begun)


def duration(ns: int | None) -> str:
    """850µs, 12ms, 1.24s, 2m05s, 3h12m; empty for None."""
    if ns is None:
        return ""
    if ns < 10**6:
        return f"{ns / 1e3:.0f}µs"
    if ns < 10**9:
        return f"{ns / 1e6:.0f}ms" if ns >= 10**7 else f"{ns / 1e6:.1f}ms"
    if ns < 100 * 10**9:
        return f"{ns / 1e9:.2f}s" if ns < 10 * 10**9 else f"{ns / 1e9:.1f}s"
    seconds = ns // 10**9
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"


def number(value: object) -> str:
    """1,204; a fraction with at most six digits; what is none (NaN) as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.6g}"


def cost(value: float) -> str:
    """`$0.0123`; empty for none."""
    return f"${value:.4f}" if value else ""


def size(value: float) -> str:
    """812 B, 1.2 MB: decimal units, as elsewhere."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def clock(text: str, *, utc: bool, now_ns: int) -> str:
    """The time of day with milliseconds, and the date where it is not today's."""
    ns = parse_time(text)
    if ns is None:
        return text
    zone = UTC if utc else None
    when = datetime.fromtimestamp(ns // 10**9, UTC).astimezone(zone)
    today = datetime.fromtimestamp(now_ns // 10**9, UTC).astimezone(zone).date()
    shown = f"{when:%H:%M:%S}.{ns % 10**9 // 10**6:03}" + ("Z" if utc else "")
    return shown if when.date() == today else f"{when:%Y-%m-%d} {shown}"


def short(identifier: str) -> str:
    """The beginning of a trace's or span's id; whatever is no hex stays whole."""
    if len(identifier) in {16, 32} and re.fullmatch(r"[0-9a-f]+", identifier):
        return identifier[:SHORT_ID]
    return identifier


def one_line(text: str) -> str:
    """Lines of a text as one, for a cell."""
    return re.sub(r"\s*[\r\n]+\s*", " ⏎ ", text.strip())


def clean(terminal: Terminal, text: str) -> str:
    """A program's line for a terminal: its colours stay where there are any, nothing else steers."""
    parts = _COLOUR.split(text.rstrip("\r\n"))
    if len(parts) == 1:
        return printable(parts[0].replace("\t", "    "))
    plain = [printable(part.replace("\t", "    ")) for part in parts[::2]]
    if not terminal.colours:
        return "".join(plain)
    coloured = [text + code for text, code in zip(plain, [*parts[1::2], "\033[0m"], strict=True)]
    return "".join(coloured)
