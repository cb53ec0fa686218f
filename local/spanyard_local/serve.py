"""Gateway and ingester in one process, over one embedded ClickHouse and one folder (O2).

The same parts as in the cluster. They share a process because the embedded engine's folder can be
opened by one process only.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.clock import SystemClock
from spanyard_core.errors import BadRecordError, DatabaseError, StorageError
from spanyard_core.files import SystemFiles
from spanyard_core.resources.api import ResourceApi
from spanyard_core.serve import Address, serving
from spanyard_core.storage import Storage, open_storage
from spanyard_gateway.app import check_ready, make_app
from spanyard_gateway.ingester_client import IngesterRefusedError
from spanyard_gateway.items import Proof
from spanyard_gateway.live.mount import LiveParts
from spanyard_gateway.queries.proof import prove
from spanyard_gateway.settings import GatewaySettings
from spanyard_gateway.sources import SourceFinder
from spanyard_gateway.state import METRICS, READER, SOURCES
from spanyard_ingester.ingester import Ingester, shards_of
from spanyard_ingester.jobs import prune_scope
from spanyard_ingester.prune import ClickHouseWriterRows, Pruner
from spanyard_ingester.quarantine import (
    CannotReplayError,
    NotInQuarantineError,
    Quarantine,
)
from spanyard_ingester.quarantine_store import ClickHouseQuarantine
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.warehouse_clickhouse import ClickHouseWarehouse
from spanyard_local.layout import Layout
from spanyard_sidecar.model import Stored

log = logging.getLogger("spanyard.local")

LIST_INTERVAL_S = 2.0
"""Listing a local folder is cheap, so a lost hint costs two seconds here instead of ten."""


class DirectIngester:
    """The gateway's view of an ingester in the same process."""

    def __init__(self, ingester: Ingester, quarantine: Quarantine, pruner: Pruner) -> None:
        self._ingester = ingester
        self._quarantine = quarantine
        self._pruner = pruner

    async def hint(self, keys: Sequence[str]) -> None:
        self._ingester.hint(keys)

    async def quarantine_action(
        self, action: str, quarantine_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            if action == "replay":
                return await self._quarantine.replay(quarantine_id, body.get("text"))
            return await self._quarantine.delete(quarantine_id)
        except NotInQuarantineError as error:
            raise _refused(404, "Not in quarantine", error) from error
        except CannotReplayError as error:
            raise _refused(409, "Cannot be replayed", error) from error
        except BadRecordError as error:
            raise _refused(400, "Bad request", error) from error

    async def prune(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            scope = prune_scope(body["project"], body["before"], body["signals"])
        except BadRecordError as error:
            raise _refused(400, "Bad request", error) from error
        found: dict[str, Any] = msgspec.to_builtins(
            await self._pruner.run(scope, dry_run=bool(body["dryRun"]))
        )
        return found


def _refused(status: int, title: str, error: Exception) -> IngesterRefusedError:
    return IngesterRefusedError(status, {"title": title, "detail": str(error)})


class DirectHints:
    """A collector's view of an ingester in the same process; implements `collector.Hints`."""

    def __init__(self, ingester: Ingester) -> None:
        self._ingester = ingester

    def tell(self, keys: Sequence[str]) -> None:
        self._ingester.hint(keys)

    async def run(self) -> None:
        """A root task: there is nothing to send."""
        await asyncio.Event().wait()


class DirectIndex:
    """A collector's view of a gateway in the same process; implements `model.SourceIndex`."""

    def __init__(self, sources: SourceFinder) -> None:
        self._sources = sources

    async def stored_through(self, project: str, fingerprint: str) -> Stored | None:
        try:
            stored = await self._sources.find(project, fingerprint)
        except DatabaseError as error:
            raise StorageError(
                f"ClickHouse cannot tell how far files are stored: {error}"
            ) from error
        if stored is None:
            return None
        return Stored(stored.writer, stored.last_seq, stored.to_offset, stored.pending)


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A gateway that listens and an ingester to run."""

    database: Database
    storage: Storage
    ingester: Ingester
    address: Address
    app: web.Application

    def hints(self) -> DirectHints:
        """For a collector: where new objects are told."""
        return DirectHints(self.ingester)

    @property
    def index(self) -> DirectIndex:
        """For a collector: who knows how far files are stored."""
        return DirectIndex(self.app[SOURCES])

    async def proof(self) -> Proof:
        """What is stored of everything. Raises SpanyardError."""
        return await prove(self.app[READER], self.storage, None)


def ingester_settings(layout: Layout) -> IngesterSettings:
    """Of the ingester on this folder."""
    return IngesterSettings(
        storage=layout.storage_url,
        clickhouse=layout.clickhouse_url,
        # The system's would be that of every `up` on this machine, and each start empties it.
        temp_dir=str(layout.on_their_way.resolve()),
        owner="laptop",
        takeover_after=0,  # the folder's lock says that no other ingester is there
        list_interval=LIST_INTERVAL_S,
    )


@contextlib.asynccontextmanager
async def local_server(
    layout: Layout,
    *,
    host: str,
    port: int,
    resources: ResourceApi | None = None,
    live: LiveParts | None = None,
) -> AsyncIterator[LocalServer]:
    """Open the folder's database and listen. Raises SpanyardError.

    `layout.server_file` tells others the address while the block runs.
    """
    clock, rng = SystemClock(), random.SystemRandom()
    gateway_settings = GatewaySettings(
        storage=layout.storage_url,
        clickhouse=layout.clickhouse_url,
        listen=host,
        port=port,
        same_user=True,  # it runs what it is told, as this user
    )
    async with contextlib.AsyncExitStack() as stack:
        storage = open_storage(layout.storage_url)
        stack.push_async_callback(storage.close)
        db = await stack.enter_async_context(database(layout.clickhouse_url, pool=4))
        await migrate(db)
        warehouse = ClickHouseWarehouse(db)
        ingester = Ingester(
            ingester_settings(layout),
            storage,
            warehouse,
            SystemFiles(),
            clock,
            rng,
            shards=await shards_of(storage, clock, rng),
        )
        quarantine = Quarantine(
            ClickHouseQuarantine(db), storage, warehouse, ingester.ledger, ingester.filer, clock
        )
        pruner = Pruner(storage, ingester.ledger, ClickHouseWriterRows(db), rng)
        app = make_app(
            gateway_settings,
            database=db,
            storage=storage,
            ingester=DirectIngester(ingester, quarantine, pruner),
            clock=clock,
            resources=resources,
            live=live,
        )
        address = await stack.enter_async_context(serving(app, host, port, cancel_abandoned=True))
        await check_ready(app)
        app[METRICS].not_ready = None
        temporary = layout.server_file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"url": address.url, "pid": os.getpid()}))
        temporary.replace(layout.server_file)
        try:
            yield LocalServer(db, storage, ingester, address, app)
        finally:
            layout.server_file.unlink(missing_ok=True)


async def serve(layout: Layout, *, host: str, port: int) -> None:
    """Run until SIGTERM or SIGINT, finish what is under way, end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with local_server(layout, host=host, port=port) as server:
        await server.ingester.run(stop)
