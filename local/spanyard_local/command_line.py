"""`spanyard`: which command is meant, and what its end means."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spanyard_core import __version__
from spanyard_core.errors import InvalidResourceError, SettingError, SpanyardError
from spanyard_local.cli import context
from spanyard_local.cli.commands import COMMANDS
from spanyard_local.cli.parser import Parser, add, add_context
from spanyard_local.layout import DEFAULT_DATA
from spanyard_local.terminal import Terminal
from spanyard_local.up_command import UP
from spanyard_local.verify import LOST, USAGE

EXIT_CODES = "Exit codes: 0 fine, 1 something is wrong (it says what), 2 wrong usage."


def command_parser() -> argparse.ArgumentParser:
    """Of all commands that users may know of; completion and docs/cli.md are made of it too."""
    parser = Parser(
        prog="spanyard",
        description="Run agent servers and keep everything they say.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"spanyard {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add(commands, UP)

    demo = commands.add_parser(
        "demo",
        help="run the whole chain on this machine with an example agent",
        description="Runs the support agent under collector, ingester, gateway and an embedded "
        "ClickHouse, asks it questions, and shows what arrives. Ctrl-C ends it in order.",
        epilog="Exit codes: 0 every record is stored once, 1 not so, 2 wrong usage, 3 not proven.",
    )
    demo.add_argument("--once", action="store_true", help="ask, check, print the counts, exit")
    demo.add_argument(
        "--requests", type=_whole(1), default=60, metavar="N", help="with --once: how many (60)"
    )
    demo.add_argument(
        "--rate", type=_rate, default=0, metavar="N", help="questions per second (2; --once: 20)"
    )
    demo.add_argument(
        "--kills",
        type=_whole(0),
        default=0,
        metavar="N",
        help="with --once: kill -9 that often on the way",
    )
    demo.add_argument(
        "--no-browser",
        action="store_true",
        help="do not open the page; without a terminal, a display, or with --once it never is",
    )
    demo.add_argument("--seed", type=int, default=7, metavar="N", help="of questions and kills (7)")
    _data(demo)
    _address(demo)
    _output(demo)

    verify = commands.add_parser(
        "verify",
        help="prove that nothing is missing",
        description="Prints per writer what was expected, stored, quarantined, lost and is still "
        "open. Asks a running gateway, or else opens the data folder of a demo that has ended.",
        epilog="Exit codes: 0 complete, 1 something was lost or doubled, 2 wrong usage or no "
        "answer, 3 nothing lost so far, but writers are open or objects pending.",
    )
    verify.add_argument("project", nargs="?", help="with or without its namespace; all without")
    verify.add_argument("--server", metavar="URL", help="gateway to ask [SPANYARD_SERVER]")
    add_context(verify)
    verify.add_argument("--all", action="store_true", help="show writers without trouble too")
    _data(verify)
    _output(verify)

    for command in COMMANDS:
        add(commands, command)
    return parser


def _serve_parser() -> argparse.ArgumentParser:
    """Of what `demo` and `verify` run for themselves; in nobody's help."""
    parser = argparse.ArgumentParser(prog="spanyard serve")
    parser.add_argument("--storage", default="", metavar="URL", help="a bucket elsewhere")
    _data(parser)
    _address(parser)
    return parser


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"the data folder ({DEFAULT_DATA})"
    )


def _address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address of the gateway (127.0.0.1)")
    parser.add_argument(
        "--port",
        type=_whole(0, 65_535),
        default=8080,
        help="port of the gateway (8080, or a free one)",
    )


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="for people or scripts"
    )


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(
                f"{text} is not from {least} to {most}" if most else f"{text} is less than {least}"
            )
        return value

    return number


def _rate(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.01 to 10000")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the words say; leaves by SystemExit."""
    if sys.platform == "win32":
        print("spanyard: Windows is not supported; use Linux, macOS or WSL", file=sys.stderr)
        raise SystemExit(USAGE)
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["serve"]:
        given = _serve_parser().parse_args(words[1:], argparse.Namespace(command="serve"))
    else:
        given = command_parser().parse_args(words)
    try:
        raise SystemExit(_run(given))
    except SettingError as error:
        print(f"spanyard: {error}", file=sys.stderr)
        raise SystemExit(USAGE) from None
    except InvalidResourceError as error:
        told = "\n".join(f"  {where}: {what}" for where, what in error.problems)
        print(f"spanyard: not valid:\n{told}", file=sys.stderr)
        raise SystemExit(LOST) from None
    except SpanyardError as error:
        print(f"spanyard: {error}", file=sys.stderr)
        raise SystemExit(USAGE if given.command == "verify" else LOST) from None
    except BrokenPipeError:
        # Who reads has what it wanted (`| head`). Nothing more can be said, not even at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        told = f"{error.filename}: {error.strerror}" if error.filename else f"{error}"
        print(f"spanyard: {told}", file=sys.stderr)
        raise SystemExit(LOST) from None


def _run(given: argparse.Namespace) -> int:
    terminal = Terminal.of()
    if hasattr(given, "action"):
        return context.run(given, terminal)
    if given.command == "demo":
        from spanyard_local.demo import Demo, DemoOptions

        options = DemoOptions(
            data=given.data or Path(DEFAULT_DATA),
            once=given.once,
            requests=given.requests,
            rate=given.rate or (20.0 if given.once else 2.0),
            kills=given.kills,
            host=given.host,
            port=given.port,
            seed=given.seed,
            output=given.output,
            browser=not given.no_browser,
        )
        return Demo(options, terminal).run()
    if given.command == "verify":
        from spanyard_local.offline import client_for
        from spanyard_local.verify import verify

        with client_for(context.wanted(given)) as client:
            return verify(
                client, given.project, whole=given.all, output=given.output, terminal=terminal
            )
    import asyncio

    from spanyard_core.logs import setup_logs
    from spanyard_local.layout import Layout
    from spanyard_local.serve import serve

    setup_logs("server")
    layout = Layout((given.data or Path(DEFAULT_DATA)).resolve(), given.storage)
    asyncio.run(serve(layout, host=given.host, port=given.port))
    return 0
