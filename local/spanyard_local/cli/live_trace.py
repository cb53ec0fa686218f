"""`spanyard trace --live`: a request while it runs, as a tree that grows in place."""

import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any

from spanyard_core.clickhouse.lines import SPAN_COST, SPAN_COUNTS, SPAN_TEXTS
from spanyard_local.cli import ids
from spanyard_local.cli.context import Context, NotThereError
from spanyard_local.cli.formats import duration, parse_time
from spanyard_local.cli.keys import coming_back
from spanyard_local.cli.listening import Listening
from spanyard_local.cli.live_lines import told
from spanyard_local.cli.painting import Painting
from spanyard_local.cli.parser import OK
from spanyard_local.cli.span_tree import span_table
from spanyard_local.cli.tables import cut, print_table
from spanyard_local.live_client import Event, Live, Over, Span, Spans
from spanyard_local.server_client import ServerError
from spanyard_local.terminal import Terminal, as_json, count

QUIET_S = 3.0
"""After the last span's end: what a request does then still belongs to it, and is not known yet."""
_REDRAW_S = 0.25
_MOST_PROJECTS = 60
"""That are asked for a trace whose project nobody knows yet; a connection takes 64 subscriptions."""
_HISTORY = 10_000


class GrowingTrace:
    """The spans of a trace, each by its last word."""

    def __init__(self) -> None:
        self._spans: dict[str, dict[str, Any]] = {}

    def take(self, span: Span) -> dict[str, Any]:
        """The span as the REST API has it. What began again after its end is passed over."""
        found = item(span)
        before = self._spans.get(span.id)
        if before is None or before["endTime"] is None or found["endTime"] is not None:
            self._spans[span.id] = found
        return found

    def spans(self, now_ns: int) -> list[dict[str, Any]]:
        """All of them; those that are not finished last until now."""
        return [
            span
            if span["endTime"] is not None
            else {**span, "durationNs": max(0, now_ns - (parse_time(span["startTime"]) or now_ns))}
            for span in self._spans.values()
        ]

    @property
    def unfinished(self) -> int:
        """How many have not ended."""
        return sum(span["endTime"] is None for span in self._spans.values())

    @property
    def over(self) -> bool:
        """Whether its root is there, and nothing of it runs."""
        roots = [s for s in self._spans.values() if s["parentSpanId"] not in self._spans]
        return bool(roots) and not self.unfinished


def item(span: Span) -> dict[str, Any]:
    """With the names and derived figures of the REST API."""
    start, end = parse_time(span.start_time), parse_time(span.end_time or "")
    return {
        "id": span.id, "traceId": span.trace_id, "parentSpanId": span.parent_span_id,
        "name": span.name, "service": span.service, "pod": span.pod,
        "startTime": span.start_time, "endTime": span.end_time,
        "durationNs": end - start if start is not None and end is not None else None,
        "status": span.status, "statusMessage": span.status_message, "spanKind": span.span_kind,
        "model": str(_first(span.attributes, SPAN_TEXTS["model"]) or ""),
        "inputTokens": int(_number(span.attributes, SPAN_COUNTS["input_tokens"])),
        "outputTokens": int(_number(span.attributes, SPAN_COUNTS["output_tokens"])),
        "cost": _number(span.attributes, SPAN_COST),
        "attributes": span.attributes, "events": span.events,
    }  # fmt: skip


