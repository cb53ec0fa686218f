"""What a line says of itself: its level, its trace, and, of a JSON line, its message.

Pure functions of one line's text, so that reading a line again gives the same record. A level
word is looked for at the line's beginning only: "0 errors found" is no error. Whatever does not
parse as one sound JSON object is plain text; nothing here raises.
"""

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import msgspec

from spanyard_core.records import Level

DEFAULT_LEVEL: Level = "info"
"""Also of stderr: many programs write everything there."""

LEVEL_WORDS_SEEN = 7
"""Words of a line in which a level is looked for: `date time - name - LEVEL - text` has six."""

MAX_DEPTH = 128
"""A JSON line nested deeper is plain text. msgspec gives up near Python's recursion limit of
1,000, less the caller's depth; far below it, the decision depends on the line alone."""

_NAMES: dict[str, Level] = {
    "trace": "debug", "verbose": "debug", "debug": "debug", "dbg": "debug",
    "info": "info", "information": "info", "informational": "info", "notice": "info",
    "warn": "warn", "warning": "warn", "wrn": "warn",
    "err": "error", "error": "error", "severe": "error", "failure": "error",
    "fatal": "fatal", "critical": "fatal", "crit": "fatal", "alert": "fatal",
    "panic": "fatal", "emerg": "fatal", "emergency": "fatal",
}  # fmt: skip

_KEYS = ("level", "lvl", "severity", "loglevel", "log.level")


def _word_levels() -> dict[str, Level]:
    """Every spelling of a level that counts wherever it stands among the first words."""
    table: dict[str, Level] = {}
    for name, level in _NAMES.items():
        upper = name.upper()
        for form in ("{}", "{}:", "({})", "[{}", "{}]", "|{}|", "{},"):
            table[form.format(upper)] = level
        for spelled in (name, name.title(), upper):
            for form in ("[{}]", "[{}]:", "<{}>"):
                table[form.format(spelled)] = level
            for key, form in product(_KEYS, ("{}={}", '{}="{}"', "{}={},")):
                table[form.format(key, spelled)] = level
    return table


_WORDS = _word_levels()

_FIRST_WORDS: dict[str, Level] = {
    **{form.format(name): level for name, level in _NAMES.items() for form in ("{}:", "{}|")},
    **{f"{name.title()}:": level for name, level in _NAMES.items()},
    "Traceback": "error",
    "Exception": "error",
}
_KLOG: dict[str, Level] = {"I": "info", "W": "warn", "E": "error", "F": "fatal"}
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_first_levels: dict[str, Level] = {}
"""First words met before that say a level. Only a cache: emptied when it is full."""
_first_without: set[str] = set()
"""First words met before that say none."""
_CACHE_ENTRIES = 4096

level_of_word = _first_levels.get
"""The level that a line's first word says, if that was found out before; else None."""


def _level_of_first(word: str) -> Level | None:
    """The level that a line's first word says: `ERROR`, `E1121` (klog), `ERROR:root:…`."""
    if word[1:2].isdecimal() and word[0] not in _KLOG:
        return None  # a time in brackets: many of them, and none is worth a place in the cache
    level = _WORDS.get(word) or _FIRST_WORDS.get(word)
    if level is None:
        if len(word) == 5 and word[0] in _KLOG and word[1:].isdecimal():
            level = _KLOG[word[0]]
        elif ":" in word:
            head = word.partition(":")[0]
            if head.endswith(("Error", "Exception")):
                level = "error"
            elif head.isupper():
                level = _WORDS.get(head)
    if len(word) <= 40:
        if len(_first_levels) + len(_first_without) >= _CACHE_ENTRIES:
            _first_levels.clear()
            _first_without.clear()
        if level is None:
            _first_without.add(word)
        else:
            _first_levels[word] = level
    return level


def level_of_text(message: str) -> Level:
    """The level of a plain line, by its first words."""
    if "\x1b" in message:
        message = _ANSI.sub("", message)
    return level_of_words(message.split(" ", LEVEL_WORDS_SEEN - 1))


def level_of_words(words: list[str]) -> Level:
    """The level of a line that was split at its first six spaces."""
    first = words[0]
    if first not in _first_without and not first[:1].isdecimal():
        level = _level_of_first(first)
        if level is not None:
            return level
    for word in words:
        if word in _WORDS:
            return _WORDS[word]
    return DEFAULT_LEVEL


_ID_TEXT = re.compile(
    r"(?i)(?<![a-z])(?P<what>trace|span)[_.-]?id[\"']?\s?[=:]\s?[\"']?(?P<id>[0-9a-f]{16,32})(?![0-9a-z])"
)
_TRACEPARENT = re.compile(r"\b00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\b")
_ZEROS = "0" * 32
_ZEROS_16 = "0" * 16


def ids_of_text(message: str) -> tuple[str, str]:
    """Trace and span id that a plain line names: `trace_id=…`, `traceparent=00-…`; "" if none."""
    trace = span = ""
    for match in _ID_TEXT.finditer(message):
        if match["what"].lower() == "trace":
            trace = trace or hex_id(match["id"], 32)
        else:
            span = span or hex_id(match["id"], 16)
    if not trace and "traceparent" in message:
        found = _TRACEPARENT.search(message)
        if found:
            return hex_id(found[1], 32), hex_id(found[2], 16)
    return trace, span


