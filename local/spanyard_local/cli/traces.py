"""`spanyard traces` and `spanyard trace`: requests as lists and as trees."""

import argparse
from typing import Any

from spanyard_local.cli import ids
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import age, clock, cost, duration, number, one_line, short
from spanyard_local.cli.parser import (
    OK,
    Command,
    add_attributes,
    add_rows,
    add_times,
    asked_rows,
    filters,
    length,
)
from spanyard_local.cli.searching import add_search, search_of
from spanyard_local.cli.span_tree import span_table, status_cell
from spanyard_local.cli.tables import Cell, Column, Row, print_table
from spanyard_local.terminal import count, printable

DEFAULT_TRACES = 20
_LONGEST_TEXT = 500


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", help="the project, with or without its namespace")
    add_search(parser)
    add_times(parser)
    add_rows(parser, DEFAULT_TRACES)
    parser.add_argument(
        "--status", metavar="STATUS", help="ok, error or unset; several with commas"
    )
    parser.add_argument("--name", help="with exactly this name")
    parser.add_argument("--grep", metavar="TEXT", help="with this text in the name, in any case")
    parser.add_argument("--service", metavar="NAME", help="of this OpenTelemetry service")
    parser.add_argument("--deployment", metavar="NAME", help="of this deployment")
    parser.add_argument(
        "--min-duration", type=length, metavar="TIME", help="at least this long: 250ms, 2s"
    )
    parser.add_argument("--max-duration", type=length, metavar="TIME", help="at most this long")
    add_attributes(parser)


def _list(context: Context) -> int:
    given, now = context.given, context.now_ns
    project = ids.project_id(context, given.project)
    params = filters(given, "status", "name", "service", "deployment")
    params |= {
        "text": given.grep,
        "q": search_of(given),
        "minDuration": given.min_duration,
        "maxDuration": given.max_duration,
    }
    where = f"/projects/{ids.path(project)}/traces"
    found = context.client.pages(where, params, most=asked_rows(given, DEFAULT_TRACES))
    columns = (
        Column("TRACE"),
        Column("NAME", flexible=True),
        Column("STATUS"),
        Column("DURATION", right=True),
        Column("SPANS", right=True),
        Column("ERRORS", right=True),
        Column("TOKENS", right=True),
        Column("COST", right=True),
        Column("AGE", right=True),
    )

    def row(trace: dict[str, Any]) -> Row:
        tokens = trace["inputTokens"] + trace["outputTokens"]
        return (
            short(trace["id"]),
            one_line(trace["name"]),
            status_cell(trace["status"], trace["endTime"]),
            duration(trace["durationNs"]),
            number(trace["spans"]),
            Cell(number(trace["errors"]), ("red",)) if trace["errors"] else "0",
            number(tokens) if tokens else "",
            cost(trace["cost"]),
            age(trace["startTime"], now),
        )

    return context.show(found, columns, row, empty="no trace matches; leave out a filter")


def _trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", help="id of the trace; its beginning is enough")
    parser.add_argument("--project", help="whose trace, where several have this id")
    parser.add_argument(
        "--full", action="store_true", help="input, output and attributes of every span too"
    )
    parser.add_argument("--utc", action="store_true", help="times in UTC instead of local time")
    parser.add_argument(
        "--live", action="store_true", help="its spans as they begin and end, until all have ended"
    )


def _trace(context: Context) -> int:
    given = context.given
    if given.live:
        from spanyard_local.cli.live_trace import watch

        return watch(context)
    trace, project = ids.trace_of(context, given.trace)
    if given.project:
        project = ids.project_id(context, given.project)
    found = context.client.get(f"/traces/{ids.path(trace)}", {"project": project})
    if context.output == "json":
        context.json(found)
        return OK
    _head(context, found)
    columns, rows = span_table(found["spans"], found["startTime"])
    if rows:
        print_table(context.terminal, columns, rows)
    if found["truncated"]:
        context.terminal.print(f"… more than {len(rows):,} spans; these are the first")
    _trouble(context, found["spans"])
    if given.full:
        _everything(context, found["spans"])
    _scores(context, found["scores"])
    return OK


