"""Defaults and checks of a structural schema, as the API server does them; pure.

Written here and not taken from a JSON Schema library: those know neither defaults nor lists that
are maps, pass unknown fields, and speak of `additionalProperties` and regular expressions to a
person who mistyped a word. The part of OpenAPI that CRDs may use is small, and `KEYWORDS` lists
what of it is known here; a test holds the CRDs to it. What an API server removes in silence, an
unknown field, is a problem here.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from spanyard_core.resources.crds import Schema

KEYWORDS = frozenset(
    {
        "type", "description", "example", "default", "enum", "required", "properties",
        "additionalProperties", "items", "format", "minimum", "maximum", "minLength", "maxLength",
        "maxItems", "maxProperties", "x-kubernetes-validations", "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    }
)  # fmt: skip

MAX_VALUES = 100_000
"""In one object. YAML's aliases let a text of 1 kB stand for more than the memory holds."""
MAX_DEPTH = 60
"""Of objects and lists in each other; an Ingress has eight."""

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """Something wrong."""

    path: Path
    what: str
    unknown: bool = False
    """A field that there is not: what is around it can be judged all the same."""


_INTEGERS = {"int32": 2**31, "int64": 2**63}
_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def filled(value: Any, schema: Schema) -> Any:
    """A copy with the defaults in it; nulls go, except in lists, as in the API server.

    Parts that the schema does not describe are not copied.
    """
    if isinstance(value, Mapping):
        properties: Mapping[str, Schema] = schema.get("properties", {})
        more: Schema | None = schema.get("additionalProperties")
        made: dict[str, Any] = {}
        for name, inner in value.items():
            part = properties.get(name, more)
            if part is None:
                made[name] = inner
            elif inner is not None:
                made[name] = filled(inner, part)
        for name, part in properties.items():
            if name not in made and "default" in part:
                made[name] = filled(part["default"], part)
        return made
    if isinstance(value, list) and "items" in schema:
        return [filled(item, schema["items"]) for item in value]
    return value


def oversize(value: Any) -> str:
    """Why a value is too large to look at; empty when it is not. Aliases are counted as copies."""
    sizes: dict[int, int] = {}
    too_deep = f"is nested deeper than {MAX_DEPTH} levels"

    def size(part: Any, depth: int) -> int:
        if not isinstance(part, (Mapping, list)):
            return 1
        if depth > MAX_DEPTH or sizes.get(id(part)) == 0:  # 0: it is inside itself
            raise OverflowError(too_deep)
        if id(part) not in sizes:
            sizes[id(part)] = 0
            inner = part.values() if isinstance(part, Mapping) else part
            sizes[id(part)] = 1 + sum(size(item, depth + 1) for item in inner)
        return sizes[id(part)]

    try:
        return f"has more than {MAX_VALUES} values" if size(value, 0) > MAX_VALUES else ""
    except OverflowError:
        return too_deep


def problems(value: Any, schema: Schema, path: Path = (), *, root: Schema) -> Iterator[Problem]:
    """All that is wrong with a value; `root` is where a mistyped field is looked for."""
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            yield Problem(path, f"is {shown(value)}, must be a text or a whole number")
            return
    elif (expected := schema.get("type")) and not _has_type(value, expected):
        yield Problem(
            path, f"is {shown(value)}, must be {_NAMES[expected]}{_hint(value, expected)}"
        )
        return
    if "enum" in schema and value not in schema["enum"]:
        allowed = schema["enum"]
        words = ", ".join(f"`{word}`" for word in allowed)
        yield Problem(path, f"is {shown(value)}, must be one of {words}{_meant(value, allowed)}")
    yield from _limits(value, schema, path)
    if isinstance(value, Mapping):
        yield from _object(value, schema, path, root)
    elif isinstance(value, list):
        yield from _list(value, schema, path, root)


def _object(
    value: Mapping[str, Any], schema: Schema, path: Path, root: Schema
) -> Iterator[Problem]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    more: Schema | None = schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            about = _sentence(properties[name].get("description", ""))
            yield Problem((*path, name), f"is missing{': ' + about if about else ''}")
    for name, inner in value.items():
        part = properties.get(name, more)
        if part is not None:
            yield from problems(inner, part, (*path, name), root=root)
        elif schema.get("x-kubernetes-preserve-unknown-fields"):
            yield from _no_json(inner, (*path, name))
        else:
            what = f"is no field here{_other_field(name, path, properties, root)}"
            yield Problem((*path, name), what, unknown=True)


def _no_json(value: Any, path: Path) -> Iterator[Problem]:
    """What is passed on is JSON at least."""
    if isinstance(value, (Mapping, list)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _no_json(item, (*path, key))
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"is {shown(value)}, which is no JSON")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield Problem(path, f"is {shown(value)}, must fit into 64 bits")
    elif value is not None and not isinstance(value, (str, int, float)):
        yield Problem(path, f"is {shown(value)}, which is no JSON")


