"""The operator's reconcilers in this process, against a real API server, in one namespace.

As in `spanyard_operator.operator`, but for kopf and the Lease: watches of our own client feed the
same cache and queue.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from spanyard_core.clock import SystemClock
from spanyard_core.kube.client import KubeClient
from spanyard_core.storage import open_storage
from spanyard_operator.cache import KEPT, Cache
from spanyard_operator.context import Context
from spanyard_operator.deployments.reconcile import Servers
from spanyard_operator.events import Events
from spanyard_operator.names import OURS
from spanyard_operator.settings import OperatorSettings
from spanyard_operator.watches import REFERENCED, SELECTED, Watches
from spanyard_operator.workqueue import Again, Key, WorkQueue


@asynccontextmanager
async def operating(
    kubeconfig: Path, namespace: str, storage: Path, **settings: Any
) -> AsyncIterator[Context]:
    """Deployments of one namespace are reconciled while the context lasts."""
    kube = await KubeClient.from_kubeconfig(str(kubeconfig))
    clock, rng = SystemClock(), random.Random(1)
    cache, queue = Cache(), WorkQueue(SystemClock(), rng)
    context = Context(
        kube=kube,
        cache=cache,
        storage=open_storage(f"file://{storage}"),
        settings=OperatorSettings(
            **{"storage": f"file://{storage}", "gateway": "http://gateway", **settings}
        ),
        clock=clock,
        events=Events(kube, clock, "test"),
        queue=queue,
    )
    servers = Servers(context)
    watches = Watches(cache, queue, referenced=servers.references)

    async def reconcile(key: Key) -> Again | None:
        if key.kind == "Deployment":
            return await servers.reconcile(key.namespace, key.name)
        return None

    synced = {api: asyncio.Event() for api in (*KEPT, *REFERENCED)}

    async def watch(api: Any) -> None:
        at = namespace if api.namespaced else ""
        async for event in kube.watch(api, at, labels=OURS if api in SELECTED else ""):
            if event.type == "SYNCED":
                synced[api].set()
            else:
                watches.seen(api, event.type, event.object)

    tasks = [asyncio.create_task(watch(api), name=f"watch of {api.plural}") for api in synced]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(one.wait() for one in synced.values()))
        tasks.append(asyncio.create_task(queue.run(reconcile, workers=4), name="workers"))
        yield context
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await context.storage.close()
        await kube.close()
        await asyncio.sleep(0.25)  # TLS connections say goodbye: else the loop ends before they do
