"""`spanyard-server`, the process: its parts in the order in which they need each other.

Told to end, the ingester finishes its batches first, while the gateway still answers and takes
objects; then the gateway, then ClickHouse, then the folder.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.end_signals import release
from spanyard_core.errors import SettingError, SpanyardError
from spanyard_core.files import SystemFiles
from spanyard_core.logs import setup_logs
from spanyard_core.serve import operations_routes, problem, serving
from spanyard_core.settings import settings_or_exit, shown_settings
from spanyard_core.storage import Storage, open_storage
from spanyard_core.tasks import run_root_tasks
from spanyard_gateway.app import check_ready, make_app
from spanyard_gateway.auth.start import signer_of
from spanyard_gateway.cluster import open_cluster
from spanyard_gateway.front import front_app, token_of
from spanyard_gateway.tls import Certificate
from spanyard_ingester.ingester import Ingester, shards_of
from spanyard_ingester.metrics import IngesterMetrics
from spanyard_ingester.prune import ClickHouseWriterRows, Pruner
from spanyard_ingester.quarantine import Quarantine
from spanyard_ingester.quarantine_store import ClickHouseQuarantine
from spanyard_ingester.stored_rows import ClickHouseRows
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from spanyard_local.evaluation.folder import held
from spanyard_local.evaluation.settings import DESCRIPTION, PROG, ServerSettings
from spanyard_local.serve import DirectIngester

log = logging.getLogger("spanyard.server")

READY_INTERVAL_S = 5.0
FRONT_HOST = "127.0.0.1"


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Run until told to end; leaves by SystemExit: 0 in order, 1 failed, 2 wrong settings."""
    environ = os.environ if environ is None else environ
    settings = settings_or_exit(
        ServerSettings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ
    )
    setup_logs("server", level=settings.log_level)
    try:
        asyncio.run(run(settings.with_places(), environ))
    except SettingError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (SpanyardError, OSError) as error:
        log.error("%s", error)
        raise SystemExit(1) from None


async def run(settings: ServerSettings, environ: Mapping[str, str]) -> None:
    """Serve and load until SIGTERM or SIGINT; the second one ends at once."""
    log.info("starting", extra={"fields": shown_settings(settings)})
    stop, started = asyncio.Event(), asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def told() -> None:
        if stop.is_set():
            os._exit(1)  # what is under way is recovered at the next start
        stop.set()
        if not started.is_set():
            task.cancel()  # it may wait for the folder or the bucket, and nothing is under way

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    release()
    try:
        async with contextlib.AsyncExitStack() as stack:
            await _work(settings, environ, stack, stop, started)
    except asyncio.CancelledError:
        if started.is_set() or not stop.is_set():
            raise
        log.info("told to end before it had started")


async def _work(
    settings: ServerSettings,
    environ: Mapping[str, str],
    stack: contextlib.AsyncExitStack,
    stop: asyncio.Event,
    started: asyncio.Event,
) -> None:
    clock, rng = SystemClock(), random.SystemRandom()
    ingester_settings = settings.ingester_settings(environ)
    tls = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
    async with _starting(settings, tls) as waiting:
        await stack.enter_async_context(held(settings.data.resolve(), clock, waiting))
        waiting("starting: opening the database and reading the ledger")
        storage = open_storage(settings.storage)
        stack.push_async_callback(storage.close)
        db = await stack.enter_async_context(
            database(settings.clickhouse, pool=ingester_settings.clickhouse_pool)
        )
        await migrate(db)
        shards = await shards_of(storage, clock, rng)
    warehouse = ClickHouseWarehouse(db)
    ingester = Ingester(
        ingester_settings, storage, warehouse, SystemFiles(), clock, rng,
        shards=shards, rows=ClickHouseRows(db),
    )  # fmt: skip
    registry = CollectorRegistry()
    registry.register(IngesterMetrics(ingester))
    cluster = await open_cluster(settings, clock, registry, stack)
    app = make_app(
        settings,
        database=db,
        storage=storage,
        ingester=_direct(ingester, db, storage, warehouse, rng, clock),
        clock=clock,
        registry=registry,
        resources=cluster.resources,
        kube=cluster.kube,
        signer=signer_of(settings),
    )
    await stack.enter_async_context(
        serving(
            app,
            settings.listen,
            settings.port,
            cancel_abandoned=True,
            tls=tls.context if tls else None,
        )
    )
    if settings.clickhouse_port:
        front = front_app(db, token_of(settings.data / "clickhouse-token"))
        await stack.enter_async_context(
            serving(front, FRONT_HOST, settings.clickhouse_port, cancel_abandoned=True)
        )
    tasks = {**cluster.tasks(), "watch over ClickHouse": _watch(app, clock)}
    if tls is not None:
        tasks["certificate"] = tls.keep_fresh(clock)
    started.set()
    await run_root_tasks(tasks, until=ingester.run(stop))
    log.info("everything under way is stored; ending")


def _direct(
    ingester: Ingester,
    db: Database,
    storage: Storage,
    warehouse: ClickHouseWarehouse,
    rng: random.Random,
    clock: SystemClock,
) -> DirectIngester:
    quarantine = Quarantine(
        ClickHouseQuarantine(db), storage, warehouse, ingester.ledger, ingester.filer, clock
    )
    pruner = Pruner(storage, ingester.ledger, ClickHouseWriterRows(db), rng)
    return DirectIngester(ingester, quarantine, pruner)


@contextlib.asynccontextmanager
async def _starting(settings: ServerSettings, tls: Certificate | None) -> "AsyncIterator[_Waiting]":
    """Healthy and not ready while what follows takes its time."""
    waiting = _Waiting()
    app = web.Application()
    app.add_routes(operations_routes(lambda: waiting.problem, CollectorRegistry()))

    async def not_yet(_: web.Request) -> web.Response:
        # Not 404: who was connected before would take it for a server without what it asks for.
        return problem(503, "Starting", waiting.problem, headers={"Retry-After": "1"})

    app.router.add_route("*", "/{path:.*}", not_yet)
    context = tls.context if tls else None
    async with serving(app, settings.listen, settings.port, tls=context):
        yield waiting


class _Waiting:
    problem = "starting"

    def __call__(self, told: str) -> None:
        self.problem = told


async def _watch(app: web.Application, clock: SystemClock) -> None:
    """Say whether questions can be answered."""
    while True:
        await check_ready(app)
        await clock.sleep(READY_INTERVAL_S)
