"""The tests of a bound query on values in memory, with the answers that their SQL gives."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from spanyard_gateway.search.bound import (
    Begins,
    Compare,
    Equals,
    Part,
    Present,
    Test,
    Words,
)
from spanyard_gateway.search.words import folded, line_of_words, once_per_text

_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_LARGEST_WHOLE = 1e21
"""From here on the engine writes a float with an exponent."""


def text_test(test: Test) -> Callable[[str], bool]:
    """Whether a text meets the condition."""
    match test:
        case Words(words, prefix):
            line = b" " + " ".join(words).encode() + (b"" if prefix else b" ")
            last = words[-1].encode()
            # Most texts have not even the last word: a look at each costs less than dividing them.
            return lambda text: last in folded(text) and line in line_of_words(text)
        case Part(text=part):
            wanted = _lowered(part)
            return lambda text: wanted in _lowered(text)
        case Equals(texts):
            known = frozenset(texts)
            return lambda text: text in known
        case Begins(text=start):
            return lambda text: text.startswith(start)
        case Present():
            return bool
        case Compare():
            compared = number_test(test)
            return lambda text: bool(_DECIMAL.fullmatch(text)) and compared(float(text))
        case _:
            raise AssertionError(f"{test} is no test of a text")


def number_test(test: Compare) -> Callable[[float], bool]:
    """Whether a number meets the condition."""
    wanted = test.number
    match test.sign:
        case "=":
            return lambda number: number == wanted
        case ">":
            return lambda number: number > wanted
        case ">=":
            return lambda number: number >= wanted
        case "<":
            return lambda number: number < wanted
        case "<=":
            return lambda number: number <= wanted


@once_per_text
def _lowered(text: str) -> str:
    """Letter by letter, as the engine does: none becomes two, none looks at its neighbours.

    In Python `İ` alone becomes two, and `Σ` alone looks (Unicode's SpecialCasing.txt).
    """
    if text.isascii():
        return text.lower()
    return "İ".join(part.lower() for part in text.replace("Σ", "σ").split("İ"))


def attribute_text(value: Any) -> str:
    """An attribute's value as the engine has it in a map of texts."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            if value.is_integer() and abs(value) < _LARGEST_WHOLE:
                return str(int(value))
            digits, _, power = repr(value).partition("e")
            return f"{digits}e{int(power)}" if power else digits
        case str():
            return _quoted(value)
        case dict():
            return f"{{{','.join(f'{_quoted(k)}:{_json(v)}' for k, v in value.items())}}}"
        case list():
            return f"[{','.join(map(_json, value))}]"
        case _:
            return str(value)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
