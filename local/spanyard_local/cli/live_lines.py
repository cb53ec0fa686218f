"""Following log lines as they are printed, before they are stored.

What is stored comes first, from the REST API, where all filters and times are known. The stream's own
history reaches from there to now; a line that both have is shown once, by its record id, which is
the same live and stored. Then the stream goes on without a gap (docs/live.md).
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spanyard_local.cli.following import Line, Shown, Tell
from spanyard_local.cli.formats import parse_time
from spanyard_local.cli.listening import Listening
from spanyard_local.live_client import (
    Back,
    Dropped,
    Event,
    Lines,
    Live,
    Lost,
    Over,
    Partial,
    Spans,
)
from spanyard_local.server_client import ServerError

HOW = "live; Ctrl-C ends it"
_DEPTHS = (1_000, 10_000)
"""Records of the stream's history: more where the first do not reach back to what is stored."""
_STORED_S = 60
"""A line that is older is stored: flush interval, upload and load take 7 s."""
_BY_GATEWAY = {"level", "text", "stream", "container", "q"}
_BY_US = {"deployment", "build", "pod", "service"}
_WHY = {
    "slow-client": "they came faster than they could be shown",
    "not-stored": "neither their collector nor ClickHouse has them; `spanyard verify` tells more",
    "database-away": "their collector has them no longer, and ClickHouse does not answer",
    "too-many-holes": "too much of what is stored was being fetched for you already",
    "not-told": "the gateway did not say why",
    "moved-on": "the connection broke before history was told, and newer ones came",
}

_STATUS = {"not-found": 404, "forbidden": 403, "not-signed-in": 401}
"""Of the same refusals by the REST API, which decide on the exit code."""


def unknown_live(params: Mapping[str, Any]) -> str:
    """In words, the filters among these that only the database knows; empty for none."""
    given = {name for name, value in params.items() if value and not name.startswith("attr.")}
    names = [f"--{name.removesuffix('Id')}" for name in sorted(given - _BY_GATEWAY - _BY_US)]
    return f"only the database knows {' and '.join(names)}" if names else ""


class LiveLines:
    """Lines of a project that match some filters, from now on, as they are printed."""

    def __init__(
        self, listening: Listening, project: str, params: Mapping[str, Any], *, tell: Tell
    ) -> None:
        """`listening` is the caller's to close; `tell` hears what belongs beside the lines."""
        self._listening = listening
        self._project = project
        self._params = {name: str(value) for name, value in params.items() if value}
        self._tell = tell
        self._shown = Shown()
        self._whole = False
        """Whether a deployment's lines are looked for in all of the project."""

    def lines(
        self, past: Iterable[Line], *, since_ns: int | None, most: int | None
    ) -> Iterator[Line]:
        """What is stored (`past`, oldest first), what is not stored yet, and then what comes.

        `since_ns`: nothing of before then. `most`: so many of what there is to begin with; None:
        all. Raises ServerError for what waiting won't mend.
        """
        if most is None:
            yield from filter(self._shown.add, past)
            yield from self._between(since_ns)
        else:
            found = list(filter(self._shown.add, past))
            if len(found) >= most:
                since_ns = parse_time(str(found[0]["timestamp"]))
            yield from [*found, *self._between(since_ns)][-most:]
        for event in self._listening.events():
            yield from self._heard(event)

    def _between(self, since_ns: int | None) -> list[Line]:
        """What was printed, and is not among the stored lines that were shown."""
        found: list[Line] = []
        for depth in _DEPTHS:
            found, reaches = self._history(depth)
            if reaches:
                break
        else:
            self._tell(
                f"more than {depth:,} records came within a minute: some that are not stored yet may "
                "be missing above; `spanyard logs --since 5m` has them once they are"
            )
        return [
            line
            for line in found
            if (since_ns is None or (parse_time(line["timestamp"]) or 0) >= since_ns)
            and self._shown.add(line)
        ]

    def _history(self, depth: int) -> tuple[list[Line], bool]:
        """The newest lines, and whether they reach back to what is surely stored."""
        for subscription in self._listening.live.subscriptions:
            self._listening.unsubscribe(subscription)
        wish = {"history": depth, "filter": self._filter}
        subscription = self._listening.subscribe(self._channel, **wish)
        found: list[Line] = []
        times: list[int] = []
        for event in self._listening.events():
            if event.id not in {"", subscription}:
                continue  # of the one before
            if isinstance(event, Over) and event.code == "not-found" and not self._whole:
                self._whole = True  # nobody keeps it any more; its lines are the project's
                subscription = self._listening.subscribe(self._channel, **wish)
                continue
            times += _times(event)
            found += self._heard(event)
            if isinstance(event, Live):
                break
        young = time.time_ns() - min(times, default=0) < _STORED_S * 10**9
        return found, len(times) < depth or not young

    def _heard(self, event: Event) -> list[Line]:
        if isinstance(event, Lines):
            return [line for line in self._items(event) if self._is_wanted(line)]
        if text := told(event):
            self._tell(text)
        return []

    # --- what is wanted ----------------------------------------------------------------------

    @property
    def _channel(self) -> str:
        if build := self._params.get("build"):
            return f"build:{build}"
        if self._whole or "deployment" not in self._params:
            return f"project:{self._project}"
        return f"server:{self._project.partition('.')[0]}.{self._params['deployment']}"

    @property
    def _filter(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in self._params.items():
            if name in {"text", "q"}:
                found[name] = value
            elif name in _BY_GATEWAY:
                found[name] = value.split(",")
        return found

    def _is_wanted(self, line: Line) -> bool:
        for name, value in self._params.items():
            if name in _BY_US and line[name] != value:
                return False
            if name.startswith("attr."):
                about = line["attributes"].get(name.removeprefix("attr."))
                if about is None or _as_text(about) != value:
                    return False
        return True

    def _items(self, event: Lines) -> Iterator[Line]:
        for item in event.items:
            name = f"{event.writer}#{item.seq}"
            yield {
                "type": "log", "recordId": name, "projectId": self._project, "writer": event.writer,
                "seq": item.seq, "deployment": item.deployment, "build": item.build, "pod": item.pod,
                "container": item.container, "stream": item.stream, "service": item.service, "id": name,
                "timestamp": item.timestamp, "level": item.level, "message": item.line,
                "traceId": item.trace_id, "spanId": item.span_id, "attributes": item.attributes,
                "marks": item.marks, "spanEvent": False,
            }  # fmt: skip


def told(event: Event) -> str:
    """What belongs beside the answer, in words; empty for all else. Raises ServerError for what ends
    a subscription."""
    if isinstance(event, Over):
        raise ServerError(event.message, status=_STATUS.get(event.code, 400))
    if isinstance(event, Dropped):
        why = _WHY.get(event.reason, event.reason)
        return f"{event.count:,} records are missing here: {why}"
    if isinstance(event, Partial):
        return f"for now not everything can be had: {event.message}"
    if isinstance(event, Lost):
        return f"{event.reason}; trying again …"
    return "the gateway answers again; it goes on where it was" if isinstance(event, Back) else ""


def _times(event: Event) -> list[int]:
    """Of the records of history."""
    if isinstance(event, Lines) and event.history:
        return [parse_time(item.timestamp) or 0 for item in event.items]
    if isinstance(event, Spans) and event.history:
        return [parse_time(item.start_time) or 0 for item in event.items]
    return []


def _as_text(value: Any) -> str:
    """As the database keeps an attribute: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
