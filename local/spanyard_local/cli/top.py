"""`spanyard top`: every deployment on one screen: how it is, what it does, what it costs."""

import argparse
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

from spanyard_core.clock import rfc3339
from spanyard_local.cli import ids, reader
from spanyard_local.cli.context import Context
from spanyard_local.cli.keys import coming_back
from spanyard_local.cli.keys import listening as keys_of_terminal
from spanyard_local.cli.newest import Newest
from spanyard_local.cli.painting import Painting
from spanyard_local.cli.parser import OK, Command
from spanyard_local.cli.tables import cut, print_table
from spanyard_local.cli.top_rows import COLUMNS, SORTS, cells, figures, ordered
from spanyard_local.server_client import ServerError
from spanyard_local.terminal import Terminal, as_json

DEFAULT_OVER = "5m"
_LOOK_S = 0.25
"""So soon it is painted anew on a terminal whose size has changed."""
_TROUBLE = {0, 429, 502, 503, 504}
"""Answers after which it goes on asking."""


def _ask(context: Context, live: Newest | None) -> list[dict[str, Any]]:
    """A row per deployment that is declared. Raises ServerError."""
    from spanyard_gateway.params import duration_ns

    given, client = context.given, context.client
    wanted = ids.project_id(context, given.project) if given.project else ""
    start = context.named_namespace and f"{context.named_namespace}."
    found = [
        deployment
        for deployment in client.pages("/deployments")
        if deployment.get("resource")
        and wanted in {"", deployment["projectId"]}
        and str(deployment["id"]).startswith(start)
    ]
    totals: dict[tuple[str, str], Mapping[str, Any]] = {}
    for project in sorted({str(deployment["projectId"]) for deployment in found}):
        where = f"/projects/{ids.path(project)}/traces/series"
        answer = client.get(where, {"from": given.over, "by": "deployment", "buckets": 1})
        for series in answer["series"]:
            totals[project, str(series["deployment"])] = series["total"]
    lags = live.lags(found) if live is not None else {}
    seconds = duration_ns(given.over) / 1e9
    return [
        figures(one, totals.get((one["projectId"], one["name"])), seconds, lags.get(one["id"]))
        for one in found
    ]


# --- showing ---------------------------------------------------------------------------------


def _draw(context: Context, rows: list[dict[str, Any]], sort: str) -> Callable[[Terminal], None]:
    def draw(terminal: Terminal) -> None:
        keys = " ".join(f"{key}:{name}" for name, (key, _) in SORTS.items())
        told = f"the last {context.given.over}, by {sort}   q:quit {keys}"
        terminal.print(terminal.style(cut(told, shutil.get_terminal_size().columns - 1), "dim"))
        if rows:
            print_table(terminal, COLUMNS, map(cells, ordered(rows, sort)), keep_empty=True)
        else:
            terminal.print("there is no deployment; `spanyard up PATH` makes one")

    return draw


def _say(context: Context, rows: list[dict[str, Any]], sort: str) -> None:
    when = rfc3339(context.now_ns)
    for row in ordered(rows, sort):
        context.terminal.print(as_json({"time": when, **row}))


def _once(context: Context, live: Newest | None) -> int:
    rows, sort = _ask(context, live), context.given.sort
    return context.show(
        ordered(rows, sort),
        COLUMNS,
        cells,
        empty="there is no deployment; `spanyard up PATH` makes one",
    )


def _run(context: Context) -> int:
    from spanyard_local.cli.listening import Listening
    from spanyard_local.live_client import NoLiveError

    given = context.given
    with contextlib.ExitStack() as stack:
        live: Newest | None = None
        try:
            live = Newest(context, stack.enter_context(Listening(context.client)))
        except NoLiveError as error:
            context.note(f"{error}: LAG is not known")
        if given.once:
            return _once(context, live)
        painting = None
        if context.terminal.live and context.output == "table":
            painting = Painting(context.terminal, tail=False)
            stack.enter_context(coming_back(painting.afresh))
        return _watch(context, live, painting)


def _watch(context: Context, live: Newest | None, painting: Painting | None) -> int:
    sort = context.given.sort
    by_key = {key: name for name, (key, _) in SORTS.items()}
    rows, away = _ask(context, live), False
    with keys_of_terminal() as keys:
        while True:
            if painting is not None:
                painting.paint(_draw(context, rows, sort))
            elif not away:
                _say(context, rows, sort)
            until = time.monotonic() + context.given.every
            while (left := until - time.monotonic()) > 0:
                if painting is None:
                    reader.pause(left)
                    continue
                pressed = keys.wait(min(left, _LOOK_S))
                if pressed == "q":
                    return OK
                sort = by_key.get(pressed, sort)
                if pressed in by_key or not painting.fits:
                    painting.paint(_draw(context, rows, sort))
            try:
                rows = _ask(context, live)
                if away:
                    context.note("the gateway answers again")
                away = False
            except ServerError as error:
                if error.status not in _TROUBLE:
                    raise
                if not away:
                    if painting is not None:
                        painting.clear()
                    context.note(f"{error} Trying again …")
                away = True


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0.5 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.5 to 3600")
    return value


def _over(text: str) -> str:
    from spanyard_gateway.params import duration_ns

    try:
        long_enough = duration_ns(text) >= 10**9
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from error
    if not long_enough:
        raise argparse.ArgumentTypeError(f"{text!r} is less than a second")
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", nargs="?", help="of this project alone")
    parser.add_argument(
        "--over", type=_over, default=DEFAULT_OVER, metavar="TIME",
        help=f"what rates, errors, percentiles and cost are taken of ({DEFAULT_OVER})",
    )  # fmt: skip
    parser.add_argument(
        "--sort", choices=SORTS, default="requests", help="the worst first (requests)"
    )
    parser.add_argument(
        "--every", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks (2)"
    )
    parser.add_argument("--once", action="store_true", help="one look, as a table also in a pipe")


COMMANDS = [
    Command(
        name="top",
        help="watch all deployments: health, rates, errors, cost",
        description="Shows every deployment with its health, revision and restarts, and of its "
        "requests in the last minutes the rate, the share of errors, the 95th percentile, tokens "
        "per second and cost. LAG is how far what is stored lies behind what was printed. On a "
        "terminal it is painted over again and again, and keys sort it; elsewhere each look is a "
        "line of JSON per deployment.",
        examples=(
            ("spanyard top", "until q or Ctrl-C"),
            ("spanyard top support --over 1h --sort errors", "one project, the worst first"),
            ("spanyard top --once -o json", "for a script"),
        ),
        arguments=_arguments,
        run=_run,
    )
]
