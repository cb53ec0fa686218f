"""Where the test cluster lives: its addresses, its folders, its names on this machine.

One cluster per machine: a bridge, an nftables table and the pods' logs have one place each.
"""

import os
from dataclasses import dataclass
from pathlib import Path

NODE_ADDRESS = "10.97.255.254"
"""Of the node, the API server, DNS and the bucket: on a bridge of our own, seen by pods too."""
NODE_NAME = "spanyard-node"
POD_NETWORK = "10.98.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
"""The first of the service network: what `kubernetes.default.svc` resolves to."""
DOMAIN = "cluster.local"

NODE_BRIDGE = "spanyard-node"
POD_BRIDGE = "spanyard-pods"
"""Interface names: fifteen letters at most."""
NAT_TABLE = "spanyard-cluster"

API_PORT = 6443
ETCD_PORT = 2379
POD_LOGS = Path("/var/log/pods")
"""The kubelet's own default: what capture `hostPath` mounts."""


def cache() -> Path:
    """`$XDG_CACHE_HOME/spanyard-cluster`: outlives a checkout and a run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "spanyard-cluster"


@dataclass(frozen=True)
class Folders:
    """Of the one cluster of this machine."""

    base: Path

    @property
    def run(self) -> Path:
        """Gone with the cluster."""
        return self.base / "run"

    @property
    def containerd(self) -> Path:
        """Its images: kept, so that a second start need not import them again."""
        return self.base / "containerd"

    @property
    def images(self) -> Path:
        """The bases of images, and which content was imported."""
        return self.base / "images"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def certificates(self) -> Path:
        return self.run / "certificates"

    @property
    def socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def state(self) -> Path:
        return self.run / "state.json"

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"

    def made(self) -> "Folders":
        for folder in (self.run, self.containerd, self.images, self.logs, self.certificates):
            folder.mkdir(parents=True, exist_ok=True)
        return self


def folders() -> Folders:
    return Folders(cache())
