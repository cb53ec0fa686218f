"""Pods with a collector, as the Kubernetes API lists them."""

from spanyard_core.kube import PODS, Kube
from spanyard_gateway.live.upstream import LivePod

PORT = 4320
"""Of the collector's operations server (`spanyard_operator.pod.collector`)."""
LABEL = "spanyard.dev/"


class KubePods:
    """Implements `PodFinder`."""

    def __init__(self, kube: Kube, *, port: int = PORT) -> None:
        self._kube = kube
        self._port = port

    async def pods(
        self, namespace: str, *, project: str = "", deployment: str = "", build: str = ""
    ) -> list[LivePod]:
        """See `PodFinder`. A pod that ends is listed until it is gone: its collector still reads."""
        wanted = {"project": project, "deployment": deployment, "build": build}
        labels = ",".join(f"{LABEL}{name}={value}" for name, value in wanted.items() if value)
        found = await self._kube.list(PODS, namespace, labels=labels)
        return [pod for pod in map(self._pod, found) if pod is not None]

    def _pod(self, pod: dict[str, object]) -> LivePod | None:
        meta, status = _part(pod, "metadata"), _part(pod, "status")
        address, phase = status.get("podIP"), status.get("phase")
        labels = _part(meta, "labels")
        if not address or phase in {"Succeeded", "Failed"}:
            return None
        host = f"[{address}]" if ":" in str(address) else str(address)
        return LivePod(
            str(meta["uid"]),
            str(meta["name"]),
            str(meta["namespace"]),
            str(labels.get(f"{LABEL}project", "")),
            url=f"http://{host}:{self._port}",
            deployment=str(labels.get(f"{LABEL}deployment", "")),
            build=str(labels.get(f"{LABEL}build", "")),
        )


def _part(of: dict[str, object], name: str) -> dict[str, object]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}
