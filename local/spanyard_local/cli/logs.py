"""`spanyard logs`: lines of a project, the newest or as they come."""

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from spanyard_local.cli import following, ids
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import clean, clock, short
from spanyard_local.cli.parser import (
    OK,
    Command,
    add_attributes,
    add_rows,
    add_times,
    asked_rows,
    filters,
)
from spanyard_local.cli.searching import add_search, search_of
from spanyard_local.terminal import Terminal, as_json, printable

DEFAULT_LINES = 100
LEVELS = ["debug", "info", "warn", "error", "fatal"]
"""As in `spanyard_core.records`, whose import takes 0.1 s."""
_COLOURS = {
    "debug": ("dim",),
    "warn": ("yellow",),
    "error": ("red",),
    "fatal": ("red", "bold"),
}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", help="the project, with or without its namespace")
    add_search(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    add_times(parser)
    add_rows(parser, DEFAULT_LINES)
    parser.add_argument(
        "--level",
        type=levels,
        metavar="LEVEL",
        help="this level and worse (debug, info, warn, error, fatal); with commas exactly these",
    )
    parser.add_argument("--grep", metavar="TEXT", help="with this text, in any case")
    for name, what in (
        ("deployment", "of this deployment"),
        ("build", "of this build"),
        ("pod", "of this pod"),
        ("container", "of this container"),
        ("service", "of this OpenTelemetry service"),
    ):
        parser.add_argument(f"--{name}", metavar="NAME", help=what)
    parser.add_argument(
        "--stream", choices=("stdout", "stderr", "otlp", "file"), help="that came this way"
    )
    parser.add_argument("--trace", metavar="ID", help="of this trace, events of its spans too")
    add_attributes(parser)
    parser.add_argument("--utc", action="store_true", help="times in UTC instead of local time")
    parser.add_argument(
        "--plain", action="store_true", help="the messages alone, as they were written"
    )


def levels(text: str) -> str:
    """`warn` as `warn,error,fatal`; a list as it is."""
    words = text.lower().split(",")
    for word in words:
        if word not in LEVELS:
            raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(LEVELS)}")
    return ",".join(words if "," in text else LEVELS[LEVELS.index(words[0]) :])


def _run(context: Context) -> int:
    given = context.given
    project = ids.project_id(context, given.project)
    params = filters(given, "level", "deployment", "pod", "container", "service", "stream")
    params |= {"text": given.grep, "q": search_of(given)}
    if given.build:
        params["build"] = ids.qualified(context, given.build, "builds")
    if given.trace:
        params["traceId"] = ids.trace_of(context, given.trace)[0]
    if not given.follow:
        return _print(context, _past(context, project, params))
    coming = {k: v for k, v in params.items() if k not in {"from", "to"}}
    return _print(context, _followed(context, project, params, coming))


def _followed(
    context: Context, project: str, params: dict[str, str | None], coming: dict[str, str | None]
) -> Iterator[dict[str, Any]]:
    """What there is, and what comes: live, or as it is stored where that is not to be had."""
    from spanyard_local.cli.listening import Listening
    from spanyard_local.cli.live_lines import HOW, LiveLines, unknown_live
    from spanyard_local.live_client import NoLiveError

    with contextlib.ExitStack() as stack:
        why = unknown_live(coming)
        try:
            listening = stack.enter_context(Listening(context.client)) if not why else None
        except NoLiveError as error:
            listening, why = None, str(error)
        if listening is not None:
            if context.terminal.live:
                context.note(f"following {project}: {HOW}")
            yield from LiveLines(listening, project, coming, tell=context.note).lines(
                _past(context, project, params),
                since_ns=_since(context),
                most=asked_rows(context.given, DEFAULT_LINES),
            )
    follower = following.Follower(context.client, project, coming, away=context.note)
    context.note(f"following {project}: {following.HOW} ({why})")
    yield from (line for line in _past(context, project, params) if not follower.was_shown(line))
    yield from follower.lines()


def _since(context: Context) -> int | None:
    from spanyard_gateway.params import time_ns

    return time_ns(context.given.since, context.now_ns) if context.given.since else None


def _past(
    context: Context, project: str, params: dict[str, str | None]
) -> Iterable[dict[str, Any]]:
    """What is stored, oldest first: the newest N, or all since a time that was given."""
    given, where = context.given, f"/projects/{ids.path(project)}/logs"
    most = asked_rows(given, DEFAULT_LINES)
    if most is None:
        return context.client.pages(where, {**params, "order": "asc"})
    newest: list[dict[str, Any]] = list(
        context.client.pages(where, {**params, "order": "desc"}, most=most)
    )
    newest.reverse()
    return newest


def _print(context: Context, lines: Iterable[dict[str, Any]]) -> int:
    terminal = context.terminal
    if context.output == "json" and not context.given.follow:
        context.json(list(lines))
        return OK
    printed = False
    for line in lines:
        printed = True
        if context.output in {"json", "jsonl"}:
            terminal.print(as_json(line))
        elif context.given.plain:
            terminal.print(clean(terminal, line["message"]))
        else:
            for text in line_texts(terminal, line, utc=context.given.utc, now_ns=context.now_ns):
                terminal.print(text)
    if not printed and context.output == "table":
        context.note("no line matches; leave out a filter, or ask for more with --since")
    return OK


def line_texts(
    terminal: Terminal, line: dict[str, Any], *, utc: bool, now_ns: int
) -> Iterator[str]:
    """A log line for people: time, level, where it comes from, message."""
    styles = _COLOURS.get(line["level"], ())
    when = terminal.style(clock(line["timestamp"], utc=utc, now_ns=now_ns), "dim")
    level = line["level"].upper().ljust(5)
    where = line["build"].rpartition(".")[2] or line["deployment"] or line["service"] or "-"
    if line["container"] and line["build"]:
        where += "/" + line["container"]
    trace = terminal.style(f"  trace={short(line['traceId'])}", "dim") if line["traceId"] else ""
    first, *rest = line["message"].splitlines() or [""]
    shown = [clean(terminal, text) for text in (first, *rest)]
    yield (
        f"{when} {terminal.style(level, *styles) if styles else level} "
        f"{terminal.style(printable(where), 'blue')} {shown[0]}{trace}"
    )
    for text in shown[1:]:
        yield "    " + text


COMMANDS = [
    Command(
        name="logs",
        help="show or follow log lines of a project",
        description="Shows the newest log lines of a project, oldest of them first; with --since "
        "all lines since then; with -f it goes on with what is printed, before it is stored.",
        examples=(
            ("spanyard logs support", "the newest 100 lines"),
            ("spanyard logs support -f --level warn", "trouble as it comes"),
            ("spanyard logs support --since 15m --grep timeout", "a word in the last quarter hour"),
            (
                "spanyard logs support 'level:error \"time out\" -health'",
                "a search: fields, phrases, what must not be there",
            ),
            ("spanyard logs support --attr user=u-17 -n 20", "by an attribute"),
            ("spanyard logs support --trace 0af7651916cd", "lines of one trace"),
            ("spanyard logs support --since 1h -o jsonl", "for a script, streamed"),
        ),
        arguments=_arguments,
        run=_run,
    )
]
