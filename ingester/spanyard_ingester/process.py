"""`spanyard-ingester`: the ingester as a process, and its offline commands."""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import web

from spanyard_core.clickhouse import Database, open_database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.end_signals import release
from spanyard_core.errors import DatabaseUnavailableError, SettingError, SpanyardError
from spanyard_core.files import SystemFiles
from spanyard_core.kube.lease import Lease
from spanyard_core.logs import setup_logs
from spanyard_core.retry import Backoff
from spanyard_core.serve import operations_routes, serving
from spanyard_core.settings import settings_or_exit, shown_settings
from spanyard_core.storage import open_storage
from spanyard_ingester import offline
from spanyard_ingester.erase import Eraser
from spanyard_ingester.ingester import Ingester, shards_of
from spanyard_ingester.jobs import Jobs
from spanyard_ingester.prune import ClickHouseWriterRows, Pruner
from spanyard_ingester.quarantine import Quarantine
from spanyard_ingester.quarantine_store import ClickHouseQuarantine
from spanyard_ingester.rebuild import Rebuild
from spanyard_ingester.server import make_app
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.standby import lease_of, stand_by
from spanyard_ingester.stored_rows import ClickHouseRows
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse

log = logging.getLogger("spanyard.ingester")

PROG = "spanyard-ingester"
DESCRIPTION = """\
Loads objects from the bucket into ClickHouse, each record once. Bad lines go to quarantine.

Example, on a laptop:
  spanyard-ingester --storage file:///tmp/spanyard/bucket --clickhouse chdb:///tmp/spanyard/db
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Run until told to end; leaves by SystemExit: 0 in order, 1 failed, 2 wrong settings."""
    argv = sys.argv[1:] if argv is None else argv
    chosen = None
    if argv and argv[0] in offline.COMMANDS:
        chosen, argv = offline.parse(argv)
    settings = settings_or_exit(
        IngesterSettings,
        prog=PROG,
        description=DESCRIPTION,
        argv=argv,
        environ=os.environ if environ is None else environ,
    )
    setup_logs("ingester", level=settings.log_level)
    try:
        asyncio.run(run(settings) if chosen is None else run_offline(settings, chosen))
    except SettingError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (SpanyardError, OSError) as error:
        log.error("%s", error)
        raise SystemExit(1) from None


async def run_offline(settings: IngesterSettings, chosen: argparse.Namespace) -> None:
    """A rebuild or a deletion, then return."""
    release()  # it has no handlers of its own
    settings = replace(settings, owner=f"{settings.name} {chosen.command}")
    async with ingester_of(settings) as parts:
        await offline.run(chosen, parts.ingester, parts.eraser)


async def run(settings: IngesterSettings) -> None:
    """Serve and load until SIGTERM or SIGINT; the second one ends at once."""
    log.info("starting", extra={"fields": shown_settings(settings)})
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    begun = Begun()

    def told() -> None:
        if stop.is_set():
            os._exit(1)  # what is under way is recovered at the next start
        stop.set()
        if not begun.working:
            task.cancel()  # it may wait for the Lease or ClickHouse, and nothing is under way

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    release()
    try:
        if not settings.has_lease:
            await _work(settings, stop, begun)
            return
        settings = replace(settings, owner=settings.owner or settings.lease_in_force)
        async with lease_of(settings, SystemClock()) as lease:
            await stand_by(lease, settings)
            await lease.while_held(_work(settings, stop, begun, lease))
    except asyncio.CancelledError:
        if begun.working or not stop.is_set():
            raise
        log.info("told to end before there was a %s", "ClickHouse" if begun.chosen else "lease")


@dataclass(slots=True)
class Begun:
    """How far a start has come."""

    chosen: bool = False
    """It is this replica that works."""
    working: bool = False
    """There is a ClickHouse."""


async def _work(
    settings: IngesterSettings, stop: asyncio.Event, begun: "Begun", lease: Lease | None = None
) -> None:
    begun.chosen = True
    async with ingester_of(settings) as parts:
        begun.working = True
        app = make_app(
            parts.ingester,
            parts.quarantine,
            token=settings.token,
            jobs=parts.jobs,
            eraser=parts.eraser,
            pruner=parts.pruner,
            lease=lease,
        )
        async with serving(app, settings.listen, settings.port):
            await parts.ingester.run(stop)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process is made of."""

    ingester: Ingester
    quarantine: Quarantine
    jobs: Jobs
    eraser: Eraser
    pruner: Pruner


@asynccontextmanager
async def ingester_of(settings: IngesterSettings) -> AsyncIterator[Parts]:
    """An ingester on the storage and the ClickHouse of its settings, migrated and not started."""
    clock, rng = SystemClock(), random.SystemRandom()
    storage = open_storage(settings.storage)
    async with AsyncExitStack() as resources:
        resources.push_async_callback(storage.close)
        database = await _connect(settings, clock, rng)
        resources.push_async_callback(database.close)
        warehouse = ClickHouseWarehouse(database)
        shards = await shards_of(storage, clock, rng)
        rows = ClickHouseRows(database)
        ingester = Ingester(
            settings, storage, warehouse, SystemFiles(), clock, rng, shards=shards, rows=rows
        )
        ledger = ingester.ledger
        yield Parts(
            ingester,
            Quarantine(
                ClickHouseQuarantine(database), storage, warehouse, ledger, ingester.filer, clock
            ),
            Jobs(ingester, Rebuild(storage, ledger, rows, rng, ingester.unsettled)),
            Eraser(storage, ledger, rows, clock, rng, ingester.unsettled),
            Pruner(storage, ledger, ClickHouseWriterRows(database), rng),
        )


async def _connect(settings: IngesterSettings, clock: SystemClock, rng: random.Random) -> Database:
    """A connection to ClickHouse, migrated; waits while it is away, healthy and not ready."""
    backoff = Backoff(rng)
    problem = ""
    app = web.Application()
    app.add_routes(operations_routes(lambda: problem))
    async with AsyncExitStack() as meanwhile:
        while True:
            try:
                return await _connect_once(settings)
            except DatabaseUnavailableError as error:
                first, problem = not problem, f"waiting for ClickHouse: {error}"
            log.warning("%s", problem)
            if first:
                await meanwhile.enter_async_context(serving(app, settings.listen, settings.port))
            await clock.sleep(backoff.next())


async def _connect_once(settings: IngesterSettings) -> Database:
    database = await open_database(settings.clickhouse, pool=settings.clickhouse_pool)
    try:
        await migrate(database)
    except BaseException:
        await database.close()
        raise
    return database
