"""Names of the objects that `ObservabilityWriter` makes: `{type}/{projectId}/{time}_{unique}.jsonl`.

Keys are relative to the storage's URL: `observability/logs/team.shop/20261121T144500Z_…jsonl`
waits to be loaded, the same below `processed/` was loaded.
"""

import re
from dataclasses import dataclass

from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import PENDING, PROCESSED, PlainName, parse_key
from spanyard_core.records import Signal

_NAME_RE = re.compile(r"(?P<time>\d{8}T\d{6}Z)_(?P<unique>[A-Za-z0-9-]{1,100})", re.ASCII)


@dataclass(frozen=True, slots=True)
class EventFileName:
    """What the name of an event file says."""

    signal: Signal
    project: str
    time: str
    """When its first event was recorded, `20261121T144500Z`."""
    unique: str
    root: str = PENDING

    @property
    def file(self) -> str:
        """The name below the base: `logs/team.shop/20261121T144500Z_….jsonl`."""
        return f"{self.signal}/{self.project}/{self.time}_{self.unique}.jsonl"

    @property
    def pending(self) -> str:
        """The key while it waits to be loaded."""
        return f"{PENDING}/{self.file}"

    @property
    def processed(self) -> str:
        """The key after it was loaded."""
        return f"{PROCESSED}/{self.file}"


def parse_event_file(key: str) -> EventFileName:
    """The name behind a key. Raises BadRecordError, which says what does not fit."""
    name = parse_key(key)
    match = isinstance(name, PlainName) and _NAME_RE.fullmatch(name.name)
    if not isinstance(name, PlainName) or not match:
        raise BadRecordError(
            f"object {key[:200]!r} is not named {{type}}/{{projectId}}/{{time}}_{{unique}}.jsonl"
        )
    return EventFileName(name.signal, name.project, match["time"], match["unique"], name.root)


def pending_key(key: str) -> str:
    """Where the object of this key waits, or waited, to be loaded. Raises BadRecordError."""
    return parse_event_file(key).pending


def processed_key(key: str) -> str:
    """Where the object of this key is after it was loaded. Raises BadRecordError."""
    return parse_event_file(key).processed


def is_pending(key: str) -> bool:
    """Whether this is the key of an event file that waits to be loaded."""
    try:
        return parse_event_file(key).root == PENDING
    except BadRecordError:
        return False


def is_processed(key: str) -> bool:
    """Whether this is the key of an event file that was loaded."""
    try:
        return parse_event_file(key).root == PROCESSED
    except BadRecordError:
        return False
