"""Query parameters: one table that parsing, error messages and the OpenAPI document share."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, get_args

from spanyard_core.errors import SettingError
from spanyard_core.records import LEVELS, SIGNALS
from spanyard_gateway.items import TimelineKind

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h|d)")
_UNIT_NS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9,
    "h": 3_600 * 10**9, "d": 86_400 * 10**9,
}  # fmt: skip
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})"
)
MAX_LIMIT = 1_000
MAX_BUCKETS = 500
MAX_IDS = 100
QUERY_EXAMPLE = 'level:error "time out" -health'
QUERY_HELP = (
    'A search (docs/search.md): words, "phrases", `-not`, `OR`, parentheses, `field:value`, '
    "`field:>1s`, `@attribute:value`, `word*`."
)


def duration_ns(text: str) -> int:
    """`250ms`, `1.5s`, `2h` as nanoseconds."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError("is not a duration such as 250ms, 1.5s, 10m, 2h or 7d")
    ns = round(float(match[1]) * _UNIT_NS[match[2]])
    if ns >= 2**63:
        raise ValueError("is longer than 292 years")
    return ns


def time_ns(text: str, now_ns: int) -> int:
    """RFC 3339 with a zone, or a duration before now (`15m`, `-15m`), as ns since the epoch."""
    if _DURATION.fullmatch(text.removeprefix("-")):
        return _in_range(now_ns - duration_ns(text.removeprefix("-")))
    match = _RFC3339.fullmatch(text)
    if not match:
        raise ValueError(
            "is not a time such as 2026-11-21T14:45:00Z, nor a duration before now such as 15m"
        )
    zone = "+00:00" if match[3] in "Zz" else match[3]
    try:
        whole = datetime.fromisoformat(match[1].replace(" ", "T").upper() + zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a time: {error}") from error
    return _in_range(int(whole.timestamp()) * 10**9 + int((match[2] or "").ljust(9, "0")))


def _in_range(ns: int) -> int:
    if not 0 <= ns < 2**63:
        raise ValueError("is outside the years 1970 to 2262")
    return ns


def _offset(text: str, _now: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise ValueError("is not a number of bytes")
    return int(text)


def _text(text: str, _now: int) -> str:
    if not text:
        raise ValueError("is empty; leave it out instead")
    if len(text) > 1_000:
        raise ValueError("is longer than 1000 characters")
    return text


def _query(text: str, _now: int) -> str:
    """Read where its fields are known; all spaces is no query."""
    return text.strip() and text


def _whole(most: int) -> Callable[[str, int], int]:
    def parse(text: str, _now: int) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not digits or not 1 <= int(text) <= most:
            raise ValueError(f"is not a whole number from 1 to {most}")
        return int(text)

    return parse


def _one_of(*allowed: str) -> Callable[[str, int], str]:
    def parse(text: str, _now: int) -> str:
        if text not in allowed:
            raise ValueError("is not one of " + ", ".join(allowed))
        return text

    return parse


def _some_of(*allowed: str) -> Callable[[str, int], list[str]]:
    def parse(text: str, _now: int) -> list[str]:
        values = text.split(",")
        for value in values:
            if value not in allowed:
                raise ValueError(f"has {value[:40]!r}, which is not one of " + ", ".join(allowed))
        return values

    return parse


def _hex(digits: int) -> Callable[[str, int], str]:
    def parse(text: str, _now: int) -> str:
        # Applications that bring their own ids are not held to OpenTelemetry's 16 and 32 digits.
        return _lower_hex(_text(text, _now), digits)

    return parse


def _lower_hex(text: str, digits: int) -> str:
    return text.lower() if re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", text) else text


def _span_ids(text: str, _now: int) -> list[str]:
    ids = [span_id(one) for one in text.split(",") if one]
    if not 1 <= len(ids) <= MAX_IDS:
        raise ValueError(f"are not 1 to {MAX_IDS} ids, separated by commas")
    return ids


def trace_id(text: str) -> str:
    """A trace's id as it is stored: OpenTelemetry's in lower case, others as they are."""
    return _lower_hex(text, 32)


def span_id(text: str) -> str:
    """A span's id as it is stored."""
    return _lower_hex(text, 16)


def _duration(text: str, _now: int) -> int:
    return duration_ns(text)


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter: its name, what it means, how it is read."""

    name: str
    description: str
    parse: Callable[[str, int], Any]
    schema: Mapping[str, Any]
    default: Any = None
    required: bool = False


_STRING = {"type": "string"}
_TIME = {"type": "string", "examples": ["2026-11-21T14:45:00Z", "15m"]}


def _enum(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


ALL_PARAMS = {
    p.name: p
    for p in (
        Param(
            "limit",
            f"Rows in a page, or values of each field, at most {MAX_LIMIT}.",
            _whole(MAX_LIMIT),
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100},
            default=100,
        ),
        Param("cursor", "`nextCursor` of the page before; same filters.", _text, _STRING),
        Param(
            "order",
            "Newest first (`desc`) or oldest first (`asc`).",
            _one_of("asc", "desc"),
            {**_enum("asc", "desc"), "default": "desc"},
            default="desc",
        ),
        Param("from", "From this time on: RFC 3339, or a duration before now.", time_ns, _TIME),
        Param("to", "Before this time: RFC 3339, or a duration before now.", time_ns, _TIME),
        Param(
            "level",
            "One or several levels, separated by commas.",
            _some_of(*LEVELS),
            {"type": "string", "examples": ["warn,error,fatal"]},
        ),
        Param("service", "OpenTelemetry's `service.name`.", _text, _STRING),
        Param("deployment", "Name of the Deployment.", _text, _STRING),
        Param("build", "Id of the build, `{namespace}.{name}`.", _text, _STRING),
        Param("pod", "Name of the pod.", _text, _STRING),
        Param(
            "revision",
            "Revision of the Deployment: its number, in a cluster the hash in the names of its pods.",
            _text,
            _STRING,
        ),
        Param(
            "buckets",
            f"Pieces that the time is cut into: as many as are round, at most these, and {MAX_BUCKETS}.",
            _whole(MAX_BUCKETS),
            {"type": "integer", "minimum": 1, "maximum": MAX_BUCKETS, "default": 60},
            default=60,
        ),
        Param(
            "attribute",
            "Key of an attribute whose values make series of their own.",
            _text,
            _STRING,
        ),
        Param(
            "by",
            "What makes a series of its own.",
            _one_of("none", "deployment", "revision"),
            {**_enum("none", "deployment", "revision"), "default": "none"},
            default="none",
        ),
        Param("container", "Name of the container.", _text, _STRING),
        Param(
            "stream",
            "`stdout`, `stderr`, `otlp` or `file`.",
            _one_of("stdout", "stderr", "otlp", "file"),
            _enum("stdout", "stderr", "otlp", "file"),
        ),
        Param("writer", "One source of records: a container's run, a file, …", _text, _STRING),
        Param("name", "Exact name of the span, trace, metric or score.", _text, _STRING),
        Param(
            "status",
            "Status of the span or trace.",
            _some_of("ok", "error", "unset"),
            {"type": "string", "examples": ["error"]},
        ),
        Param(
            "kind",
            "Kind of the span.",
            _one_of("internal", "server", "client", "producer", "consumer"),
            _enum("internal", "server", "client", "producer", "consumer"),
        ),
        Param(
            "metricKind",
            "Kind of the metric.",
            _one_of("counter", "gauge", "histogram", "updowncounter"),
            _enum("counter", "gauge", "histogram", "updowncounter"),
        ),
        Param("traceId", "Records of this trace.", _hex(32), _STRING),
        Param("spanId", "Records of this span.", _hex(16), _STRING),
        Param("parentSpanId", "Children of this span.", _hex(16), _STRING),
        Param(
            "ids",
            f"Ids of spans, separated by commas; at most {MAX_IDS}.",
            _span_ids,
            {"type": "string", "examples": ["00f067aa0ba902b7,53995c3f42cd8ad8"]},
        ),
        Param(
            "minDuration",
            "Spans at least this long, such as `250ms`.",
            _duration,
            {"type": "string", "examples": ["250ms"]},
        ),
        Param(
            "maxDuration",
            "Spans at most this long, such as `2s`.",
            _duration,
            {"type": "string", "examples": ["2s"]},
        ),
        Param("text", "Text within the message or name, any case.", _text, _STRING),
        Param("q", QUERY_HELP, _query, {"type": "string", "examples": [QUERY_EXAMPLE]}),
        Param(
            "open",
            "`true`: only unfinished spans; `false`: only finished ones; without it both.",
            _one_of("true", "false"),
            _enum("true", "false"),
        ),
        Param(
            "minValue",
            "Values not below this number.",
            lambda t, _n: _number(t),
            {"type": "number"},
        ),
        Param(
            "maxValue",
            "Values not above this number.",
            lambda t, _n: _number(t),
            {"type": "number"},
        ),
        Param(
            "namespace",
            "Namespace whose rights count; has to be said where the gateway asks who you are.",
            _text,
            _STRING,
        ),
        Param("project", "Id of the project, `{namespace}.{name}`.", _text, _STRING),
        Param(
            "state",
            "What became of it.",
            _one_of("open", "replayed", "deleted"),
            _enum("open", "replayed", "deleted"),
        ),
        Param(
            "kinds",
            "One or several kinds of entries, separated by commas.",
            _some_of(*get_args(TimelineKind)),
            {"type": "string", "examples": ["build,revision,server:log"]},
        ),
        Param(
            "notable",
            "`false`: all lines and root spans, not the notable alone.",
            _one_of("true", "false"),
            {**_enum("true", "false"), "default": "true"},
            default="true",
        ),
        Param(
            "dryRun",
            "`true`: check and tell, change nothing.",
            _one_of("true", "false"),
            {**_enum("true", "false"), "default": "false"},
        ),
        Param(
            "format",
            "Form of the file: `jsonl` or `parquet`.",
            _one_of("jsonl", "parquet"),
            {**_enum("jsonl", "parquet"), "default": "jsonl"},
        ),
        Param(
            "offset",
            "Bytes at the beginning that are not needed.",
            _offset,
            {"type": "integer", "minimum": 0},
        ),
        Param("prefix", "sha256 (hex) of those bytes.", _text, _STRING),
        Param("fingerprint", "Fingerprint of a file.", _text, _STRING),
        Param(
            "signal",
            "Kind of records.",
            _one_of(*SIGNALS),
            _enum(*SIGNALS),
        ),
    )
}


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        raise ValueError("is not a finite number")
    return value


ATTRIBUTE_PREFIX = "attr."
ATTRIBUTE_HELP = (
    "Any attribute, by `attr.{key}=value`: `attr.gen_ai.request.model=gpt-4o`. May be repeated "
    "with different keys; all must hold."
)


@dataclass(frozen=True, slots=True)
class Query:
    """The parsed parameters of one request."""

    values: Mapping[str, Any]
    attributes: Mapping[str, str]
    relative: Mapping[str, str] = field(default_factory=dict)
    """Times that were given as a duration before now, as they were given."""

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    @property
    def limit(self) -> int:
        limit: int = self.values["limit"]
        return limit

    @property
    def search(self) -> str | None:
        """The query in the query language; None where there is none."""
        return self.values.get("q") or None

    @property
    def one_trace(self) -> bool:
        """Whether it asks for what belongs to one trace or span."""
        return self["traceId"] is not None or self["spanId"] is not None

    @property
    def descending(self) -> bool:
        return bool(self.values.get("order", "desc") == "desc")

    def between(self, start: int, end: int) -> "Query":
        """The same with other times, in ns."""
        return replace(self, values={**self.values, "from": start, "to": end})

    def scope(self) -> list[tuple[str, str]]:
        """What a cursor of this query is bound to: all but the page itself.

        A duration before now is another time on each page, and the same filter.
        """
        own = [
            (k, self.relative.get(k) or str(v))
            for k, v in self.values.items()
            if k not in {"cursor", "limit"} and v is not None
        ]
        return sorted(own + [(ATTRIBUTE_PREFIX + k, v) for k, v in self.attributes.items()])


def parse_query(
    items: Iterable[tuple[str, str]], names: Iterable[str], *, attributes: bool, now_ns: int
) -> Query:
    """Read the parameters that an endpoint takes. Raises SettingError naming the parameter."""
    allowed = {name: ALL_PARAMS[name] for name in names}
    values: dict[str, Any] = {p.name: p.default for p in allowed.values()}
    attribute_values: dict[str, str] = {}
    relative: dict[str, str] = {}
    seen: set[str] = set()
    for name, text in items:
        if name in seen:
            raise SettingError(f"{name[:80]}: given twice")
        seen.add(name)
        if attributes and name.startswith(ATTRIBUTE_PREFIX) and len(name) > len(ATTRIBUTE_PREFIX):
            attribute_values[name.removeprefix(ATTRIBUTE_PREFIX)] = text
            continue
        param = allowed.get(name)
        if param is None:
            more = f", {ATTRIBUTE_PREFIX}{{key}}" if attributes else ""
            raise SettingError(
                f"{name[:80]}: no such parameter here; known are {', '.join(allowed)}{more}"
            )
        try:
            values[name] = param.parse(text, now_ns)
        except ValueError as error:
            raise SettingError(f"{name}: {text[:80]!r} {error}") from error
        if param.parse is time_ns and _DURATION.fullmatch(text.removeprefix("-")):
            relative[name] = text
    for param in allowed.values():
        if param.required and values[param.name] is None:
            raise SettingError(f"{param.name}: missing. {param.description}")
    start, end = values.get("from"), values.get("to")
    if start is not None and end is not None and start >= end:
        raise SettingError("from: not before `to`, so nothing can match")
    return Query(values, attribute_values, relative)
