"""`spanyard-ingester rebuild` and `spanyard-ingester delete`: from the command line.

They work on storage and ClickHouse themselves, as one more ingester: beside running ones where
ClickHouse is a server, in place of it where it is embedded (then one process at a time).
"""

import argparse
import json
import sys
from collections.abc import Sequence

import msgspec

from spanyard_core.errors import SettingError
from spanyard_core.records import SIGNALS
from spanyard_ingester.erase import Eraser
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.jobs import scope_of_request, selection_of
from spanyard_ingester.rebuild import Progress, Rebuild

COMMANDS = ("rebuild", "delete")


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's own flags, and the rest, which are settings."""
    command, *rest = argv
    if command == "rebuild":
        parser = argparse.ArgumentParser(
            prog="spanyard-ingester rebuild",
            description="Load objects again that were loaded before: from processed/, or from "
            "where they are kept. Safe to repeat, and while ingesters run. Settings as for "
            "spanyard-ingester follow.",
            allow_abbrev=False,
        )
        parser.add_argument("--project", default="", help="only this project (default: all)")
        parser.add_argument("--signal", default="", help=f"only one of {', '.join(SIGNALS)}")
        parser.add_argument("--from", dest="start", default="", help="first time, UTC")
        parser.add_argument("--to", dest="end", default="", help="time not included, UTC")
    else:
        parser = argparse.ArgumentParser(
            prog="spanyard-ingester delete",
            description="Delete rows, objects and quarantine of a project, one of its traces, or "
            "what carries an attribute. Settings as for spanyard-ingester follow.",
            allow_abbrev=False,
        )
        parser.add_argument("--project", required=True, help="the project")
        parser.add_argument("--trace", default="", help="only this trace id")
        parser.add_argument("--attribute", default="", metavar="NAME=VALUE", help="only with this")
    parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")
    chosen, others = parser.parse_known_args(rest)
    chosen.command = command
    return chosen, others


async def run(chosen: argparse.Namespace, ingester: Ingester, eraser: Eraser) -> None:
    """Do it, with progress on stderr and the result as JSON on stdout."""
    if chosen.command == "delete":
        name, _, value = chosen.attribute.partition("=")
        attribute = {name: value} if chosen.attribute else {}
        scope = scope_of_request(chosen.project, chosen.trace, attribute)
        await ingester.ledger.load()
        erased = await eraser.run(scope, dry_run=chosen.dry_run)
        print(msgspec.json.encode(erased).decode())
        return
    if ingester.rebuild is None:
        raise SettingError("a rebuild needs ClickHouse's rows")
    progress = await _rebuild(chosen, ingester, ingester.rebuild)
    print(json.dumps(msgspec.to_builtins(progress)))


async def _rebuild(chosen: argparse.Namespace, ingester: Ingester, rebuild: Rebuild) -> Progress:
    selection = selection_of(chosen.project, chosen.signal, chosen.start, chosen.end)
    progress = Progress()
    await ingester.start()

    async def load() -> None:
        await ingester.drain()
        print(
            f"{progress.forgotten:,} of {progress.found:,} objects found so far are loaded again, "
            f"{ingester.loader.counts.rows:,} rows",
            file=sys.stderr,
        )

    return await rebuild.run(selection, load=load, dry_run=chosen.dry_run, progress=progress)
