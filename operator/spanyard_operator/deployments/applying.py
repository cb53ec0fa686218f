"""The children of one Deployment as its plan wants them. What the API server refuses is told."""

from collections.abc import Awaitable

from spanyard_core.kube import (
    APPS_DEPLOYMENTS,
    HTTP_ROUTES,
    INGRESSES,
    SERVICES,
    Api,
    KubeError,
    KubeUnavailableError,
    Object,
)
from spanyard_core.resources.kinds import Failure, Revision
from spanyard_operator.accounts import Accounts
from spanyard_operator.context import Context
from spanyard_operator.deployments import manifests
from spanyard_operator.deployments.assembling import around
from spanyard_operator.deployments.children import Children
from spanyard_operator.deployments.planning import Plan
from spanyard_operator.deployments.pod import template
from spanyard_operator.deployments.refusals import refusal
from spanyard_operator.names import server_name
from spanyard_operator.outcomes import StalledError

WAYS_IN: dict[str, Api] = {"ingress": INGRESSES, "httpRoute": HTTP_ROUTES}
"""Fields of `spec.expose`."""


class Applier:
    """For all Deployments."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._children = Children(context)
        self._accounts = Accounts(context)

    def forget(self, namespace: str, name: str) -> None:
        """A Deployment that is gone."""
        self._children.forget(namespace, server_name(name))

    async def apply(self, plan: Plan, revision: Revision) -> Failure | None:
        """Let all children be as wanted. Raises WaitingError, and what is to be tried again.

        The rest is done when one is refused, except that nothing leads to a server that is none.
        """
        deployment = plan.deployment
        failure = await _tried(APPS_DEPLOYMENTS, self._server(plan, revision))
        if failure is not None:
            return failure
        for api, child in (
            (SERVICES, manifests.service(deployment)),
            (INGRESSES, manifests.ingress(deployment)),
            (HTTP_ROUTES, manifests.http_route(deployment)),
        ):
            if child is not None:
                step = self._children.apply(api, child, deployment)
                failure = await _tried(api, step) or failure
        return failure

    async def scale(self, plan: Plan) -> None:
        """There is nothing new to run: only the number of replicas is to be changed."""
        apps = plan.apps
        if apps is None or plan.foreign or apps["spec"].get("replicas") == plan.replicas:
            return
        about = apps["metadata"]
        patch: Object = {"metadata": {"uid": about["uid"]}, "spec": {"replicas": plan.replicas}}
        answer = await self._context.kube.merge(
            APPS_DEPLOYMENTS, about["name"], patch, about["namespace"]
        )
        if answer is not None:
            self._context.cache.put(APPS_DEPLOYMENTS, answer)

    async def _server(self, plan: Plan, revision: Revision) -> None:
        deployment, context = plan.deployment, self._context
        await self._close_ways_in(plan)
        account = await self._accounts.ensure(
            deployment.metadata.namespace,
            deployment.spec.service_account_name,
            api=plan.capture.mode == "api",
        )
        pod = template(
            deployment,
            around(
                deployment,
                context.settings,
                account=account,
                revision=revision,
                build=plan.wanted.choice.build,
                capture=plan.capture.mode,
                live_key=context.live_key,
            ),
        )
        replicas = None if plan.foreign else plan.replicas
        child = manifests.apps_deployment(deployment, pod, revision, replicas=replicas)
        await self._children.apply(APPS_DEPLOYMENTS, child, deployment)

    async def _close_ways_in(self, plan: Plan) -> None:
        """What was made and is no longer asked for, as the child's annotation tells."""
        if plan.apps is None:
            return
        wanted = manifests.ways_in(plan.deployment)
        said = (plan.apps["metadata"].get("annotations") or {}).get(manifests.EXPOSED, "")
        for name in said.split(","):
            if name in WAYS_IN and name not in wanted:
                child = server_name(plan.deployment.metadata.name)
                await self._children.remove(WAYS_IN[name], child, plan.deployment)


async def _tried(api: Api, step: Awaitable[object]) -> Failure | None:
    """What keeps it from being done. Raises what may go by itself."""
    try:
        await step
    except StalledError as error:
        return error.failure
    except (KubeError, KubeUnavailableError) as error:
        failure = refusal(error, api)
        if failure is None:
            raise
        return failure
    return None
