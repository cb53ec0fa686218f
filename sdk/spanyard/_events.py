"""Events as applications give them to `ObservabilityWriter` (T1): checked, completed, encoded."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from spanyard._encode import Event, clean, encode
from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import check_project
from spanyard_core.records import LINE_TYPES, Signal

SIGNAL_OF: dict[str, Signal] = {
    "trace": "traces",
    "span": "spans",
    "log": "logs",
    "metric": "metrics",
    "score": "scores",
}
"""Type of an event → its folder."""

_TIMES = ("timestamp", "startTime", "endTime", "recordedAt")
_TIME_RE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)
_STAMPED = {
    *("project", "writer", "seq", "uid", "deployment", "build", "pod", "container", "stream"),
    "marks",
}
_DEFAULTS: dict[str, Event] = {
    "trace": {"endTime": None},
    "span": {"endTime": None},
    "log": {"level": "info"},
    "metric": {"kind": "gauge"},
    "score": {},
}


def _fields(kind: str) -> set[str]:
    line_type = LINE_TYPES[SIGNAL_OF[kind]]
    return (set(line_type.__struct_encode_fields__) - _STAMPED) | {"type", "id", "projectId"}


_KNOWN = {kind: _fields(kind) for kind in SIGNAL_OF}


def camel(name: str) -> str:
    """`trace_id` → `traceId`; camelCase stays."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def _time(kind: str, name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadRecordError(f"{kind}: {name} has no time zone; use datetime.now(UTC)")
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    if value is None and name == "endTime":
        return None
    try:
        if _TIME_RE.fullmatch(value):
            datetime.fromisoformat(value[:19])  # refuses the 31st of February
            return value
    except (TypeError, ValueError):
        pass
    raise BadRecordError(
        f"{kind}: {name} {str(value)[:80]!r} is not a time in UTC like 2026-11-21T14:45:00.123Z"
    )


def checked(
    kind: str, given: Mapping[str, Any], *, project: str, now: str
) -> tuple[Signal, str, bytes]:
    """Signal, project and line of an event. Raises BadRecordError that names type and field.

    `project` stands in where the event has no `projectId`, `now` where it has no time of its own.
    """
    if kind not in SIGNAL_OF:
        raise BadRecordError(
            f"type {str(kind)[:80]!r} is not an event; known are {', '.join(SIGNAL_OF)}"
        )
    if given.get("type", kind) != kind:
        raise BadRecordError(f"{kind}: its type says {str(given['type'])[:80]!r}")
    event: Event = {"type": kind, **_DEFAULTS[kind], **{camel(k): v for k, v in given.items()}}
    unknown = sorted(set(event) - _KNOWN[kind])
    if unknown:
        raise BadRecordError(
            f"{kind}: there is no field {unknown[0][:80]!r}; what is yours goes into "
            f"{'metadata' if kind == 'trace' else 'attributes'}"
        )
    event["projectId"] = check_project(str(event.get("projectId") or project))
    event.setdefault("startTime" if kind in {"trace", "span"} else "timestamp", now)
    event["recordedAt"] = event.get("recordedAt") or now
    for name in _TIMES:
        if name in event and not (name == "startTime" and kind == "metric" and not event[name]):
            event[name] = _time(kind, name, event[name])
    event = clean(event)
    _check_types(kind, event)
    if kind not in {"trace", "span"} and "id" in event:
        # Stored logs, metrics and scores are identified by object and line; yours is kept beside.
        event["attributes"] = {"id": event.pop("id"), **event.get("attributes", {})}
    return SIGNAL_OF[kind], event["projectId"], encode(event)[0]


def _check_types(kind: str, event: Event) -> None:
    fields = {k: v for k, v in event.items() if k != "projectId"}
    if kind not in {"trace", "span"}:
        fields.pop("id", None)
    try:
        msgspec.convert(
            {**fields, "project": event["projectId"], "writer": "-", "seq": 1},
            LINE_TYPES[SIGNAL_OF[kind]],
        )
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadRecordError(f"{kind}: {error}") from None
    for name in ("attributes", "resource", "metadata"):
        if not isinstance(event.get(name, {}), dict):
            raise BadRecordError(f"{kind}: {name} is not an object")
