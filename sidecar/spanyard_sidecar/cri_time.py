"""Times as they come in lines: checked, in UTC, and as nanoseconds."""

import re
from calendar import timegm
from datetime import datetime, timedelta

_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
FIRST_YEAR, LAST_YEAR = 1700, 2261
"""What DateTime64(9) can hold, in whole years. A clock that says 0001 was never set."""

LONGEST = len("2026-11-21T14:45:00.123456789Z")

_utc_seconds: dict[str, str] = {}
"""Local second with its zone → second in UTC. A log has thousands of lines in one second."""
_CACHE_ENTRIES = 1024


def cri_time(text: str) -> str:
    """The time of a CRI line in UTC, with the fraction as given; "" when `text` is no such time.

    Of a time in UTC the second is checked, not each digit of the fraction: nobody but the runtime
    writes it, and looking at it costs the block loop 7 %. Whoever reads lines from it decides the
    same way, or cutting a file elsewhere would give other records.
    """
    if text[-1:] == "Z" and len(text) <= LONGEST and text[19:20] in (".", "Z"):
        return text if _utc_second(text[:19], "Z") else ""
    return normal_time(text)


def normal_time(text: str) -> str:
    """RFC 3339 in UTC with the fraction as given; "" when `text` is no time of this calendar."""
    match = _TIME.fullmatch(text)
    if match is None:
        return ""
    local, fraction, zone = match.groups()
    second = _utc_second(local, zone)
    return f"{second}{fraction or ''}Z" if second else ""


def _utc_second(local: str, zone: str) -> str:
    second = _utc_seconds.get(local + zone)
    if second is None:
        second = _converted(local, zone)
        if len(_utc_seconds) >= _CACHE_ENTRIES:
            _utc_seconds.clear()
        _utc_seconds[local + zone] = second
    return second


def _converted(local: str, zone: str) -> str:
    if not _SECOND.fullmatch(local):
        return ""
    try:
        at = datetime.fromisoformat(local)
        if zone != "Z":
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
            at = at - offset if zone[0] == "+" else at + offset
    except (ValueError, OverflowError):
        return ""
    return at.isoformat() if FIRST_YEAR <= at.year <= LAST_YEAR else ""


def time_ns(text: str) -> int:
    """Nanoseconds since the epoch of a time that was checked by one of the above."""
    at = datetime.fromisoformat(text[:19])
    fraction = text[20:-1]
    digits = fraction if fraction.isascii() and fraction.isdecimal() else ""
    return timegm(at.timetuple()) * 1_000_000_000 + int(digits.ljust(9, "0")[:9])
