"""What authentication needs when the gateway starts: the API server and the signing key."""

import logging
import os
from pathlib import Path

from spanyard_core.errors import SettingError
from spanyard_core.kube.client import KubeClient
from spanyard_core.tickets import Signer
from spanyard_gateway.settings import GatewaySettings

log = logging.getLogger("spanyard.gateway.auth")


async def open_kube() -> KubeClient:
    """The API server of the pod's cluster; outside a pod that of the kubeconfig.

    Raises SettingError.
    """
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return await KubeClient.in_cluster()
    return await KubeClient.from_kubeconfig()


def signer_of(settings: GatewaySettings) -> Signer:
    """The key of the setting, or one that lives as long as this process. Raises SettingError."""
    if not settings.signing_key:
        if settings.auth != "none":
            log.warning(
                "no signing_key: sessions end with this process and count in this replica alone"
            )
        return Signer.generate()
    try:
        pem = Path(settings.signing_key).read_bytes()
    except OSError as error:
        raise SettingError(
            f"signing_key: {settings.signing_key!r} cannot be read: {error.strerror or error}"
        ) from error
    return Signer.from_pem(pem)
