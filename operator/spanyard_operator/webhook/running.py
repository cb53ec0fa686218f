"""The webhook as a part of the operator's process. All replicas serve it, whoever holds the Lease."""

import logging

from spanyard_core.errors import SpanyardError
from spanyard_core.serve import serving
from spanyard_core.tickets import ensure_keys
from spanyard_operator.accounts import Accounts
from spanyard_operator.context import Context
from spanyard_operator.pod.collector import CollectorOptions
from spanyard_operator.webhook.keeping import AGAIN_S, Certificate
from spanyard_operator.webhook.server import Collecting, webhook_app

log = logging.getLogger("spanyard.operator")


async def run_webhook(context: Context, namespace: str) -> None:
    """Serve for ever; `namespace` is the operator's own. Raises SettingError."""
    settings, accounts = context.settings, Accounts(context)
    certificate = Certificate(
        context.kube,
        context.clock,
        namespace=namespace,
        service=settings.webhook_service,
        configuration=settings.webhook_configuration,
    )
    live_key = await _prepared(context, namespace, certificate)

    def options() -> CollectorOptions:
        return settings.collector_options(live_key=live_key)

    async def give_rights(of: str, account: str) -> None:
        await accounts.ensure(of, account, api=True)

    collecting = Collecting(context.kube, context.clock, options, give_rights)
    async with serving(
        webhook_app(collecting), settings.listen, settings.webhook_port, tls=certificate.context
    ):
        await certificate.keep()


async def _prepared(context: Context, namespace: str, certificate: Certificate) -> str:
    """The public key for collectors, when there is a certificate to serve with."""
    while True:
        try:
            keys = await ensure_keys(context.kube, namespace)
            await certificate.look()
        except SpanyardError as error:
            log.warning("the webhook does not serve yet: %s", error)
            await context.clock.sleep(AGAIN_S)
        else:
            return keys.public_key
