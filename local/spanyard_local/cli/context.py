"""What a command works with: whom to ask, where to print, in which form."""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spanyard_core.errors import SpanyardError
from spanyard_local.cli.finding import Target, Wanted, find_target
from spanyard_local.cli.parser import NEGATIVE, NO_ANSWER, OK, USAGE, Command
from spanyard_local.cli.searching import with_place
from spanyard_local.cli.tables import Column, Row, print_table
from spanyard_local.server_client import ServerClient, ServerError
from spanyard_local.terminal import Terminal, as_json, printable_lines


class NotThereError(SpanyardError):
    """What was asked for by name is not there: a negative answer."""


class Context:
    """One call of one command."""

    def __init__(self, given: argparse.Namespace, terminal: Terminal) -> None:
        self.given = given
        self.terminal = terminal
        self.errors = Terminal.of(sys.stderr)
        """What stands beside an answer goes there."""
        self.output: str = getattr(given, "output", "table")
        self._target: Target | None = None

    @property
    def client(self) -> ServerClient:
        """The gateway to ask, found when it is first needed."""
        return self._found.client

    @property
    def namespace(self) -> str:
        """Of names and manifests that say none."""
        return self._found.namespace

    @property
    def named_namespace(self) -> str:
        """The one of `--namespace`; empty where none was given."""
        return self.given.namespace or ""

    @property
    def _found(self) -> Target:
        if self._target is None:
            self._target = find_target(wanted(self.given), Path.cwd())
        return self._target

    def close(self) -> None:
        """End what was opened for the questions."""
        if self._target is not None:
            self._target.close()

    @property
    def now_ns(self) -> int:
        """The time of this machine."""
        return time.time_ns()

    def note(self, text: str) -> None:
        """A sentence beside the answer, on standard error: it does not disturb what is piped. It may
        have what a gateway or a program said."""
        self.errors.print(printable_lines(text))

    def json(self, value: Any) -> None:
        """A value as one document."""
        self.terminal.print(as_json(value, indent=2))

    def show(
        self, items: Iterable[dict[str, Any]], columns: Sequence[Column], row: Any, *, empty: str
    ) -> int:
        """A list in the form that was asked for; `row` makes cells of an item."""
        if self.output == "jsonl":
            for item in items:
                self.terminal.print(as_json(item))
            return OK
        found = list(items)
        if self.output == "json":
            self.json(found)
        elif found:
            rows: list[Row] = [row(item) for item in found]
            print_table(self.terminal, columns, rows)
        else:
            self.note(empty)
        return OK


def wanted(given: argparse.Namespace) -> Wanted:
    """Which gateway the command line names."""
    data = getattr(given, "data", None)
    return Wanted(
        server=getattr(given, "server", None),
        data=Path(data) if data else None,
        context=getattr(given, "context", None),
        namespace=getattr(given, "namespace", None),
    )


def run(given: argparse.Namespace, terminal: Terminal) -> int:
    """Do the command that was given; returns its exit code."""
    command: Command = given.action
    try:
        with contextlib.closing(Context(given, terminal)) as context:
            return command.run(context)
    except NotThereError as error:
        code = NEGATIVE
        told = str(error)
    except ServerError as error:
        code = NO_ANSWER if error.status == 0 or error.status >= 500 else USAGE
        code = NEGATIVE if error.status in {404, 409, 501} else code
        problems = error.problem.get("errors")
        told = with_place(str(error), given, error.problem)
        if isinstance(problems, list) and problems:
            lines = [
                f"  {p.get('where')}: {p.get('what')}" for p in problems if isinstance(p, dict)
            ]
            told = "\n".join(["not valid:", *lines])
    print(f"spanyard: {printable_lines(told)}", file=sys.stderr)
    return code
