"""`spanyard-sidecar fetch` and `spanyard-sidecar publish`: the first and the last step of a build in
a pod, and the first of a server.

What they print is the log of their step. What became of it stands in the termination message
(`spanyard_core.step_answers`). Exit codes: 0 done, 1 failed and why is told, 2 wrong settings, 143
ended by SIGTERM.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

COMMANDS = ("fetch", "publish")


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> NoReturn:
    """`argv` begins with one of COMMANDS; leaves by SystemExit."""
    command, *rest = argv
    if command == "fetch":
        from spanyard_sidecar.steps.fetch import main as run
    else:
        from spanyard_sidecar.steps.publish import main as run
    run(rest, environ)
