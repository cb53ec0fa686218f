"""What a listener hears, one type per message of docs/live.md, and three of the client's own.

`id` is the subscription's, empty for what concerns the connection. Field names are the protocol's in
snake_case. A field that is not there is empty; one that is not known is passed over, so that a newer
gateway may say more.
"""

from typing import Any, TypeAlias

import msgspec

from spanyard_core.live_items import LineItem, SpanItem
from spanyard_local.live_client.errors import ProtocolError


class _Wire(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    id: str = ""


class Resume(msgspec.Struct, frozen=True):
    """Where a listener was: for `subscribe`, with any gateway."""

    at: int
    """Milliseconds since the epoch, by the gateway's clock."""
    seen: dict[str, int]
    """Writer → number of its last record."""


class Line(LineItem, frozen=True, kw_only=True):
    """A log line."""

    attributes: dict[str, Any] = msgspec.field(default_factory=dict)


class Span(SpanItem, frozen=True, kw_only=True):
    """A span; `end_time` is None while it is not finished."""

    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    events: list[Any] = msgspec.field(default_factory=list)


class Subscribed(_Wire, frozen=True):
    """It begins; history follows."""

    channel: str
    pods: int


class Lines(_Wire, frozen=True):
    """Log lines of one writer, in its order. `type`: server:log or build:log."""

    type: str
    writer: str
    first: int
    last: int
    left: int
    """So many of these, and of those not told before, the filter left out."""
    items: list[Line]
    history: bool = False
    server_id: str = ""
    build_id: str = ""
    project_id: str = ""


class Spans(_Wire, frozen=True):
    """Spans of one writer. `type`: span:started, span:updated or span:ended."""

    type: str
    writer: str
    first: int
    last: int
    left: int
    items: list[Span]
    history: bool = False
    server_id: str = ""
    project_id: str = ""


class Live(_Wire, frozen=True):
    """History ends here."""

    resume: Resume


class Passed(_Wire, frozen=True):
    """Records up to `last` were left out by the filter, `left` of them not told before."""

    writer: str
    last: int
    left: int


class Dropped(_Wire, frozen=True):
    """Records that will not come. `reason` as in docs/live.md; two are the client's own findings.
    `not-told`: numbers that were skipped without a word. `moved-on`: a history broke off, and is told
    anew from later records on; `count` is then at most, where a filter leaves some out."""

    writer: str
    first: int
    last: int
    count: int
    reason: str


class Partial(_Wire, frozen=True):
    """A part cannot be had for now; the rest goes on."""

    reason: str
    message: str


class BuildStatus(_Wire, frozen=True):
    """As in the resource."""

    build_id: str
    uid: str
    status: dict[str, Any]


class DeploymentStatus(_Wire, frozen=True):
    """As in the resource."""

    deployment_id: str
    uid: str
    status: dict[str, Any]


class ServerHealth(_Wire, frozen=True):
    """Whether a deployment's server is well."""

    server_id: str
    healthy: bool
    reason: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    restarts: int = 0
    revision: int = 0


class Over(_Wire, frozen=True):
    """The subscription is refused or over; nothing more comes of it."""

    code: str
    message: str


class Lost(_Wire, frozen=True):
    """The connection is gone; the client tries again after so many seconds, and goes on from where
    it was. Told once per loss, not for every try."""

    reason: str
    again: float


class Back(_Wire, frozen=True):
    """Connected again; what was missed comes next."""


class Hello(_Wire, frozen=True):
    """First of a connection."""

    version: int
    heartbeat: float = 15.0


class Heartbeat(_Wire, frozen=True):
    """Where each subscription is."""

    resume: dict[str, Resume] = {}


Event: TypeAlias = (
    Subscribed | Lines | Spans | Live | Passed | Dropped | Partial | BuildStatus
    | DeploymentStatus | ServerHealth | Over | Lost | Back
)  # fmt: skip
Message: TypeAlias = Event | Hello | Heartbeat


class _Kind(msgspec.Struct):
    type: str


_kind = msgspec.json.Decoder(_Kind)
_TYPES: dict[str, type[Message]] = {
    "hello": Hello,
    "heartbeat": Heartbeat,
    "subscribed": Subscribed,
    "server:log": Lines,
    "build:log": Lines,
    "span:started": Spans,
    "span:updated": Spans,
    "span:ended": Spans,
    "live": Live,
    "passed": Passed,
    "dropped": Dropped,
    "partial": Partial,
    "build:status": BuildStatus,
    "deployment:status": DeploymentStatus,
    "server:health": ServerHealth,
    "error": Over,
}
_decoders = {kind: msgspec.json.Decoder(of) for kind, of in _TYPES.items()}


def decoded(text: str | bytes) -> Message | None:
    """A message of the gateway; None for one of a type that is not known. Raises ProtocolError."""
    try:
        decoder = _decoders.get(_kind.decode(text).type)
        return decoder.decode(text) if decoder is not None else None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(
            f"the gateway said something that this client does not understand ({error}); use "
            "versions of the two that belong together"
        ) from error
