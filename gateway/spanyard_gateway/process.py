"""`spanyard-gateway`: the gateway on its own."""

import asyncio
import contextlib
import logging
import signal
import sys

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry

from spanyard_core.clickhouse import Database, open_database
from spanyard_core.clickhouse.schema import check_version
from spanyard_core.clock import Clock, SystemClock
from spanyard_core.end_signals import release
from spanyard_core.errors import DatabaseUnavailableError, SpanyardError
from spanyard_core.logs import setup_logs
from spanyard_core.memory import settle_later
from spanyard_core.serve import serving
from spanyard_core.settings import settings_or_exit
from spanyard_core.storage import open_storage
from spanyard_core.tasks import run_root_tasks
from spanyard_gateway.app import check_ready, make_app
from spanyard_gateway.auth.start import signer_of
from spanyard_gateway.cluster import open_cluster
from spanyard_gateway.ingester_client import HttpIngesterClient
from spanyard_gateway.settings import GatewaySettings
from spanyard_gateway.state import METRICS, READER
from spanyard_gateway.tls import Certificate

log = logging.getLogger("spanyard.gateway")

READY_INTERVAL_S = 5


async def run(settings: GatewaySettings, stop: asyncio.Event, clock: Clock) -> None:
    """Serve until `stop` is set. Raises SpanyardError for what waiting will not mend."""
    async with contextlib.AsyncExitStack() as resources:
        storage = open_storage(settings.storage)
        resources.push_async_callback(storage.close)
        session = await resources.enter_async_context(aiohttp.ClientSession())
        registry = CollectorRegistry()
        cluster = await open_cluster(settings, clock, registry, resources)
        tls = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        app = make_app(
            settings,
            database=None,
            storage=storage,
            ingester=HttpIngesterClient(session, settings.ingester, settings.ingester_token),
            clock=clock,
            registry=registry,
            resources=cluster.resources,
            kube=cluster.kube,
            signer=signer_of(settings),
        )
        await resources.enter_async_context(
            serving(
                app,
                settings.listen,
                settings.port,
                cancel_abandoned=True,
                tls=tls.context if tls else None,
            )
        )
        tasks = cluster.tasks()
        tasks["memory"] = settle_later(clock)
        tasks["watch over ClickHouse"] = _watch(app, settings.clickhouse, clock, resources)
        if tls is not None:
            tasks["certificate"] = tls.keep_fresh(clock)
        await run_root_tasks(tasks, until=_wait(stop))


async def _watch(
    app: web.Application, url: str, clock: Clock, resources: contextlib.AsyncExitStack
) -> None:
    """Connect when ClickHouse is there, and say whether questions can be answered."""
    database: Database | None = None
    while True:
        try:
            if database is None:
                database = await open_database(url)
                resources.push_async_callback(database.close)
            await check_version(database)
            app[READER].connect(database)
            await check_ready(app)
        except DatabaseUnavailableError as error:
            if app[METRICS].not_ready != str(error):
                log.warning("%s", error)
            app[METRICS].not_ready = str(error)
        await clock.sleep(READY_INTERVAL_S)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _main(settings: GatewaySettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    release()
    await run(settings, stop, SystemClock())


def main() -> None:
    """The console script."""
    settings = settings_or_exit(
        GatewaySettings,
        prog="spanyard-gateway",
        description="Serves the REST API over ClickHouse and the bucket.",
    )
    setup_logs("gateway", level=settings.log_level)
    try:
        asyncio.run(_main(settings))
    except SpanyardError as error:
        log.error("%s", error)
        sys.exit(1)
