"""Keeps the webhook's certificate: in the Secret, in this process, and its authority where the API
server looks for it. Every replica does this; who comes second takes what the first one made."""

import base64
import binascii
import logging
import ssl
import tempfile
from pathlib import Path

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.kube import MUTATING_WEBHOOKS, SECRETS, Kube, KubeError, Object
from spanyard_operator.webhook.certificates import (
    CA_FIELD,
    CERTIFICATE_FIELD,
    KEY_FIELD,
    Pair,
    host_name,
    made,
    now,
)

log = logging.getLogger("spanyard.operator")

SECRET = "spanyard-webhook"  # noqa: S105 - its name
WEBHOOK = "collect.spanyard.dev"
"""Name of the one webhook in the configuration."""
LOOK_S = 60.0
AGAIN_S = 5.0


class Certificate:
    """`context` serves the newest certificate that was loaded."""

    def __init__(
        self, kube: Kube, clock: Clock, *, namespace: str, service: str, configuration: str
    ) -> None:
        """`configuration`: name of the MutatingWebhookConfiguration; empty: somebody else's matter.

        Raises SettingError.
        """
        self._kube = kube
        self._clock = clock
        self._namespace = namespace
        self._host = host_name(service, namespace)
        self._configuration = configuration
        self._loaded: Pair | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    async def keep(self) -> None:
        """Look every minute, for ever."""
        while True:
            pause = LOOK_S
            try:
                await self.look()
            except SpanyardError as error:
                log.warning("the webhook's certificate: %s; trying again", error)
                pause = AGAIN_S
            await self._clock.sleep(pause)

    async def look(self) -> None:
        """Once. Raises KubeError, KubeUnavailableError."""
        pair = await self._in_secret()
        if self._configuration:
            await self._tell(pair.bundle)  # before it is used
        if pair != self._loaded:
            self._load(pair)
            self._loaded = pair
            log.info("the webhook serves a new certificate")

    async def _in_secret(self) -> Pair:
        found = await self._kube.get(SECRETS, SECRET, self._namespace)
        pair = _pair(found or {})
        if pair is not None and pair.fits(self._host, now()):
            return pair
        fresh = made(self._host, now(), before=pair.bundle if pair else b"")
        data = {
            CA_FIELD: _base64(fresh.bundle),
            CERTIFICATE_FIELD: _base64(fresh.certificate),
            KEY_FIELD: _base64(fresh.key),
        }
        metadata: Object = {"name": SECRET, "namespace": self._namespace}
        try:
            if found is None:
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
                await self._kube.create(SECRETS, body, self._namespace)
            else:
                version = found["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "data": data}
                await self._kube.merge(SECRETS, SECRET, patch, self._namespace)
        except KubeError as error:
            if not (error.exists_already or error.conflict):
                raise
            theirs = _pair(await self._kube.get(SECRETS, SECRET, self._namespace) or {})
            if theirs is not None:
                return theirs
            raise
        return fresh

    async def _tell(self, bundle: bytes) -> None:
        found = await self._kube.get(MUTATING_WEBHOOKS, self._configuration)
        if found is None:
            log.warning("there is no MutatingWebhookConfiguration %s", self._configuration)
            return
        wanted = _base64(bundle)
        if any(
            one["name"] == WEBHOOK and one["clientConfig"].get("caBundle") == wanted
            for one in found.get("webhooks") or ()
        ):
            return
        body = {
            "apiVersion": MUTATING_WEBHOOKS.api_version,
            "kind": MUTATING_WEBHOOKS.kind,
            "metadata": {"name": self._configuration},
            "webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": wanted}}],
        }
        await self._kube.apply(MUTATING_WEBHOOKS, body)

    def _load(self, pair: Pair) -> None:
        # The library takes files alone.
        with tempfile.TemporaryDirectory(prefix="spanyard-webhook-") as folder:
            certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            certificate.write_bytes(pair.certificate)
            key.touch(0o600)
            key.write_bytes(pair.key)
            self.context.load_cert_chain(certificate, key)


def _pair(secret: Object) -> Pair | None:
    data = secret.get("data") or {}
    try:
        texts = [
            base64.b64decode(data[field], validate=True)
            for field in (CA_FIELD, CERTIFICATE_FIELD, KEY_FIELD)
        ]
    except (KeyError, TypeError, binascii.Error):
        return None
    return Pair(*texts)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
