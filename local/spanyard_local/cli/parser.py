"""Argument parsing that teaches: examples in every help, and a guess for what was misspelt."""

import argparse
import difflib
import re
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from spanyard_core.errors import SettingError

if TYPE_CHECKING:
    from spanyard_local.cli.context import Context

OK, NEGATIVE, USAGE, NO_ANSWER = 0, 1, 2, 3
"""Exit codes: done; a negative answer (not there, failed); wrong usage; no gateway answers."""
EXITS = "0 done, 1 there is no such thing or it failed, 2 wrong usage, 3 no gateway answers"


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command: how it is called, what it says of itself, what it does."""

    name: str
    help: str
    """One line, for the list of commands."""
    description: str
    examples: Sequence[tuple[str, str]]
    """Command line and what it is for."""
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[["Context"], int]
    outputs: Sequence[str] = ("table", "json", "jsonl")
    """Of `-o`; the first is the default; none: no such option."""
    exits: str = EXITS
    server: bool = True
    """Whether it talks to a gateway."""


class Parser(argparse.ArgumentParser):
    """Says what may have been meant; takes no abbreviations, which would break with new options."""

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("allow_abbrev", False)
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **more)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the reason; leave with 2."""
        super().error(message + self._guess(message))

    def _guess(self, message: str) -> str:
        if found := re.match(r".*invalid choice: '(.*?)' \(choose from (.*)\)", message):
            known = re.findall(r"'([^']*)'|([\w-]+)", found[2])
            return _did_you_mean(found[1], [a or b for a, b in known])
        if found := re.match(r"unrecognized arguments: (--?[\w-]+)", message):
            options = [s for p in _parsers(self) for a in p._actions for s in a.option_strings]
            return _did_you_mean(found[1], options)
        return ""


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [p for child in action.choices.values() for p in _parsers(child)]
    return found


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    # The very word is an option of another command: no help here.
    others = [one for one in dict.fromkeys(known) if one != word]
    close = difflib.get_close_matches(word, others, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def add(commands: Any, command: Command) -> None:
    """Add one to the sub-commands of `spanyard`."""
    width = max(len(line) for line, _ in command.examples)
    examples = "\n".join(f"  {line:<{width}}   {what}" for line, what in command.examples)
    parser = commands.add_parser(
        command.name,
        help=command.help,
        description=textwrap.fill(command.description, 80),
        epilog=f"examples:\n{examples}\n\n"
        + textwrap.fill(f"Exit codes: {command.exits}.", 80, break_on_hyphens=False),
    )
    command.arguments(parser)
    if command.server:
        add_target(parser)
    if command.outputs:
        parser.add_argument(
            "-o",
            "--output",
            choices=command.outputs,
            default=command.outputs[0],
            help=f"for people or scripts ({command.outputs[0]})",
        )
    parser.set_defaults(action=command)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Which gateway is asked."""
    parser.add_argument("--server", metavar="URL", help="gateway to ask [SPANYARD_SERVER]")
    parser.add_argument("--data", metavar="DIR", help="data folder whose gateway is asked")
    add_context(parser)
    names = ["--namespace"]
    if "-n" not in parser._option_string_actions:  # elsewhere it is how many lines
        names.insert(0, "-n")
    parser.add_argument(
        *names, metavar="NAME", help="of what names none (that of the login or kubeconfig)"
    )


def add_context(parser: argparse.ArgumentParser) -> None:
    """`--context`."""
    parser.add_argument(
        "--context", metavar="NAME", help="ask the gateway of this context's cluster"
    )


# --- types of arguments ----------------------------------------------------------------------


def rows(text: str) -> int | None:
    """How many rows: a number, or `all` (None)."""
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on, nor 'all'")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """`key=value`."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    return key, value


def moment(text: str) -> str:
    """A time as the gateway reads it, as it was given: it counts back from its own now."""
    from spanyard_gateway.params import time_ns  # 70 ms that only those pay who give a time

    try:
        time_ns(text, time.time_ns())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} {error}") from error
    return text


def length(text: str) -> str:
    """How long something may take, as it was given."""
    from spanyard_gateway.params import duration_ns

    try:
        duration_ns(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} {error}") from error
    return text


def add_times(parser: argparse.ArgumentParser) -> None:
    """`--since` and `--until`."""
    parser.add_argument(
        "--since",
        type=moment,
        metavar="WHEN",
        help="from then on: 15m, 2h, 7d, or 2026-11-21T14:45:00Z",
    )
    parser.add_argument(
        "--until", type=moment, metavar="WHEN", help="before then; in the same forms"
    )


def add_rows(parser: argparse.ArgumentParser, default: int) -> None:
    """`-n`."""
    parser.add_argument(
        "-n",
        "--lines",
        type=rows,
        default=0,
        metavar="N",
        help=f"how many, or 'all' ({default}; with --since all)",
    )


def asked_rows(given: argparse.Namespace, default: int) -> int | None:
    """What `-n` says; without it the default, or everything since a time that was given."""
    if given.lines == 0:
        return None if given.since else default
    most: int | None = given.lines
    return most


def add_attributes(parser: argparse.ArgumentParser) -> None:
    """`--attr key=value`, to be repeated."""
    parser.add_argument(
        "--attr",
        type=pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with this attribute; may be repeated, all must hold",
    )


def filters(given: argparse.Namespace, *names: str) -> dict[str, str | None]:
    """The REST parameters of the filters that were given; `names` are those of the same name.

    Raises SettingError for a time that ends before it begins."""
    _check_times(given)
    params: dict[str, str | None] = {
        "from": getattr(given, "since", None),
        "to": getattr(given, "until", None),
    }
    for name in names:
        params[name] = getattr(given, name.replace("-", "_"), None)
    for key, value in getattr(given, "attr", []):
        params[f"attr.{key}"] = value
    return params


def _check_times(given: argparse.Namespace) -> None:
    since, until = getattr(given, "since", None), getattr(given, "until", None)
    if since is None or until is None:
        return
    from spanyard_gateway.params import time_ns

    now_ns = time.time_ns()
    if time_ns(since, now_ns) >= time_ns(until, now_ns):
        raise SettingError(f"--since {since}: not before --until {until}, so nothing can match")
