"""`spanyard export`: records as a file."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from spanyard_core.errors import SettingError
from spanyard_local.cli import ids
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import number, size
from spanyard_local.cli.logs import levels
from spanyard_local.cli.parser import OK, Command, add_attributes, add_times, filters

SIGNALS = ("logs", "spans", "traces", "metrics", "scores")
TIMEOUT_S = 900.0
"""The gateway makes the whole file before it sends the first byte."""
_PROGRESS_S = 0.2


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", help="the project, with or without its namespace")
    parser.add_argument("signal", choices=SIGNALS, help="which records")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write there; else to the output")
    parser.add_argument(
        "--format", choices=("jsonl", "parquet"), help="else by the ending of FILE (jsonl)"
    )
    add_times(parser)
    parser.add_argument("--level", type=levels, metavar="LEVEL", help="logs: this one and worse")
    parser.add_argument("--status", metavar="STATUS", help="spans, traces: ok, error or unset")
    parser.add_argument("--name", help="spans, traces, metrics, scores: with exactly this name")
    parser.add_argument("--grep", metavar="TEXT", help="with this text in message or name")
    parser.add_argument("--deployment", metavar="NAME", help="of this deployment")
    parser.add_argument("--build", metavar="NAME", help="of this build")
    add_attributes(parser)


def _run(context: Context) -> int:
    given = context.given
    form = given.format
    if form is None:
        form = "parquet" if given.to is not None and given.to.suffix == ".parquet" else "jsonl"
    if form == "parquet" and given.to is None and sys.stdout.isatty():
        raise SettingError("to: Parquet is not for a terminal; name a file with --to")
    project = ids.project_id(context, given.project)
    params = filters(given, "signal", "level", "status", "name", "deployment")
    params |= {"text": given.grep, "format": form}
    if given.build:
        params["build"] = ids.qualified(context, given.build, "builds")
    client = context.client.patient(TIMEOUT_S)
    with client.stream(f"/projects/{ids.path(project)}/export", params) as (headers, blocks):
        total = int(headers.get("X-Spanyard-Rows") or 0)
        progress = _Progress(total, form)
        if given.to is None:
            written = _copy(progress.watched(blocks), sys.stdout.buffer)
        else:
            # Whole or not at all: a file that is there was exported to its end.
            partial = given.to.with_name(given.to.name + ".part")
            try:
                with partial.open("wb") as file:
                    written = _copy(progress.watched(blocks), file)
                os.replace(partial, given.to)
            finally:
                partial.unlink(missing_ok=True)
    if given.to is not None:
        context.note(f"{number(total)} {given.signal} in {given.to}, {size(written)}")
    return OK


def _copy(blocks: Iterator[bytes], file: IO[bytes]) -> int:
    written = 0
    for block in blocks:
        file.write(block)
        written += len(block)
    file.flush()
    return written


class _Progress:
    """A line on a terminal's standard error that says how far it is."""

    def __init__(self, total: int, form: str) -> None:
        self._total, self._form = total, form
        self._live = sys.stderr.isatty()

    def watched(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks as they come."""
        rows = received = 0
        said = time.monotonic()
        for block in blocks:
            rows += block.count(b"\n")
            received += len(block)
            if self._live and time.monotonic() - said > _PROGRESS_S:
                said = time.monotonic()
                part = f"{rows * 100 // max(1, self._total)} %, " if self._form == "jsonl" else ""
                print(f"\r\033[2K{part}{size(received)} …", end="", file=sys.stderr, flush=True)
            yield block
        if self._live:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)


COMMANDS = [
    Command(
        name="export",
        help="write records to a file (JSON lines, Parquet)",
        description="Exports records of a project: as JSON lines, in the form in which collectors "
        "write them, or as Parquet with the same names. Of spans and traces those that have ended.",
        examples=(
            ("spanyard export support spans --to spans.parquet", "for pandas, DuckDB, Spark"),
            ("spanyard export support logs --since 1h | gzip > logs.jsonl.gz", "through a pipe"),
            ("spanyard export support scores --name helpful --to scores.jsonl", "one score"),
        ),
        arguments=_arguments,
        run=_run,
        outputs=(),
    )
]
