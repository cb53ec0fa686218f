"""Cursors: where a page ended, so that the next one begins there, whatever was stored meanwhile.

A cursor is the sort key of the last row, bound to the filters of its query: used with others it
would skip or repeat rows in silence, so it is refused instead. Opaque to clients, not secret.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence

import msgspec

from spanyard_core.errors import SettingError

_MOST = 2**63 - 1
"""Of the numbers in a position: nanoseconds and `seq`."""


class _Cursor(msgspec.Struct, array_like=True):
    version: int
    scope: str
    position: list[int | str]


def scope_of(*parts: object) -> str:
    """A short digest of what a cursor is valid for: endpoint, project and filters."""
    return hashlib.sha256(msgspec.json.encode([str(p) for p in parts])).hexdigest()[:12]


def encode_cursor(scope: str, position: Sequence[int | str]) -> str:
    """The text that a client sends back as `cursor`."""
    raw = msgspec.json.encode(_Cursor(1, scope, list(position)))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(text: str, scope: str, kinds: Sequence[type]) -> list[int | str]:
    """The position behind `text`. Raises SettingError when it is not one of this query's."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(raw, type=_Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise SettingError(
            "cursor: not a cursor of this API; leave it out to begin at the first page"
        ) from error
    if cursor.version != 1 or cursor.scope != scope:
        raise SettingError(
            "cursor: made by a query with other filters; leave it out to begin at the first page"
        )
    if len(cursor.position) != len(kinds) or not all(
        isinstance(value, kind) and (isinstance(value, str) or 0 <= value <= _MOST)
        for value, kind in zip(cursor.position, kinds, strict=True)
    ):
        raise SettingError("cursor: not a cursor of this query; leave it out")
    return cursor.position