def hex_id(value: object, digits: int) -> str:
    """`value` in lower case if it is an id of so many hex digits and not all zeros, else ""."""
    if type(value) is not str:
        return ""
    try:
        text = bytes.fromhex(value).hex()
    except ValueError:
        return ""
    return "" if len(text) != digits or text == _ZEROS[:digits] else text


_Get = Callable[[str], Any]

JsonFields = tuple[str, Level, str, str]
"""Message, level, trace id, span id. A plain tuple: a named one costs 200 ns more to make."""

_MESSAGE_KEYS = ("msg", "message", "event", "body")
_LEVEL_KEYS = (
    "level", "severity", "lvl", "severityText", "severity_text", "SeverityText",
    "severityNumber", "severity_number", "SeverityNumber", "levelname", "log.level", "loglevel",
)  # fmt: skip
_OTEL_KEYS = frozenset({"severity", "severityNumber", "severity_number", "SeverityNumber"})
_TRACE_KEYS = ("trace_id", "traceId", "traceID", "TraceId", "trace", "trace.id", "otelTraceID")
_SPAN_KEYS = ("span_id", "spanId", "spanID", "SpanId", "span", "span.id", "otelSpanID")

_PINO: dict[int, Level] = {
    10: "debug", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal",
}  # fmt: skip
_OTEL: tuple[Level, ...] = ("debug", "debug", "info", "warn", "error", "fatal")


def level_of_value(value: object, *, otel: bool = False) -> Level | None:
    """Level of a JSON line's level field: a name, pino's 10…60, or OpenTelemetry's 1…24."""
    if isinstance(value, str):
        level = _NAMES.get(value.strip().lower())
        if level is None and value.isdecimal() and len(value) <= 3:
            return level_of_value(int(value), otel=otel)
        # OpenTelemetry's texts come as INFO2, ERROR4 …
        return level or _NAMES.get(value.lower().rstrip("1234"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if otel and 1 <= value <= 24:
        return _OTEL[(int(value) - 1) // 4]
    if 10 <= value < 100:
        return _PINO.get(min(int(value) // 10 * 10, 60))
    return None


_decode = msgspec.json.Decoder().decode
_fromhex = bytes.fromhex
_NAMED: dict[object, Level] = {
    spelled: level for name, level in _NAMES.items() for spelled in (name, name.upper())
}
_NAMED_OR_PINO: dict[object, Level] = _NAMED | dict[object, Level](_PINO.items())


def json_fields(line: str) -> JsonFields | None:
    """What a JSON line says; None if it is no single, sound JSON object: then it is plain text.

    The whole line is decoded, though few of its fields are wanted: the typed decoder passes over
    `1e999` in what it skips. Of duplicate keys the last counts, as most readers have it; the
    attributes are kept as they were written.
    """
    try:
        value = _decode(line)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors; int's digit limit too
        return None
    if len(line) > 2 * MAX_DEPTH and is_too_deep(line, value):
        return None
    get = value.get
    message = get("msg")
    if type(message) is not str:
        message = _first_text(get) or line
    try:
        level = _NAMED_OR_PINO[get("level")]
    except (KeyError, TypeError):  # none, an unusual one, a list
        level = _first_level(get)
    if "race" not in line:  # the usual end of a line without ids; else many names to look for
        return message, level, "", ""
    span = get("span_id")
    try:
        trace = _fromhex(get("trace_id")).hex()
        if len(trace) == 32 and trace != _ZEROS:
            if span is None and "pan" not in line:
                return message, level, trace, ""
            span = _fromhex(span).hex()
            if len(span) == 16 and span != _ZEROS_16:
                return message, level, trace, span
    except (TypeError, ValueError):  # none, or no hex digits
        pass
    return message, level, *_first_ids(get)


def _first_text(get: _Get) -> str | None:
    values = map(get, _MESSAGE_KEYS)
    return next((value for value in values if type(value) is str), None)


def _first_level(get: _Get) -> Level:
    levels = (level_of_value(get(key), otel=key in _OTEL_KEYS) for key in _LEVEL_KEYS)
    return next(filter(None, levels), DEFAULT_LEVEL)


def _first_ids(get: _Get) -> tuple[str, str]:
    """Ids under one of their many names. A span alone, in a line without a trace, says nothing."""
    trace = next(filter(None, (hex_id(get(key), 32) for key in _TRACE_KEYS)), "")
    if trace:
        return trace, next(filter(None, (hex_id(get(key), 16) for key in _SPAN_KEYS)), "")
    parent = get("traceparent")
    found = _TRACEPARENT.fullmatch(parent) if type(parent) is str else None
    return (hex_id(found[1], 32), hex_id(found[2], 16)) if found else ("", "")


def is_too_deep(line: str, value: Any) -> bool:
    """Whether the line's containers are nested deeper than MAX_DEPTH.

    Never in a line of 2 * MAX_DEPTH characters: every level has two brackets.
    """
    if line.count("{") + line.count("[") <= MAX_DEPTH:
        return False
    containers = [value]
    for _ in range(MAX_DEPTH):
        containers = [
            child
            for parent in containers
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not containers:
            return False
    return True
