"""The operator as a whole: what runs while this process holds the Lease."""

import logging

from spanyard_core.kube import KubeError, KubeUnavailableError
from spanyard_core.kube.access import Access
from spanyard_core.tasks import run_root_tasks
from spanyard_operator.builds.reconcile import reconcile_build
from spanyard_operator.builds.start import Attempts
from spanyard_operator.context import Context
from spanyard_operator.deployments.reconcile import Servers
from spanyard_operator.kopf_loop import Signals, run_kopf
from spanyard_operator.projects import Projects
from spanyard_operator.watches import Watches
from spanyard_operator.workqueue import Again, Key

log = logging.getLogger("spanyard.operator")

WAIT_S = 5.0
"""Before the kinds are looked for again."""


class Operator:
    """Watches, works, compares."""

    def __init__(self, context: Context, access: Access, signals: Signals) -> None:
        """`signals` sets the process's signal handlers again, which kopf takes away."""
        self._context = context
        self._access = access
        self._signals = signals
        self._attempts = Attempts(context)
        self._projects = Projects(context, self._attempts)
        self._servers = Servers(context)
        self.watches = Watches(context.cache, context.queue, referenced=self._servers.references)
        self.problem: str | None = "has not begun"
        """Why it does not work (yet); for /readyz."""

    async def reconcile(self, key: Key) -> Again | None:
        """One object."""
        if key.kind == "Build":
            return await reconcile_build(self._context, self._attempts, key.namespace, key.name)
        if key.kind == "Project":
            return await self._projects.reconcile(key.namespace, key.name)
        return await self._servers.reconcile(key.namespace, key.name)

    async def run(self) -> None:
        """Work for ever; raises what should end the process."""
        context = self._context
        # Before anything is decided: whoever starts a build must know which ones run.
        await self._first_look()
        self.problem = None
        log.info("works", extra={"fields": {"objects": len(context.cache)}})
        await run_root_tasks(
            {
                "watches": run_kopf(
                    self.watches, self._access, context.settings.namespaces, self._signals
                ),
                "workers": context.queue.run(self.reconcile, workers=context.settings.workers),
                "comparison": self._compare(),
            }
        )

    async def _first_look(self) -> None:
        """Fill the cache. Waits for the API server, and for the CRDs, which may come a moment later."""
        context = self._context
        while True:
            try:
                await self.watches.compare(context.kube, context.settings.namespaces)
            except KubeUnavailableError as error:
                self.problem = str(error)
            except KubeError as error:
                if error.status != 404:
                    raise
                self.problem = f"apply the CRDs of spanyard.dev, or upgrade them: {error}"
            else:
                return
            log.warning("%s", self.problem)
            await context.clock.sleep(WAIT_S)

    async def _compare(self) -> None:
        """What a watch missed is seen here; it should be nothing, and is said when it is not."""
        context = self._context
        while True:
            await context.clock.sleep(context.settings.resync_interval)
            try:
                differed = await self.watches.compare(context.kube, context.settings.namespaces)
            except KubeUnavailableError as error:
                log.warning("no comparison: %s", error)
                continue
            if differed:
                log.info(
                    "a listing told what no watch did", extra={"fields": {"objects": differed}}
                )
            for project in context.cache.projects():  # ages, and whatever was missed
                context.queue.add(Key("Project", project.metadata.namespace, project.metadata.name))