def _head(context: Context, found: dict[str, Any]) -> None:
    terminal, spans = context.terminal, found["spans"]
    tokens = [
        sum(s[name] for s in spans if s["endTime"]) for name in ("inputTokens", "outputTokens")
    ]
    errors = sum(s["status"] == "error" for s in spans)
    unfinished = sum(s["endTime"] is None for s in spans)
    parts = [
        clock(found["startTime"], utc=context.given.utc, now_ns=context.now_ns),
        count(len(spans), "span"),
        f"{errors:,} with errors" if errors else "",
        f"{unfinished:,} unfinished" if unfinished else "",
        f"{number(tokens[0])} + {number(tokens[1])} tokens" if any(tokens) else "",
        cost(sum(s["cost"] for s in spans)),
    ]
    terminal.print(
        terminal.style(found["id"], "bold")
        + printable(f"  {found['projectId']}  ")
        + "  ".join(part for part in parts if part)
    )
    for name in ("input", "output"):
        if found[name] is not None:
            terminal.print(f"{name:<7} {_text(found[name], full=context.given.full)}")


def _text(value: Any, *, full: bool) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = printable(one_line(text))
    return text if full or len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " … (--full)"


def _trouble(context: Context, spans: list[dict[str, Any]]) -> None:
    """What the spans with errors say, in words."""
    terminal = context.terminal
    for span in spans:
        said = []
        for event in span.get("events") or []:
            about = event.get("attributes") or {} if isinstance(event, dict) else {}
            if isinstance(about, dict) and event.get("name") == "exception":
                kind, text = about.get("exception.type", ""), about.get("exception.message", "")
                said.append(f"{kind}: {text}" if kind else str(text))
        told = span["statusMessage"] if span["status"] == "error" else ""
        if told and not any(told in text for text in said):  # most often the exception's own words
            said.insert(0, told)
        for text in dict.fromkeys(printable(one_line(t)) for t in said if t):
            terminal.print(terminal.style("error", "red") + f"  {printable(span['name'])}: {text}")


def _everything(context: Context, spans: list[dict[str, Any]]) -> None:
    terminal = context.terminal
    for span in spans:
        about = span.get("attributes") or {}
        terminal.print()
        terminal.print(terminal.style(printable(span["name"]), "bold") + f"  {span['id']}")
        for key in sorted(about):
            terminal.print(f"  {printable(key)} = {_text(about[key], full=True)}")


def _scores(context: Context, scores: list[dict[str, Any]]) -> None:
    for score in scores:
        comment = printable(one_line(score["comment"]))
        context.terminal.print(
            f"score  {printable(score['name'])} = {number(score['value'])}"
            + (f"  {comment}" if comment else "")
        )


COMMANDS = [
    Command(
        name="traces",
        help="list requests of a project",
        description="Lists traces of a project, the newest first, with the sums over their spans.",
        examples=(
            ("spanyard traces support", "the newest 20"),
            ("spanyard traces support --status error --since 1h", "what failed in the last hour"),
            ("spanyard traces support --min-duration 2s", "what was slow"),
            (
                "spanyard traces support 'tool:web_search duration:>2s'",
                "a search in all their spans",
            ),
            ("spanyard traces support --attr user=u-17 -n 5", "by an attribute"),
        ),
        arguments=_list_arguments,
        run=_list,
    ),
    Command(
        name="trace",
        help="show one request as a tree",
        description="Shows a trace: its spans as a tree with durations, tokens and cost, what went "
        "wrong, and its scores. The beginning of the id is enough. With --live the tree grows in "
        "place while the request runs, also before its first span; not on a terminal, a line of "
        "JSON says what each span begins with, changes and ends with.",
        examples=(
            ("spanyard trace 0af7651916cd", "as `spanyard traces` prints it"),
            ("spanyard trace 0af7651916cd --full", "with attributes, prompts and answers"),
            ("spanyard trace 0af7651916cd -o json", "for a script"),
            ("spanyard trace 0af7651916cd --live", "while it runs"),
        ),
        arguments=_trace_arguments,
        run=_trace,
        outputs=("table", "json"),
    ),
]