def _first(attributes: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next(
        (attributes[name] for name in names if attributes.get(name) not in {None, ""}), None
    )


def _number(attributes: Mapping[str, Any], names: Iterable[str]) -> float:
    try:
        return float(_first(attributes, names) or 0)
    except (TypeError, ValueError):
        return 0.0


def watch(context: Context) -> int:
    """Show it until it is over. Raises ServerError, NotThereError, NoLiveError."""
    trace, projects = _where(context)
    with Listening(context.client) as listening:
        wanted = {
            listening.subscribe(f"trace:{project}/{trace}", history=_HISTORY): project
            for project in projects
        }
        return Watch(context, listening, trace, wanted).run()


def _where(context: Context) -> tuple[str, list[str]]:
    """The trace's id, and projects that may have it: all, where it has no stored span yet."""
    given = context.given
    trace, project = ids.trace_of(context, given.trace)
    if given.project:
        return trace, [ids.project_id(context, given.project)]
    if project is None:
        try:
            project = str(context.client.get(f"/traces/{ids.path(trace)}")["projectId"])
        except ServerError as error:
            if error.status != 404:
                raise
    if project is not None:
        return trace, [project]
    known = [str(one["id"]) for one in context.client.pages("/projects")]
    if not known or len(known) > _MOST_PROJECTS:
        raise NotThereError(f"nothing of trace {trace} is stored yet; say whose it is: --project")
    return trace, known


class Watch:
    """One call of the command."""

    def __init__(
        self, context: Context, listening: Listening, trace: str, wanted: dict[str, str]
    ) -> None:
        self._context = context
        self._listening = listening
        self._trace = trace
        self._wanted = wanted
        """Subscriptions → their projects."""
        self._project = ""
        self._found = GrowingTrace()
        self._lives: set[str] = set()
        """Subscriptions whose history is over."""
        self._past = 0
        """Records of history."""
        plain = not context.terminal.live or context.output == "json"
        self._painting = None if plain else Painting(context.terminal)

    def run(self) -> int:
        if self._painting is None:
            return self._go_on()
        with coming_back(self._painting.afresh):
            return self._go_on()

    def _go_on(self) -> int:
        quiet_since, paint_at = time.monotonic(), 0.0
        while True:
            event = self._listening.next(_REDRAW_S)
            now = time.monotonic()
            if event is not None and self.take(event):
                quiet_since = now
            if now - quiet_since >= QUIET_S and self._whole and self._found.over:
                break
            if self._painting is not None and now >= paint_at:
                self._painting.paint(self._draw)
                # 10,000 spans take half a second to draw: not more than a tenth of the time.
                done = time.monotonic()
                paint_at = max(now + _REDRAW_S, done + 9 * (done - now))
        if self._painting is not None:
            self._painting.paint(self._draw, whole=True)
        return OK

    @property
    def _whole(self) -> bool:
        return self._wanted.keys() <= self._lives

    def take(self, event: Event) -> bool:
        """Whether the trace went on."""
        if isinstance(event, Spans):
            if event.id not in self._wanted:
                return False  # said before its end: of another project, with the same id
            self._only(event.id)
            self._past += len(event.items) if event.history else 0
            for span in event.items:
                found = self._found.take(span)
                if self._painting is None:
                    line = {"type": event.type, "projectId": self._project, **found}
                    self._context.terminal.print(as_json(line))
            return True
        if isinstance(event, Live):
            self._lives.add(event.id)
            if self._past >= _HISTORY:
                self._note(
                    f"these are its newest {self._past:,} spans; without --live there are more"
                )
            if self._whole and not self._project:
                self._note("no span of it yet; waiting for the first (Ctrl-C ends it)")
        elif isinstance(event, Over) and len(self._wanted) > 1:
            self._wanted.pop(event.id, None)  # not for this one to see, or gone
        elif text := told(event):
            self._note(text)
        return False

    def _only(self, subscription: str) -> None:
        """Found: the other projects need not be listened to."""
        if self._project:
            return
        self._project = self._wanted[subscription]
        for other in [name for name in self._wanted if name != subscription]:
            self._listening.unsubscribe(other)
            del self._wanted[other]

    def _note(self, text: str) -> None:
        if self._painting is not None:
            self._painting.clear()
        self._context.note(text)

    def _draw(self, terminal: Terminal) -> None:
        now = self._context.now_ns
        spans = self._found.spans(now)
        parts = [f"{count(len(spans), 'span')}"]
        if self._found.unfinished:
            begun = min(parse_time(span["startTime"]) or now for span in spans)
            parts.append(f"{self._found.unfinished:,} running, for {duration(now - begun)}")
        elif not spans:
            parts = ["waiting for its first span"]
        room = shutil.get_terminal_size().columns - len(self._trace) - 1
        rest = "".join(f"  {part}" for part in (self._project, *parts) if part)
        terminal.print(terminal.style(self._trace, "bold") + cut(rest, max(1, room)))
        if spans:
            print_table(terminal, *span_table(spans, ""))
