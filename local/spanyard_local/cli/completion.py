"""`spanyard completion`: what a shell needs to complete commands and options."""

import argparse
import sys

from spanyard_local.cli.context import Context
from spanyard_local.cli.parser import OK, Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="for which shell")


def _run(context: Context) -> int:
    import shtab

    from spanyard_local.command_line import command_parser

    sys.stdout.write(shtab.complete(command_parser(), context.given.shell) + "\n")
    return OK


COMMANDS = [
    Command(
        name="completion",
        help="print completion for a shell",
        description="Prints a script that completes commands and options of `spanyard`.",
        examples=(
            ('eval "$(spanyard completion bash)"', "in ~/.bashrc"),
            ("spanyard completion zsh > ~/.zfunc/_spanyard", "in a folder of $fpath"),
        ),
        arguments=_arguments,
        run=_run,
        outputs=(),
        exits="0 done, 2 wrong usage",
        server=False,
    )
]
