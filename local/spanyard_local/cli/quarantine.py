"""`spanyard quarantine`: what could not be loaded, and what becomes of it."""

import argparse
from pathlib import Path
from typing import Any

from spanyard_core.errors import SettingError
from spanyard_local.cli import ids
from spanyard_local.cli.context import Context, NotThereError
from spanyard_local.cli.formats import age, number, one_line, size
from spanyard_local.cli.parser import NEGATIVE, OK, Command, rows
from spanyard_local.cli.resources import confirmed
from spanyard_local.cli.tables import Column, Row
from spanyard_local.server_client import ServerError
from spanyard_local.terminal import printable

DEFAULT_ITEMS = 50


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("do", choices=("list", "show", "replay", "delete"), help="what to do")
    parser.add_argument("id", nargs="*", help="of show, replay and delete: which")
    parser.add_argument("--project", help="list, or act on all, of this project")
    parser.add_argument(
        "--signal",
        choices=("logs", "spans", "traces", "metrics", "scores", "gaps"),
        help="of this kind",
    )
    parser.add_argument(
        "--state", choices=("open", "replayed", "deleted"), help="list: with this fate (open)"
    )
    parser.add_argument(
        "-n", "--lines", type=rows, default=DEFAULT_ITEMS, metavar="N",
        help=f"list: how many, or 'all' ({DEFAULT_ITEMS})",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="replay or delete all that are open")
    parser.add_argument(
        "--file", type=Path, help="replay: one corrected line instead of the bad one"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="delete: do not ask")


def _run(context: Context) -> int:
    given = context.given
    if given.do == "list":
        return _list(context)
    if not given.id and not given.all:
        raise SettingError(
            f"quarantine {given.do}: which? Give ids, as `spanyard quarantine list` prints them"
        )
    if given.do == "show":
        return _show(context)
    wanted = given.id or [str(item["id"]) for item in _items(context, None)]
    sure = given.do != "delete" or given.yes or not wanted
    if not sure and not confirmed(f"Give up {number(len(wanted))} for ever?"):
        raise NotThereError("nothing deleted; say --yes where nobody can be asked")
    return _act(context, wanted)


def _items(context: Context, most: int | None) -> Any:
    given = context.given
    project = ids.project_id(context, given.project) if given.project else None
    params = {"project": project, "signal": given.signal, "state": given.state or "open"}
    return context.client.pages("/quarantine", params, most=most)


def _list(context: Context) -> int:
    now = context.now_ns
    columns = (
        Column("ID"),
        Column("PROJECT"),
        Column("SIGNAL"),
        Column("LINE", right=True),
        Column("SIZE", right=True),
        Column("STATE"),
        Column("AGE", right=True),
        Column("REASON", flexible=True),
        Column("TEXT", flexible=True),
    )

    def row(item: dict[str, Any]) -> Row:
        return (
            item["id"],
            item["projectId"],
            item["signal"],
            number(item["line"]) if item["line"] else "all",
            size(item["size"]),
            item["status"],
            age(item["quarantinedAt"], now),
            one_line(item["reason"]),
            one_line(item["text"][:200]),
        )

    empty = "the quarantine is empty: everything could be loaded"
    return context.show(_items(context, context.given.lines), columns, row, empty=empty)


def _show(context: Context) -> int:
    items = [context.client.get(f"/quarantine/{ids.path(name)}") for name in context.given.id]
    if context.output == "json":
        context.json(items)
        return OK
    for item in items:
        where = (
            f"line {item['line']}, byte {item['offset']}" if item["line"] else "the whole object"
        )
        context.terminal.print(f"id      {item['id']}")
        context.terminal.print(f"object  {printable(item['key'])} ({where}, {size(item['size'])})")
        context.terminal.print(f"reason  {printable(one_line(item['reason']))}")
        context.terminal.print(f"state   {item['status']}")
        for line in item["text"].splitlines():
            context.terminal.print("  | " + printable(line))
    return OK


def _act(context: Context, wanted: list[str]) -> int:
    given, body = context.given, {}
    if given.file is not None:
        if given.do != "replay" or len(wanted) != 1:
            raise SettingError("--file: the corrected text of one line that is replayed")
        body = {"text": given.file.read_text("utf-8").rstrip("\n")}
    failed = 0
    for name in wanted:
        try:
            answer = context.client.post(f"/quarantine/{ids.path(name)}/{given.do}", body)
        except ServerError as error:
            if error.status not in {400, 404, 409}:
                raise
            context.note(f"{name}: {error}")
            failed += 1
        else:
            context.terminal.print(f"{name}: {answer.get('status', 'done')}")
    if not wanted:
        context.note("nothing is open in the quarantine")
    return NEGATIVE if failed else OK


COMMANDS = [
    Command(
        name="quarantine",
        help="look at, replay or give up what could not be loaded",
        description="Lists lines and objects that were set aside because they could not be loaded, "
        "with the reason; shows one; loads it after all, as it was or corrected; or gives it up.",
        examples=(
            ("spanyard quarantine list", "what is open"),
            ("spanyard quarantine show 65bbe41bc196", "one, with its text"),
            ("spanyard quarantine replay 65bbe41bc196", "load it after all"),
            ("spanyard quarantine replay 65bbe41bc196 --file line.json", "corrected"),
            ("spanyard quarantine delete --all --project support", "give up all of a project"),
        ),
        arguments=_arguments,
        run=_run,
    )
]
