"""`spanyard up` as a command: its options, and what its help teaches."""

import argparse
from pathlib import Path

from spanyard_local.cli.context import Context
from spanyard_local.cli.parser import Command
from spanyard_local.layout import UP_DATA

DESCRIPTION = """\
Builds and runs what is in a folder, on this machine, with everything around it: collectors, bucket,
ClickHouse, gateway. A folder with YAML of Spanyard is taken as it says; another one is guessed
(package.json, pyproject.toml, requirements.txt), and the guess is printed. Edits are built and
rolled out. Ctrl-C ends all in order and says what was stored; the next `spanyard up` goes on."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="a folder or YAML file (this folder)"
    )
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a YAML file; may be repeated",
    )
    parser.add_argument(
        "--data", type=Path, default=Path(UP_DATA), metavar="DIR", help=f"data folder ({UP_DATA})"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", type=_port, default=8080, help="of the gateway (8080, or a free one)"
    )
    parser.add_argument(
        "--clickhouse-port",
        type=_port,
        default=8123,
        metavar="PORT",
        help="of ClickHouse's HTTP protocol (8123, or a free one)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="build, start, wait until all serves or has failed, end; for CI",
    )
    parser.add_argument(
        "--for",
        dest="keep_for",
        type=_duration,
        default=0.0,
        metavar="DURATION",
        help="with --once: go on for so long when all serves (30s, 5m)",
    )
    parser.add_argument(
        "--watch",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="build and roll out edits (on, without --once)",
    )
    parser.add_argument("--save", action="store_true", help="keep guessed YAML as spanyard.yaml")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no lines of builds and servers"
    )
    parser.add_argument(
        "--build-jobs", type=_jobs, default=2, metavar="N", help="builds at a time (2)"
    )
    parser.add_argument(
        "--build-dir",
        type=Path,
        metavar="DIR",
        help="where builds work (spanyard/builds in the system's folder for temporary files)",
    )
    parser.add_argument(
        "--keep-build-dirs", action="store_true", help="do not remove what a build worked in"
    )
    parser.add_argument(
        "--env-file",
        dest="env_files",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="KEY=value lines for secrets that have no secrets/NAME.env beside the YAML",
    )


def _run(context: Context) -> int:
    from spanyard_local.up import Up, UpOptions

    given = context.given
    options = UpOptions(
        paths=given.paths,
        files=given.files,
        data=given.data,
        host=given.host,
        port=given.port,
        clickhouse_port=given.clickhouse_port,
        once=given.once,
        keep_for=given.keep_for,
        watch=not given.once if given.watch is None else given.watch,
        save=given.save,
        quiet=given.quiet,
        output=context.output,
        build_jobs=given.build_jobs,
        build_dir=given.build_dir,
        keep_build_dirs=given.keep_build_dirs,
        env_files=given.env_files,
    )
    return Up(options, context.terminal).run()


UP = Command(
    name="up",
    help="build and run a folder on this machine, with everything around it",
    description=" ".join(DESCRIPTION.split()),
    examples=[
        ("spanyard up ./my-agent", "build it, run it, watch it"),
        ("spanyard up", "go on with what ran here last, or take this folder"),
        ("spanyard up -f shop.yaml -f prices.yaml", "just these files"),
        ("spanyard up --once -o json ./my-agent", "for CI: exit code 0 when it builds and serves"),
        ("spanyard up --save ./my-agent", "keep the guessed YAML"),
    ],
    arguments=_arguments,
    run=_run,
    outputs=("table", "json"),
    exits="0 ended in order and nothing lost (with --once: all built and served), 1 not so, "
    "2 wrong usage, 130 ended at once by a second Ctrl-C",
    server=False,
)


def _port(text: str) -> int:
    return _within(text, 0, 65_535)


def _jobs(text: str) -> int:
    return _within(text, 1, 64)


def _within(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
    return int(text)


def _duration(text: str) -> float:
    from spanyard_core.resources.durations import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: {error}") from error
