"""Events of span files to stored lines: checked, and stamped with whose they are.

The types come from `spanyard_core.records`, less what the collector stamps; what a line claims of
that is ignored. A line that is no event of its file's signal is not dropped and not told as a gap,
which has room for a hint only: it goes on with its number and its text under names that no record
has. So the ingester refuses it into quarantine, where it can be read, corrected and replayed.
"""

from typing import Any

import msgspec

from spanyard_core.errors import BadRecordError
from spanyard_core.records import LINE_TYPES, Line, Signal
from spanyard_sidecar.cri_time import normal_time, time_ns
from spanyard_sidecar.lines import hex_id, is_too_deep
from spanyard_sidecar.model import Identity

MAX_EVENT = 1024 * 1024
"""Bytes of a line, its newline included (docs/span-files.md, rule 4)."""

STREAM = "file"
_STAMPED = {
    *("project", "writer", "seq", "uid", "deployment", "build", "pod", "container", "stream"),
    "marks",
}
_AS_WRITTEN = {"attributes", "resource", "metadata", "input", "output"}
"""Fields whose JSON is kept as it was written."""
_OBJECTS = ("attributes", "resource", "metadata")
_TIMES = ("timestamp", "start_time", "end_time", "recorded_at")
_GIVEN: dict[Signal, tuple[str, ...]] = {
    "traces": ("id",), "spans": ("id", "trace_id"), "metrics": ("name",), "scores": ("name",),
    "logs": (),
}  # fmt: skip
_MOST = 2**64 - 1
_NOTHING = msgspec.Raw(b"")


def _event_type(signal: Signal, kind: type[Line]) -> Any:
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        if field.name in _STAMPED:
            continue
        if field.name in _AS_WRITTEN:
            fields.append((field.name, msgspec.Raw, _NOTHING))
        elif field.required:
            fields.append((field.name, field.type))
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append(
                (field.name, field.type, msgspec.field(default_factory=field.default_factory))
            )
        else:
            fields.append((field.name, field.type, field.default))
    return msgspec.defstruct(
        f"{kind.__name__}Event",
        fields,
        tag_field="type",
        tag=kind.__struct_config__.tag,
        rename="camel",
        omit_defaults=True,
        kw_only=True,
    )


_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.encode


class EventLines:
    """The lines of one span file."""

    def __init__(self, identity: Identity, writer: str, signal: Signal, *, service: str) -> None:
        kind = LINE_TYPES[signal]
        self._signal = signal
        self._tag = str(kind.__struct_config__.tag)
        event = _event_type(signal, kind)
        self._decode = msgspec.json.Decoder(event).decode
        names = {field.name for field in msgspec.structs.fields(event)}
        self._times = tuple(name for name in _TIMES if name in names)
        self._ids = tuple(
            (name, 32 if name == "trace_id" else 16)
            for name in ("trace_id", "span_id", "parent_span_id")
            if name in names
        )
        self._time = "start_time" if signal in {"spans", "traces"} else "timestamp"
        self._service = service
        stamp = {
            "project": identity.project,
            "writer": writer,
            "uid": identity.uid,
            "deployment": identity.deployment,
            "build": identity.build,
            "pod": identity.pod,
            "stream": STREAM,
        }
        given = {name: text for name, text in stamp.items() if text}
        self._head = _encode({"type": self._tag, **given})[:-1] + b',"seq":'
        self._skipped = len(_encode({"type": self._tag})) - 1
        """Length of what `_head` replaces in an encoded event."""

    def stamped(self, line: bytes, seq: int) -> tuple[bytes, int]:
        """A stored line and its time in nanoseconds (0: unknown), of one line without its newline."""
        try:
            event = self._checked(line)
        except BadRecordError as error:
            return self.refused(line, seq, str(error)), 0
        if not event.service:
            event.service = self._service
        rest = _encode(event)[self._skipped :]
        return b"%b%d%b\n" % (self._head, seq, rest), time_ns(getattr(event, self._time))

    def refused(self, text: bytes, seq: int, reason: str) -> bytes:
        """A line that the ingester will put into quarantine: what was there, and what is wrong."""
        about = {"unreadable": text.decode(errors="replace"), "reason": reason}
        return b"%b%d,%b\n" % (self._head, seq, _encode(about)[1:])

    def _checked(self, line: bytes) -> Any:
        """The event. Raises BadRecordError with what is wrong."""
        try:
            text = line.decode()
            # All of it, because the typed decoder passes over nonsense in what it skips.
            value = _decode_any(text)
            if type(value) is not dict:
                raise BadRecordError("not a JSON object")
            if is_too_deep(text, value):
                raise BadRecordError("nested too deeply")
            if value.get("type") != self._tag:
                raise BadRecordError(
                    f'type is {str(value.get("type"))[:40]!r}; in this folder it is "{self._tag}"'
                )
            event = self._decode(text)
        except UnicodeDecodeError as error:
            raise BadRecordError(f"invalid UTF-8 at byte {error.start}") from error
        except (ValueError, RecursionError) as error:  # msgspec's, and of numbers without end
            raise BadRecordError(str(error)) from error
        for name in _OBJECTS:
            if type(value.get(name, {})) is not dict:
                raise BadRecordError(f"{name} is not a JSON object")
        self._check_values(event)
        return event

    def _check_values(self, event: Any) -> None:
        for name in _GIVEN[self._signal]:
            if not getattr(event, name):
                raise BadRecordError(f"{_camel(name)} is empty")
        for name in self._times:
            text = getattr(event, name)
            if text:
                normal = normal_time(text)
                if not normal:
                    raise BadRecordError(f"{_camel(name)} {text[:60]!r} is not an RFC 3339 time")
                if normal != text:
                    setattr(event, name, normal)
            elif name == self._time or (name == "end_time" and text is not None):
                raise BadRecordError(f"{_camel(name)} is empty")
        for name, digits in self._ids:
            text = getattr(event, name)
            if text:
                setattr(event, name, hex_id(text, digits) or text)
        if self._signal == "metrics":
            _check_counts([event.count, *event.bucket_counts])


def _check_counts(counts: list[int]) -> None:
    for count in counts:
        if not 0 <= count <= _MOST:
            raise BadRecordError(f"the count {str(count)[:40]} is not within 0 … 2^64 - 1")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
