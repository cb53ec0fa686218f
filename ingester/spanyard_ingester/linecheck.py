"""One line, strictly: whether it is what `spanyard_core.records` says, and if not, why.

The engine's parser lets much pass in silence and says nothing of the place when it refuses; so
the objects of a refused batch are read by this instead. A line that passes here is stored by the
engine as it is (`tests/contract/test_bad_input.py` holds both against each other); whatever the
engine refuses, or would change, is found here.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from spanyard_core.records import LINE_TYPES, AnyLine, Signal

_UINT64 = 2**64 - 1

_TIME = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)T(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_YEAR_FIRST, _YEAR_LAST = 1678, 2261
"""DateTime64(9) holds 1677-09-21 … 2262-04-11; whole years keep the check a comparison."""

_NOT_EMPTY: dict[Signal, tuple[str, ...]] = {
    "traces": ("id",),
    "spans": ("id", "traceId"),
    "logs": (),
    "metrics": ("name",),
    "scores": ("name",),
    "gaps": ("subject",),
}
_TIMES: dict[Signal, tuple[str, ...]] = {
    "traces": ("startTime",),
    "spans": ("startTime",),
    "logs": ("timestamp",),
    "metrics": ("timestamp",),
    "scores": ("timestamp",),
    "gaps": ("timestamp",),
}
_OPTIONAL_TIMES: dict[Signal, tuple[str, ...]] = {
    "traces": ("endTime",),
    "spans": ("endTime",),
    "logs": (),
    "metrics": ("startTime",),
    "scores": (),
    "gaps": ("fromTime", "toTime"),
}
_WHOLE: dict[Signal, tuple[str, ...]] = {
    "traces": (),
    "spans": (),
    "logs": (),
    "metrics": ("count",),
    "scores": (),
    "gaps": ("afterSeq", "lines", "bytes", "fromOffset", "toOffset", "continuesSeq"),
}
_OBJECTS = ("attributes", "resource", "metadata")
_NAMES = ("project", "writer")


class BadLineError(Exception):
    """Why a line is bad; `seq` is what it says of its place, if that much could be read."""

    def __init__(self, reason: str, seq: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seq = seq


class _Pairs:
    """Makes objects, and knows of the last one, which is the outermost, what stood twice in it.

    Within attributes that is no fault: loggers write such, the collector keeps their text, and the
    engine takes it. A line must not go to quarantine because of its neighbour in the batch.
    """

    twice = ""

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        self.twice = "" if len(result) == len(pairs) else _repeated(pairs)
        return result


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(repr(name[:80]) for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # the idiom


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BadLineError(f"the number {text[:40]} is beyond a 64-bit float")
    return number


def _constant(text: str) -> NoReturn:
    raise BadLineError(f"{text} is not JSON; write it as the string {text!r}")


_pairs = _Pairs()
_parse = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_float, parse_constant=_constant
).decode


@dataclass(frozen=True, slots=True)
class Expected:
    """What every line of an object must say of itself."""

    signal: Signal
    project: str
    writer: str
    first: int
    last: int


class LineCheck:
    """Checks the lines of one object. `seq` of a good line, BadLineError for a bad one."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        signal = expected.signal
        kind = LINE_TYPES[signal]
        self._fields = {field.encode_name for field in msgspec.structs.fields(kind)} | {"type"}
        self._type = kind.__struct_config__.tag
        self._decode: Callable[[bytes], AnyLine] = msgspec.json.Decoder(kind).decode

    def __call__(self, raw: bytes) -> int:
        """The line's seq. Raises BadLineError."""
        if not raw.strip():
            raise BadLineError("the line is blank")
        value = parse_object(raw)
        seq = value.get("seq")
        seq = seq if type(seq) is int and seq > 0 else 0
        try:
            self._check(raw, value)
        except BadLineError as error:
            error.seq = seq
            raise
        if not self._expected.first <= seq <= self._expected.last:
            raise BadLineError(
                f"seq is {value['seq']}; the object holds "
                f"{self._expected.first}…{self._expected.last}"
            )
        return seq

    def _check(self, raw: bytes, value: dict[str, Any]) -> None:
        expected = self._expected
        if "unreadable" in value and isinstance(value.get("reason"), str):
            # What an application wrote was no event; the collector kept the text and says why.
            raise BadLineError(f"not an event: {value['reason'][:500]}")
        try:
            self._decode(raw)
        except msgspec.ValidationError as error:
            raise BadLineError(str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadLineError(f"not JSON: {error}") from None
        if value.get("type") != self._type:  # the decoder does without
            raise BadLineError(f"type is missing; it is {self._type!r} here")
        unknown = value.keys() - self._fields
        if unknown:
            raise BadLineError(f"the field {min(unknown)[:80]!r} is unknown")
        check_values(value, expected.signal)
        for field in _NAMES:
            wanted = getattr(expected, field)
            if value[field] != wanted:
                raise BadLineError(
                    f"{field} is {str(value[field])[:120]!r}; the object's is {wanted!r}"
                )


def parse_object(raw: bytes) -> dict[str, Any]:
    """A line as one JSON object, without anything that readers take in different ways.

    Raises BadLineError for invalid UTF-8, two values on a line, fields twice, numbers beyond
    a float, NaN, lone surrogates, control characters, and nesting of about 1,000 and more.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadLineError(f"invalid UTF-8 at byte {error.start}") from None
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        place = f" at character {error.pos}"
        if error.msg == "Extra data":
            raise BadLineError(f"more than one JSON value on the line{place}") from None
        raise BadLineError(f"not JSON: {error.msg}{place}") from None
    except RecursionError:
        raise BadLineError("nested too deeply") from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise BadLineError(f"not a number: {error}") from None
    if not isinstance(value, dict):
        raise BadLineError("the line is not a JSON object")
    if _pairs.twice:
        raise BadLineError(f"the field {_pairs.twice} stands twice")
    return value


def check_values(value: dict[str, Any], signal: Signal) -> None:
    """What types do not say: times, ranges, names that must not be empty. Raises BadLineError."""
    for field in _NOT_EMPTY[signal]:
        if not value[field]:
            raise BadLineError(f"{field} is empty")
    for field in _NAMES:
        if not value[field] or "\0" in value[field]:
            raise BadLineError(f"{field} is empty or holds a NUL")
    for field in _TIMES[signal]:
        _check_time(field, value[field])
    for field in (*_OPTIONAL_TIMES[signal], "recordedAt"):
        if value.get(field):
            _check_time(field, value[field])
    for field in _WHOLE[signal]:
        number = value.get(field)
        if number is not None and not 0 <= number <= _UINT64:
            raise BadLineError(f"{field} is {str(number)[:40]}, not within 0 … 2^64 - 1")
    for number in value.get("bucketCounts", ()):
        if not 0 <= number <= _UINT64:
            raise BadLineError(f"bucketCounts holds {str(number)[:40]}, not within 0 … 2^64 - 1")
    for field in _OBJECTS:
        if not isinstance(value.get(field, {}), dict):
            raise BadLineError(f"{field} is not a JSON object")


def _check_time(field: str, text: str) -> None:
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadLineError(f"{field} {text[:60]!r} is not an RFC 3339 time")
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if not _YEAR_FIRST <= year <= _YEAR_LAST:
        raise BadLineError(
            f"{field} {text[:60]!r} is outside the years {_YEAR_FIRST} to {_YEAR_LAST}"
        )
    if not (1 <= month <= 12 and 1 <= day <= _days(year, month)):
        raise BadLineError(f"{field} {text[:60]!r} is no day of the calendar")
    if int(match["hour"]) > 23 or int(match["minute"]) > 59 or int(match["second"]) > 60:
        raise BadLineError(f"{field} {text[:60]!r} is no time of a day")


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in {4, 6, 9, 11} else 31
