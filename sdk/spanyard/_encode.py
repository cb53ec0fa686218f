"""Events as JSON lines: whatever the application hands over becomes a line, of bounded size."""

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import msgspec

MAX_LINE = 1 << 20
"""Bytes of a line with its newline, as the contract of span files has it."""
MAX_DEPTH = 24
"""Nesting beyond this becomes text."""
TRUNCATED = "spanyard.truncated"
"""Attribute of an event that had to be shortened."""

Event = dict[str, Any]


def as_text(value: object) -> str:
    """What JSON does not know, as its text."""
    try:
        return str(value)[:MAX_LINE]
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


_encode = msgspec.json.Encoder(enc_hook=as_text).encode


def number(value: float) -> float | str:
    """A number as lines carry it: NaN and infinities are words."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def as_float(value: object) -> float | None:
    """What counts as a number, also of numpy and the like; None for what does not, and for what is
    too large for a float."""
    if isinstance(value, (bool, str, bytes, bytearray)):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except Exception:
        return None


def _integer(value: int) -> int | str:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return str(value)
    except ValueError:  # Python writes no decimals of more than 4,300 digits
        return as_text(hex(value))


def clean(value: Any, depth: int = 0) -> Any:
    """A copy in which everything can be said in JSON without loss of meaning. Never raises.

    msgspec writes NaN as null in silence and refuses integers beyond 64 bits; here they are text.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return _integer(value)
    if kind is float:
        return number(value)
    try:
        return _clean_other(value, depth)
    except Exception:  # it changed under our hands, or is made to be odd
        return as_text(value)


def _clean_other(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        if depth >= MAX_DEPTH:
            return as_text(value)
        # Copied in one step: another thread may be at work on it.
        items = list(value.items())
        return {k if type(k) is str else as_text(k): clean(v, depth + 1) for k, v in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return as_text(value) if depth >= MAX_DEPTH else [clean(v, depth + 1) for v in list(value)]
    if isinstance(value, Enum):
        return clean(value.value, depth + 1) if depth < MAX_DEPTH else as_text(value)
    if isinstance(value, float):
        return number(float(value))
    if isinstance(value, int):
        return _integer(int(value))
    return value


UNNAMED = "spanyard.value"
"""Attribute that holds what was given as attributes and is no mapping."""


def attributes_of(given: object, more: Mapping[str, Any]) -> Event:
    """One cleaned dict of what was given as a mapping and as keywords. Never raises."""
    attributes: Event = {}
    if given is not None:
        try:
            pairs = [(name, value) for name, value in list(given.items())]  # type: ignore[attr-defined]
        except Exception:
            pairs = [(UNNAMED, given)]
        for name, value in pairs:
            attributes[name if type(name) is str else as_text(name)] = clean(value)
    for name, value in more.items():
        attributes[name] = clean(value)
    return attributes


def _map_texts(value: Any, change: Callable[[str], Any], depth: int = 0) -> Any:
    """A copy with every text changed and everything unusual turned into text."""
    if isinstance(value, str):
        return change(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return clean(value + 0)
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return {change(as_text(k)): _map_texts(v, change, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and depth < MAX_DEPTH:
        return [_map_texts(v, change, depth + 1) for v in value]
    return change(as_text(value))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def encode(event: Event) -> tuple[bytes, bool]:
    """The event's line with its newline, and whether it had to be shortened."""
    try:
        line = _encode(event)
    except Exception:  # lone surrogates, odd keys, cycles: the slow way takes them all
        event = _map_texts(event, _utf8)
        line = _encode(event)
    if len(line) < MAX_LINE:
        return line + b"\n", False
    return _shortened(event) + b"\n", True


def _shortened(event: Event) -> bytes:
    """The event with its longest texts cut until it fits; what is left says so."""
    marked = "metadata" if event.get("type") == "trace" else "attributes"
    for most in (65_536, 4_096, 256):
        cut = _map_texts(event, lambda text, most=most: _cut(text, most))  # type: ignore[misc]
        cut[marked] = {**(cut.get(marked) or {}), TRUNCATED: True}
        line = _encode(cut)
        if len(line) < MAX_LINE:
            return line
    for name in ("events", "links", "input", "output", "exemplars", "bounds", "bucketCounts"):
        cut.pop(name, None)
    cut[marked] = {TRUNCATED: True}
    return _encode(cut)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else _utf8(text[:most]) + "…"
