"""Durations in manifests: `30s`, `15m`, `1h30m`, `7d`; pure.

Units stand in falling order and each at most once, so that one pattern (`PATTERN`, the one in the
CRDs) says in the API server what this module reads. Settings use `spanyard_core.quantities`,
which takes fractions and bare numbers too.
"""

import re

UNITS: dict[str, float] = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

PATTERN = "^" + "".join(rf"([0-9]{{1,6}}{unit})?" for unit in UNITS) + "$"
"""What a CRD says of a duration. The empty text is one: not set."""

HELP = "a duration such as 30s, 15m, 1h30m or 7d"
MAX_LENGTH = 40
"""Characters: more than five numbers of six digits with their units need."""

_DURATION = re.compile(PATTERN, re.ASCII)
_PART = re.compile(r"([0-9]+)(ms|[dhms])", re.ASCII)


def seconds(text: str) -> float:
    """Seconds. Raises ValueError for what is no duration, the empty text included."""
    if not text or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not {HELP}")
    return sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text))


def seconds_or(text: str, default: float | None) -> float | None:
    """Seconds, or `default` when the text is empty: not set."""
    return seconds(text) if text else default


def text(of_seconds: float) -> str:
    """How a person would write it: `90.0` is `1m30s`. Exact to the millisecond."""
    rest = round(of_seconds * 1000)
    parts: list[str] = []
    for unit, factor in UNITS.items():
        number, rest = divmod(rest, round(factor * 1000))
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"