def _list(value: Sequence[Any], schema: Schema, path: Path, root: Schema) -> Iterator[Problem]:
    for index, item in enumerate(value):
        yield from problems(item, schema["items"], (*path, index), root=root)
    keys = schema.get("x-kubernetes-list-map-keys", ())
    is_set = schema.get("x-kubernetes-list-type") == "set"
    seen: dict[object, int] = {}
    for index, item in enumerate(value):
        identity = item if is_set else item_key(item, keys)
        if identity is None or not isinstance(identity, (str, int, tuple)):
            continue
        first = seen.setdefault(identity, index)
        if first != index:
            told = item if is_set else ", ".join(str(part) for part in item_key(item, keys) or ())
            yield Problem(
                (*path, index), f"`{told}` is there already, as number {first + 1} of the list"
            )


def item_key(item: object, keys: Sequence[str]) -> tuple[Any, ...] | None:
    """What identifies an item of a list that is a map; None when there is no such thing."""
    if not keys or not isinstance(item, Mapping) or not all(key in item for key in keys):
        return None
    values = tuple(item[key] for key in keys)
    return values if all(isinstance(value, (str, int)) for value in values) else None


def _limits(value: Any, schema: Schema, path: Path) -> Iterator[Problem]:
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield Problem(path, "must not be empty")
        if len(value) > schema.get("maxLength", len(value)):
            yield Problem(path, f"has {len(value)} characters, may have {schema['maxLength']}")
        if schema.get("format") == "date-time" and not _DATE_TIME.fullmatch(value):
            yield Problem(path, f"is {shown(value)}, must be a time such as 2026-11-21T14:45:00Z")
        if "\0" in value:  # rules see what stands before it; no process, no file takes it
            yield Problem(path, "has a NUL character, which no process and no file takes")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        bound = _INTEGERS.get(schema.get("format", "int64"), 2**63)
        low, high = schema.get("minimum", -bound), schema.get("maximum", bound - 1)
        if not low <= value <= high:
            if {"minimum", "maximum"} <= schema.keys():
                yield Problem(path, f"is {shown(value)}, must be from {low} to {high}")
            elif value < low:
                yield Problem(path, f"is {shown(value)}, must be at least {low}")
            else:
                yield Problem(path, f"is {shown(value)}, must be at most {high}")
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield Problem(path, f"has {len(value)} entries, may have {schema['maxItems']}")
    elif isinstance(value, Mapping) and len(value) > schema.get("maxProperties", len(value)):
        yield Problem(path, f"has {len(value)} entries, may have {schema['maxProperties']}")


# --- words -------------------------------------------------------------------------------------

_NAMES = {
    "object": "an object with fields",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def _has_type(value: object, expected: str) -> bool:
    match expected:
        case "object":
            return isinstance(value, Mapping)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case _:
            return isinstance(value, (int, float)) and not isinstance(value, bool)


def _hint(value: object, expected: str) -> str:
    if expected == "string" and isinstance(value, (int, float)):
        return ": put it in quotes"
    if expected in {"integer", "number", "boolean"} and isinstance(value, str):
        return ": write it without quotes"
    if expected == "array":
        return ": begin each entry with `- `"
    return ""


def shown(value: object) -> str:
    """A value in a message, short."""
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = str(value)
    return f"`{text if len(text) <= 80 else text[:79] + '…'}`"


def place(path: Path) -> str:
    """`spec.env[0].name`, `spec.nodeSelector[example.com/disk]`."""
    text = ""
    for part in path:
        if isinstance(part, int) or not _PLAIN_KEY.fullmatch(part):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _sentence(description: str) -> str:
    first = re.split(r"(?<=\.)\s", description.strip(), maxsplit=1)[0]
    return first[:1].lower() + first[1:].rstrip(".") if first else ""


def _meant(value: object, allowed: Sequence[str]) -> str:
    close = _closest(value, allowed)
    return f"; did you mean `{close}`?" if close else ""


def _closest(word: object, among: Sequence[str]) -> str | None:
    if not isinstance(word, str):
        return None
    lower = {name.lower(): name for name in among}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def _other_field(name: str, path: Path, here: Mapping[str, Schema], root: Schema) -> str:
    close = _closest(name, list(here))
    elsewhere = sorted(_paths_of(name, root, ()), key=len)
    if close and (close.lower() == name.lower() or not elsewhere):
        return f"; did you mean `{place((*path, close))}`?"
    if elsewhere:
        return f"; did you mean `{place(elsewhere[0])}`?"
    return f"; there are {', '.join(f'`{field}`' for field in here)}" if here else ""


def _paths_of(name: str, schema: Schema, path: Path) -> Iterator[Path]:
    """Where a field of this name is, not below lists and not in the status."""
    for field, part in schema.get("properties", {}).items():
        if path or field == "spec":
            if field == name:
                yield (*path, field)
            yield from _paths_of(name, part, (*path, field))
