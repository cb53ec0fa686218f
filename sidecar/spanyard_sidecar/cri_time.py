"""Times of CRI lines: checked, in UTC, and as nanoseconds."""

import re
from calendar import timegm
from datetime import datetime, timedelta

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)

_utc_seconds: dict[str, str] = {}
"""Local second with its zone → second in UTC. A log has thousands of lines in one second."""
_CACHE_ENTRIES = 1024


def normal_time(text: str) -> str:
    """RFC 3339 in UTC with the fraction as given; "" when `text` is no time of this calendar."""
    match = _TIME.fullmatch(text)
    if match is None:
        return ""
    local, fraction, zone = match.groups()
    second = _utc_seconds.get(local + zone)
    if second is None:
        second = _utc_second(local, zone)
        if len(_utc_seconds) >= _CACHE_ENTRIES:
            _utc_seconds.clear()
        _utc_seconds[local + zone] = second
    return f"{second}{fraction or ''}Z" if second else ""


def _utc_second(local: str, zone: str) -> str:
    try:
        at = datetime.fromisoformat(local)
        if zone != "Z":
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
            at = at - offset if zone[0] == "+" else at + offset
    except (ValueError, OverflowError):
        return ""
    return at.isoformat()


def time_ns(text: str) -> int:
    """Nanoseconds since the epoch of a time as `normal_time` writes it."""
    at = datetime.fromisoformat(text[:19])
    fraction = text[20:-1]
    return timegm(at.timetuple()) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)
