"""What the API answers with: one type per kind of item; the OpenAPI document is made of these.

Field names are those of T1, camelCase. Times are RFC 3339 in UTC with nine digits.
"""

from typing import Any, Literal

import msgspec

from spanyard_core.resources.api import Applied, ResourceEvent
from spanyard_core.resources.kinds import Build, Deployment, Project


class Item(msgspec.Struct, rename="camel", kw_only=True):
    """Identity of a stored record."""

    record_id: str
    """`{writer}#{seq}`, the same live and stored."""
    project_id: str
    writer: str
    seq: int
    uid: str
    deployment: str
    build: str
    pod: str
    container: str
    stream: str
    service: str
    recorded_at: str


class LogItem(Item, tag_field="type", tag="log"):
    """One log line, OTLP log record, or event of a span (then `spanEvent` is true)."""

    id: str
    timestamp: str
    level: Literal["debug", "info", "warn", "error", "fatal"]
    message: str
    trace_id: str
    span_id: str
    attributes: msgspec.Raw | dict[str, Any]
    marks: list[str]
    span_event: bool = False


class SpanEventItem(msgspec.Struct, rename="camel"):
    """Something that happened inside a span."""

    name: str
    timestamp: str
    attributes: msgspec.Raw | dict[str, Any]


class SpanItem(Item, tag_field="type", tag="span"):
    """One span. Lists leave out attributes, events and links; `/traces/{id}` has them."""

    id: str
    trace_id: str
    parent_span_id: str
    name: str
    start_time: str
    end_time: str | None
    duration_ns: int | None
    status: Literal["ok", "error", "unset"]
    status_message: str
    span_kind: str
    hung: bool = False
    """Unfinished, and nothing was heard of it nor of any span below it for the gateway's
    `hung_after`."""
    lost: bool = False
    """Unfinished, and the process that began it has ended."""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    attributes: msgspec.Raw | dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    events: msgspec.Raw | list[Any] | msgspec.UnsetType = msgspec.UNSET
    links: msgspec.Raw | list[Any] | msgspec.UnsetType = msgspec.UNSET
    resource: msgspec.Raw | dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class TraceItem(msgspec.Struct, rename="camel", kw_only=True, tag_field="type", tag="trace"):
    """One row of a trace list: its root, and sums over its spans."""

    id: str
    project_id: str
    name: str
    service: str
    deployment: str
    start_time: str
    end_time: str | None
    duration_ns: int | None
    status: Literal["ok", "error", "unset"]
    spans: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost: float
    hung: bool = False
    """Unfinished, and nothing was heard of any of its spans for the gateway's `hung_after`."""
    lost: bool = False
    """Unfinished, and the process that began it has ended."""
    scores: dict[str, float | str] = {}
    """The newest value of each name, of the trace and its spans; at most 20 names."""


class TraceDetail(msgspec.Struct, rename="camel", kw_only=True):
    """A trace with all its spans, oldest first; `truncated` when there are more than the limit."""

    id: str
    project_id: str
    start_time: str
    end_time: str | None
    spans: list[SpanItem]
    scores: list["ScoreItem"]
    truncated: bool
    input: msgspec.Raw | Any = None
    output: msgspec.Raw | Any = None
    metadata: msgspec.Raw | Any = None


class MetricItem(Item, tag_field="type", tag="metric"):
    """One data point."""

    id: str
    name: str
    kind: str
    value: float | str
    unit: str
    timestamp: str
    trace_id: str
    span_id: str
    attributes: msgspec.Raw | dict[str, Any]
    count: int
    bounds: list[float]
    bucket_counts: list[int]


class ScoreItem(Item, tag_field="type", tag="score"):
    """A judgement of a trace or span."""

    id: str
    name: str
    value: float | str
    timestamp: str
    trace_id: str
    span_id: str
    comment: str
    attributes: msgspec.Raw | dict[str, Any]


class ProjectItem(msgspec.Struct, rename="camel", kw_only=True):
    """A project: one that is declared, one that has stored records, or both."""

    id: str
    first_day: str | None
    """Day of its first stored record; null: none yet."""
    last_day: str | None
    records: int
    resource: Project | None = None
    """As it was declared; null where only records are known."""


class ProjectDetail(ProjectItem, kw_only=True):
    """One project, with what happened to it."""

    events: list[ResourceEvent] = []


class DeploymentItem(msgspec.Struct, rename="camel", kw_only=True):
    """A deployment: as it is declared, or, where nobody keeps resources, as its logs tell."""

    id: str
    project_id: str
    name: str
    uid: str
    first_seen: str | None = None
    """Time of its first log line; null where the resource tells of it instead."""
    last_seen: str | None = None
    logs: int | None = None
    resource: Deployment | None = None


class DeploymentDetail(DeploymentItem, kw_only=True):
    """One deployment, with what happened to it."""

    events: list[ResourceEvent] = []


class BuildItem(msgspec.Struct, rename="camel", kw_only=True):
    """A build: one that is declared, one that left something in the bucket, or both."""

    id: str
    complete: bool
    """Whether its final `build.log` is there."""
    resource: Build | None = None


class BuildDetail(BuildItem, kw_only=True):
    """One build, with what happened to it."""

    events: list[ResourceEvent] = []


class AppliedList(msgspec.Struct, rename="camel", kw_only=True):
    """What became of each manifest, in their order."""

    applied: list[Applied]


class Deleted(msgspec.Struct, rename="camel", kw_only=True):
    """It will be gone when its cleanup is done."""

    kind: str
    id: str


class SourceArchive(msgspec.Struct, rename="camel", kw_only=True):
    """An archive of sources in the bucket, to be named by a Build as `archive: {digest: …}`."""

    digest: str
    key: str
    size: int | None = None
    """Bytes; null where the storage was not asked."""


