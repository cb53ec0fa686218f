"""The webhook, asked by a real API server: pods that ask get a collector, all others stay as they are.

The API server reaches it on loopback; its certificate and its place in the configuration are proven
on the same server.
"""

import asyncio
import base64
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from spanyard_core.clock import SystemClock
from spanyard_core.kube import MUTATING_WEBHOOKS, NAMESPACES, PODS, SECRETS
from spanyard_core.kube.client import KubeClient
from spanyard_core.serve import serving
from spanyard_operator.pod.collector import CollectorOptions
from spanyard_operator.webhook.certificates import made
from spanyard_operator.webhook.keeping import SECRET, WEBHOOK, Certificate
from spanyard_operator.webhook.server import Collecting, webhook_app
from tests.cluster.apiserver import ApiServer

CLOCK = SystemClock()
GOODBYE = 0.3
"""Seconds in which the other end of a TLS connection answers its end."""


@pytest.fixture
async def kube(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeClient]:
    client = await KubeClient.from_kubeconfig(str(api_server.kubeconfig(tmp_path / "config")))
    yield client
    await client.close()
    await CLOCK.sleep(GOODBYE)


def configuration(name: str, client: dict[str, Any], namespace: str) -> dict[str, Any]:
    """As the chart has it, but for one namespace."""
    return {
        "apiVersion": MUTATING_WEBHOOKS.api_version,
        "kind": MUTATING_WEBHOOKS.kind,
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": WEBHOOK,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun",
                "failurePolicy": "Ignore",
                "reinvocationPolicy": "IfNeeded",
                "clientConfig": client,
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            }
        ],
    }


@contextlib.asynccontextmanager
async def webhook(
    kube: KubeClient, folder: Path, namespace: str, rights: list[tuple[str, str]]
) -> AsyncIterator[None]:
    """Serves, and is known to the API server."""
    pair = made("localhost", datetime.now(UTC))
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    options = CollectorOptions(image="spanyard/sidecar", storage="gateway+http://g:80")

    async def give_rights(of: str, account: str) -> None:
        rights.append((of, account))

    collecting = Collecting(kube, CLOCK, lambda: options, give_rights)
    async with serving(webhook_app(collecting), "127.0.0.1", 0, tls=tls) as address:
        client = {
            "url": f"https://localhost:{address.port}/collect",
            "caBundle": base64.b64encode(pair.bundle).decode(),
        }
        name = f"collect-{namespace}"
        await kube.create(MUTATING_WEBHOOKS, configuration(name, client, namespace))
        try:
            yield
        finally:
            await kube.delete(MUTATING_WEBHOOKS, name)
    await CLOCK.sleep(GOODBYE)


async def namespace_of(kube: KubeClient, level: str = "") -> str:
    name = f"watched-{secrets.token_hex(3)}"
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    await kube.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    return name


def pod(name: str, *, ask: bool = True, project: str = "shop", **more: Any) -> dict[str, Any]:
    annotations = {"spanyard.dev/collect": "true"} if ask else {}
    annotations |= {"spanyard.dev/project": project} if project else {}
    restricted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "app", "image": "app:1", "securityContext": restricted}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "serviceAccountName": "default",  # what this server's missing plugin would set
            **more,
        },
    }


async def made_pod(kube: KubeClient, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    """Waits until the API server has learnt of the webhook: it takes it a moment."""
    name = body["metadata"]["name"]
    for attempt in range(200):
        body["metadata"]["name"] = f"{name}-{attempt}"
        found = await kube.create(PODS, body, namespace)
        if found["spec"].get("initContainers"):
            return found
        await CLOCK.sleep(0.3)
    raise AssertionError("the API server never asked the webhook")


@pytest.mark.parametrize(("level", "mode"), [("", "hostPath"), ("restricted", "api")])
async def test_a_pod_that_asks_is_made_with_a_collector_that_its_namespace_allows(
    kube: KubeClient, tmp_path: Path, level: str, mode: str
) -> None:
    namespace = await namespace_of(kube, level)
    rights: list[tuple[str, str]] = []
    async with webhook(kube, tmp_path, namespace, rights):
        # What the API server makes of it is valid, and in the restricted namespace allowed.
        found = await made_pod(kube, namespace, pod("asks"))
        (collector,) = found["spec"]["initContainers"]
        assert collector["name"] == "spanyard-collector"
        assert collector["restartPolicy"] == "Always"
        assert found["metadata"]["annotations"]["spanyard.dev/collector"] == mode
        assert found["metadata"]["labels"]["spanyard.dev/project"] == "shop"
        (app,) = found["spec"]["containers"]
        environment = {one["name"]: one.get("value") for one in app["env"]}
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
        assert "spanyard-token" not in {one["name"] for one in app["volumeMounts"]}
        assert set(rights) == ({(namespace, "default")} if mode == "api" else set())

        silent = await kube.create(PODS, pod("silent", ask=False), namespace)
        assert "initContainers" not in silent["spec"]
        nameless = await kube.create(PODS, pod("nameless", project=""), namespace)
        assert "initContainers" not in nameless["spec"]

        rights.clear()
        dry = await kube.create(PODS, pod("dry"), namespace, dry_run=True)
        assert dry["spec"]["initContainers"]
        assert not rights


async def test_a_pod_is_made_without_a_collector_when_nobody_answers(
    kube: KubeClient, tmp_path: Path
) -> None:
    namespace = await namespace_of(kube)
    async with webhook(kube, tmp_path, namespace, []):
        await made_pod(kube, namespace, pod("asks"))
    client = {"url": "https://localhost:9/collect"}
    name = f"deaf-{namespace}"
    await kube.create(MUTATING_WEBHOOKS, configuration(name, client, namespace))
    try:
        await CLOCK.sleep(1)
        found = await kube.create(PODS, pod("alone"), namespace)
        assert "initContainers" not in found["spec"]
    finally:
        await kube.delete(MUTATING_WEBHOOKS, name)


async def test_two_replicas_agree_on_one_certificate_and_tell_the_api_server_its_authority(
    kube: KubeClient,
) -> None:
    own = await namespace_of(kube)
    name = f"collect-{own}"
    service = {"service": {"name": "spanyard-operator", "namespace": own, "path": "/collect"}}
    await kube.create(MUTATING_WEBHOOKS, configuration(name, service, own))
    try:
        replicas = [
            Certificate(kube, CLOCK, namespace=own, service="spanyard-operator", configuration=name)
            for _ in range(2)
        ]
        await asyncio.gather(*(one.look() for one in replicas))
        await asyncio.gather(*(one.look() for one in replicas))
        secret = await kube.get(SECRETS, SECRET, own)
        found = await kube.get(MUTATING_WEBHOOKS, name)
        assert secret is not None
        assert found is not None
        (hook,) = found["webhooks"]
        assert hook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]
        assert hook["clientConfig"]["service"]["namespace"] == own
        assert hook["failurePolicy"] == "Ignore"
        assert hook["rules"]
        one, other = (replica._loaded for replica in replicas)
        assert one == other
        assert one is not None
        ca = x509.load_pem_x509_certificates(base64.b64decode(secret["data"]["ca.crt"]))[0]
        x509.load_pem_x509_certificate(one.certificate).verify_directly_issued_by(ca)
        versions = secret["metadata"]["resourceVersion"], found["metadata"]["resourceVersion"]
        await replicas[0].look()
        again = await kube.get(SECRETS, SECRET, own), await kube.get(MUTATING_WEBHOOKS, name)
        assert versions == tuple(each["metadata"]["resourceVersion"] for each in again if each)
    finally:
        await kube.delete(MUTATING_WEBHOOKS, name)
