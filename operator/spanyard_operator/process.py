"""`spanyard-operator`: the operator as a process."""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import sha256

from aiohttp import web

from spanyard_core.clock import SystemClock
from spanyard_core.end_signals import release
from spanyard_core.errors import SettingError, SpanyardError
from spanyard_core.kube.client import KubeClient
from spanyard_core.kube.lease import Lease, LeaseLostError
from spanyard_core.logs import setup_logs
from spanyard_core.serve import operations_routes, serving
from spanyard_core.settings import settings_or_exit, shown_settings
from spanyard_core.storage import open_storage
from spanyard_core.tasks import run_root_tasks
from spanyard_core.tickets import ensure_keys
from spanyard_operator.cache import Cache
from spanyard_operator.context import Context
from spanyard_operator.events import Events
from spanyard_operator.kopf_loop import Signals
from spanyard_operator.metrics import OperatorMetrics
from spanyard_operator.operator import Operator
from spanyard_operator.settings import OperatorSettings
from spanyard_operator.webhook.running import run_webhook
from spanyard_operator.workqueue import WorkQueue

log = logging.getLogger("spanyard.operator")

PROG = "spanyard-operator"
DESCRIPTION = """\
Makes of Projects, Builds and Deployments what they say: pods, Services, artifacts, status.

Example, against the cluster of a kubeconfig:
  spanyard-operator --kubeconfig ~/.kube/config --own-namespace spanyard \\
    --storage s3://bucket --gateway http://spanyard-gateway.spanyard.svc:8080
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Run until told to end; leaves by SystemExit: 0 in order, 1 failed, 2 wrong settings."""
    settings = settings_or_exit(
        OperatorSettings,
        prog=PROG,
        description=DESCRIPTION,
        argv=argv,
        environ=os.environ if environ is None else environ,
    )
    setup_logs("operator", level=settings.log_level)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(run(settings))
    except SettingError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except LeaseLostError as error:
        # Another one works now. This process begins anew, with nothing in its head.
        log.error("%s", error)
        raise SystemExit(1) from None
    except (SpanyardError, OSError) as error:
        log.error("%s", error)
        raise SystemExit(1) from None


async def run(settings: OperatorSettings) -> None:
    """Serve, wait for the Lease, work; until SIGTERM or SIGINT. The second one ends at once."""
    log.info("starting", extra={"fields": shown_settings(settings)})
    task = asyncio.current_task()
    assert task is not None
    told = False

    def tell() -> None:
        nonlocal told
        if told:
            os._exit(1)
        told = True
        task.cancel()

    def signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, tell)

    signals()
    release()
    try:
        await _run(settings, signals)
    except asyncio.CancelledError:
        if not told:
            raise
        log.info("ended")


async def _run(settings: OperatorSettings, signals: Signals) -> None:
    clock, rng = SystemClock(), random.SystemRandom()
    async with AsyncExitStack() as stack:
        kube = await (
            KubeClient.from_kubeconfig(settings.kubeconfig, settings.context)
            if settings.kubeconfig
            else KubeClient.in_cluster()
        )
        stack.push_async_callback(kube.close)
        storage = open_storage(settings.storage)
        stack.push_async_callback(storage.close)
        namespace = settings.own_namespace or kube.namespace
        lease = Lease(kube, namespace, settings.lease, settings.name, clock=clock)

        parts = Context(
            kube=kube,
            cache=Cache(),
            storage=storage,
            settings=settings,
            clock=clock,
            events=Events(kube, clock, settings.name),
            queue=WorkQueue(clock, rng),
        )
        operator: Operator | None = None

        def ready() -> str | None:
            if not lease.is_held:
                return lease.problem  # one that waits for its turn is ready
            return operator.problem if operator is not None else "has not begun"

        metrics = OperatorMetrics(parts, lambda: lease.is_held)
        app = web.Application()
        app.add_routes(operations_routes(ready, metrics.registry))
        await stack.enter_async_context(serving(app, settings.listen, settings.port))

        async def work() -> None:
            nonlocal operator
            keys = await ensure_keys(kube, namespace)
            salt = sha256(keys.pem()).hexdigest()
            context = replace(parts, live_key=keys.public_key, salt=salt)
            operator = Operator(context, kube.access, signals)
            await operator.run()

        beside = {}
        if settings.webhook_port:  # all replicas answer, also those that wait for their turn
            beside["webhook"] = run_webhook(parts, namespace)
        await run_root_tasks(beside, until=lease.run(work()))
