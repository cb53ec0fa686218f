"""Shrink: a record too large for a line keeps its place, with its longest texts cut.

An agent's span may carry a whole image as an input. Refusing it would take the step out of its
trace; so texts are cut, from the longest on, and the record says so in the attribute
`spanyard.cut`: its size in bytes before.
"""

from typing import Any

import msgspec

MAX_LINE = 1_900_000
"""Bytes of one record's line; the ingester's scan refuses lines over 2 MiB."""
_STEPS = (256 * 1024, 32 * 1024, 2048)
"""Characters that are left of a text, tried one after the other."""
CUT = "spanyard.cut"


def shrunk(line: Any, size: int) -> bytes | None:
    """The line's encoding with texts cut so that it fits; None when nothing helps."""
    for most in _STEPS:
        small = msgspec.structs.replace(
            line, **{name: _cut(getattr(line, name), most) for name in line.__struct_fields__}
        )
        small.attributes = small.attributes | {CUT: size}
        encoded = msgspec.json.encode(small)
        if len(encoded) <= MAX_LINE:
            return encoded
    return None


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= most else value[:most] + "…"
    if isinstance(value, dict):
        return {_cut(key, most): _cut(item, most) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, most) for item in value]
    if isinstance(value, msgspec.Raw):
        return _cut(msgspec.json.decode(value), most)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{name: _cut(getattr(value, name), most) for name in value.__struct_fields__}
        )
    return value
