"""Where the gateway is in a cluster: its Service by labels, and behind it a pod that is ready."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_core.errors import SpanyardError
from spanyard_core.kube import PODS, SERVICES, Kube, KubeError, Object
from spanyard_local.cluster.portforward import ForwardError, PodPort

LABELS = "app.kubernetes.io/part-of=spanyard,app.kubernetes.io/component=gateway"
NAMESPACES = ("spanyard", "spanyard-system")
"""Where it is looked for by those who may not list all Services."""


class NoGatewayError(SpanyardError):
    """There is none, or more than one, or it may not be looked for."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Service, the gateway's or a Deployment's."""

    namespace: str
    name: str
    selector: str
    target: Any
    """Port of its pods: a number or a name."""

    @property
    def place(self) -> str:
        """For people."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Way:
    """How one of its pods is asked."""

    to: PodPort
    scheme: str
    base_path: str


async def find_gateway(kube: Kube, namespace: str = "") -> Gateway:
    """The gateway of the cluster, or of a namespace. Raises NoGatewayError."""
    found = [_read(service) async for service in _services(kube, namespace)]
    if not found:
        where = f"in the namespace {namespace}" if namespace else "in this cluster"
        raise NoGatewayError(
            f"there is no gateway of Spanyard {where} that you may see (Services with the labels "
            f"{LABELS}). Install it with the chart, name its namespace with --gateway-namespace, or "
            "its address with --server"
        )
    if len(found) > 1:
        places = ", ".join(one.place for one in found)
        raise NoGatewayError(
            f"this cluster has several gateways: {places}; name one's namespace with "
            "--gateway-namespace"
        )
    return found[0]


async def find_server(kube: Kube, namespace: str, deployment: str) -> Gateway:
    """The Service of a Deployment of ours. Raises NoGatewayError."""
    service = await kube.get(SERVICES, f"{deployment}-server", namespace)
    if service is None:
        raise NoGatewayError(
            f"there is no deployment {deployment} in the namespace {namespace} that serves; "
            f"`spanyard show deployment {namespace}.{deployment}` says why"
        )
    return _read(service)


async def _services(kube: Kube, namespace: str) -> AsyncIterator[Object]:
    if namespace:
        for service in await _listed(kube, namespace):
            yield service
        return
    try:
        everywhere = await kube.list(SERVICES, labels=LABELS)
    except KubeError as error:
        if error.status != 403:
            raise
        for place in NAMESPACES:
            try:
                for service in await kube.list(SERVICES, place, labels=LABELS):
                    yield service
            except KubeError as refused:
                if refused.status != 403:
                    raise
        return
    for service in everywhere:
        yield service


async def _listed(kube: Kube, namespace: str) -> Sequence[Object]:
    try:
        return await kube.list(SERVICES, namespace, labels=LABELS)
    except KubeError as error:
        if error.status != 403:
            raise
        raise NoGatewayError(
            f"you may not list Services in the namespace {namespace}; ask for `get` and `list` of "
            "services and pods there, or name the gateway's address with --server"
        ) from error


def _read(service: Object) -> Gateway:
    metadata, spec = service["metadata"], service["spec"]
    [first, *_] = spec["ports"]
    selector = ",".join(f"{name}={value}" for name, value in sorted(spec["selector"].items()))
    return Gateway(
        metadata["namespace"], metadata["name"], selector, first.get("targetPort", first["port"])
    )


async def way_to(kube: Kube, gateway: Gateway) -> Way:
    """A pod of it that is ready. Raises ForwardError, KubeError."""
    pods = await kube.list(PODS, gateway.namespace, labels=gateway.selector)
    ready = [pod for pod in pods if _is_ready(pod)]
    if not ready:
        told = f"{len(pods)} pods, none of them ready" if pods else "no pods"
        raise ForwardError(
            f"{gateway.place} has {told}; `kubectl get pods -n {gateway.namespace}` says more"
        )
    pod = max(ready, key=lambda one: str(one["metadata"].get("creationTimestamp", "")))
    container, port = _port(pod, gateway.target)
    variables = {e.get("name"): e.get("value", "") for e in container.get("env") or ()}
    return Way(
        PodPort(gateway.namespace, pod["metadata"]["name"], port),
        "https" if variables.get("SPANYARD_TLS_CERT") else "http",
        str(variables.get("SPANYARD_BASE_PATH") or ""),
    )


def _is_ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _port(pod: Object, target: Any) -> tuple[Mapping[str, Any], int]:
    """The container that listens on the Service's target, and the port's number."""
    containers = pod["spec"]["containers"]
    for container, port in _ports(containers):
        if target in {port.get("name"), port.get("containerPort")}:
            return container, int(port["containerPort"])
    if isinstance(target, int):  # containers need not declare what they listen on
        return containers[0], target
    raise ForwardError(f"the gateway's pod {pod['metadata']['name']} has no port {target!r}")


def _ports(containers: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    for container in containers:
        for port in container.get("ports") or ():
            yield container, port