TimelineKind = Literal[
    "commit", "build", "build:log", "revision", "event", "server:log", "span", "score"
]


class TimelineItem(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Something that happened to a deployment. What is empty is left out."""

    id: str
    """Its own among all of the timeline."""
    time: str
    kind: TimelineKind
    title: str
    """A step, a commit, the text of a line, the name of a span or score."""
    detail: str = ""
    subject: str = ""
    """Of a commit: the first line of its message."""
    author: str = ""
    """Of a commit: a name."""
    committed_at: str = ""
    """Of a commit: when it was made; `time` is when it was fetched."""
    level: str = ""
    """Of a line."""
    status: str = ""
    """`ok`, `error` or `running` of builds and spans; a revision's state; an Event's type."""
    duration_ns: int | None = None
    count: int = 1
    """How often an Event came; `time` is the last time."""
    value: float | str | None = None
    """Of a score."""
    build_id: str = ""
    revision: str = ""
    """Its number; of a record the one in its pod's name, in a cluster the template's hash."""
    pod: str = ""
    container: str = ""
    trace_id: str = ""
    span_id: str = ""
    record_id: str = ""
    """`{writer}#{seq}` of a line, span or score."""


class TimelinePage(msgspec.Struct, rename="camel", kw_only=True):
    """A page of a timeline; `nextCursor` is null on the last one."""

    items: list[TimelineItem]
    next_cursor: str | None
    partial: str = ""
    """What is missing and why, while ClickHouse is away."""


class QuarantineItem(msgspec.Struct, rename="camel", kw_only=True):
    """A bad line (or, with line 0, a whole object) that was set aside."""

    id: str
    key: str
    signal: str
    project_id: str
    writer: str
    line: int
    offset: int
    reason: str
    size: int
    status: str
    quarantined_at: str
    text: str
    """The first 64 KiB; bytes that are not UTF-8 as U+FFFD."""


class Pruned(msgspec.Struct, rename="camel", kw_only=True):
    """What a pruning deleted, or would delete."""

    writers: int
    """Sources of records that go whole: runs of containers, span files, OTLP of a pod."""
    rows: dict[str, int]
    """By table."""
    objects: int
    size: int
    """Bytes of the objects."""
    running: int
    """Sources that are old enough and have not ended: they stay."""
    waiting: int
    """Sources with objects that are not loaded yet: they stay."""


class WriterProof(msgspec.Struct, rename="camel", kw_only=True):
    """What is known to be stored of one writer (I6)."""

    writer: str
    signal: str
    project_id: str
    deployment: str
    pod: str
    container: str
    state: Literal["open", "ended", "continued"]
    """`open`: no end record yet, so an unknown number may still come or be lost."""
    expected: int
    """Records by its end record; of an open writer, the highest seq seen anywhere."""
    stored: int
    quarantined: int
    pending: int
    """Planned or in the bucket, not yet committed."""
    missing: int
    """expected - stored - quarantined - pending: numbered, and found nowhere."""
    doubled: int
    """Rows beyond one per seq. Anything but 0 is a defect of Spanyard."""
    lost_lines: int
    """Told by gap records: lost before they had a number, as far as lines are known."""
    lost_bytes: int
    gaps: int
    begun_at: str
    ended_at: str
    cause: str = ""
    """Why it began where it did, when that was not its source's beginning; see docs/collector.md."""
    message: str = ""
    waiting_since: str = ""
    """When the oldest of its objects that lie in the bucket was put there; empty without any."""


class GapItem(msgspec.Struct, rename="camel", kw_only=True):
    """One told loss."""

    writer: str
    project_id: str
    signal: str
    cause: str
    message: str
    after_seq: int
    lines: int | None
    bytes: int | None
    from_time: str
    to_time: str
    timestamp: str


class Backlog(msgspec.Struct, rename="camel", kw_only=True):
    """Objects that lie in the bucket: to be loaded, or loaded a moment ago."""

    objects: int
    bytes: int
    oldest_at: str
    """When the oldest was put there, by the storage's clock; empty without any."""
    listed_all: bool
    """There are no others; else at least so many."""


class Proof(msgspec.Struct, rename="camel", kw_only=True):
    """The loss ledger of a project, or of all of them."""

    complete: bool
    """Nothing missing, nothing doubled, nothing pending, no gap, no open writer."""
    writers: list[WriterProof]
    gaps: list[GapItem]
    backlog: Backlog
    totals: dict[str, int]


class WhoAmI(msgspec.Struct, rename="camel", kw_only=True):
    """Who asks, as Kubernetes knows them."""

    auth: Literal["none", "kubernetes"]
    """`none`: nobody is asked who they are."""
    user: str
    groups: list[str]


class Session(msgspec.Struct, rename="camel", kw_only=True):
    """A session that has begun."""

    user: str
    groups: list[str]
    ends: str


class Page(msgspec.Struct, rename="camel", kw_only=True):
    """A page of items; `nextCursor` is null on the last one."""

    items: list[Any]
    next_cursor: str | None


class FollowPage(msgspec.Struct, rename="camel", kw_only=True):
    """What was stored since the cursor was made; `nextCursor` is never null."""

    items: list[LogItem]
    next_cursor: str
    caught_up: bool
    """Nothing more is stored at the moment; else ask again at once."""


class BuildLog(msgspec.Struct, rename="camel", kw_only=True):
    """The log of a build: whole, or what there is so far."""

    id: str
    complete: bool
    truncated: bool
    """There is more than the 64 MiB shown."""
    text: str
    offset: int = 0
    """Bytes (of UTF-8) left out before `text`, as they were asked to be."""
