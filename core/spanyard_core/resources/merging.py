"""A merge patch on a manifest, RFC 7386, as `PATCH` of a resource means it."""

from collections.abc import Mapping
from typing import Any


def merge_patched(old: Any, change: Any) -> Any:
    """Null takes away, objects are merged, everything else replaces. Changes neither of the two."""
    if not isinstance(change, Mapping):
        return change
    merged = dict(old) if isinstance(old, Mapping) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patched(merged.get(name), value)
    return merged
