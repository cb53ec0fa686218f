"""`spanyard-gateway`: the gateway on its own."""

import asyncio
import logging
import signal
import sys

import aiohttp

from spanyard_core.clickhouse import database as connected
from spanyard_core.clickhouse.schema import check_version
from spanyard_core.clock import Clock, SystemClock
from spanyard_core.errors import DatabaseUnavailableError, SpanyardError
from spanyard_core.logs import setup_logs
from spanyard_core.serve import serving
from spanyard_core.settings import settings_or_exit
from spanyard_core.storage import open_storage
from spanyard_core.tasks import run_root_tasks
from spanyard_gateway.app import check_ready, make_app
from spanyard_gateway.ingester_client import HttpIngesterClient
from spanyard_gateway.settings import GatewaySettings

log = logging.getLogger("spanyard.gateway")

READY_INTERVAL_S = 5


async def run(settings: GatewaySettings, stop: asyncio.Event, clock: Clock) -> None:
    """Serve until `stop` is set. Raises SpanyardError for what waiting will not mend."""
    storage = open_storage(settings.storage)
    try:
        async with (
            connected(settings.clickhouse) as database,
            aiohttp.ClientSession() as session,
        ):
            app = make_app(
                settings,
                database=database,
                storage=storage,
                ingester=HttpIngesterClient(session, settings.ingester),
                clock=clock,
            )

            async def watch() -> None:
                while True:
                    try:
                        await check_version(database)
                        await check_ready(app)
                    except DatabaseUnavailableError as error:
                        app_not_ready(str(error))
                    await clock.sleep(READY_INTERVAL_S)

            def app_not_ready(reason: str) -> None:
                from spanyard_gateway.state import METRICS

                app[METRICS].not_ready = reason

            async with serving(app, settings.listen, settings.port):
                await run_root_tasks({"watch over ClickHouse": watch()}, until=_wait(stop))
    finally:
        await storage.close()


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _main(settings: GatewaySettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
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


if __name__ == "__main__":
    main()
