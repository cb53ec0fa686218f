"""A cluster of one node on this machine, from Debian's packages and Kubernetes' sources.

`start` cleans what a killed start left; `stop` ends what was started, by recorded ids, and removes
bridges, tables, mounts and files. Images are kept: a second start takes seconds.
"""

import os
import shutil
import sys
from pathlib import Path

from tests.cluster import certificates as authority
from tests.cluster import containers, daemons, network, node, pause, s3
from tests.cluster.addresses import NODE_NAME, POD_LOGS, Folders
from tests.cluster.binaries import NODE_TIER, Binaries, built
from tests.cluster.certificates import Certificates
from tests.cluster.tools import COREDNS, PAUSE

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "ethtool": "ethtool",
    "socat": "socat",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
}
"""Program → the Debian package that brings it."""


def obstacle() -> str:
    """Why this machine cannot run it; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "a cluster without Docker needs Linux"
    if os.geteuid() != 0:
        return "a cluster without Docker needs root"
    missing = {package for program, package in PACKAGES.items() if not _there(program)}
    if not network.cni_programs():
        missing.add("containernetworking-plugins")
    if missing:
        return f"missing: apt-get install --no-install-recommends {' '.join(sorted(missing))}"
    return ""


def _there(program: str) -> bool:
    places = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return shutil.which(program, path=places) is not None


def running(folders: Folders) -> bool:
    """All that was started lives, and the API server answers."""
    daemons_of_it = daemons.recorded(folders)
    return (
        bool(daemons_of_it)
        and all(one.alive for one in daemons_of_it)
        and node.ready(Certificates(folders.certificates))
    )


def start(folders: Folders) -> None:
    """Returns when a pod could run. Raises BinariesMissingError, RuntimeError with logs."""
    binaries, coredns = built(NODE_TIER), COREDNS.built()
    PAUSE.built()
    stop(folders)
    folders.made()
    (folders.run / "had-pod-logs").write_text(str(POD_LOGS.exists()), "utf-8")
    network.make(folders)
    certificates = authority.made(folders.certificates)
    containers.start(folders)
    if containers.end_containers(folders):  # of a killed cluster, in the books that are kept
        _end(folders, "containerd")
        containers.start(folders)
    containers.load(folders, pause.archive(folders.images))
    node.start_api(folders, binaries, certificates)
    certificates.kubeconfig("admin", folders.kubeconfig)
    node.start_controllers(folders, binaries, certificates)
    node.start_kubelet(folders, binaries, certificates)
    node.start_proxy(folders, binaries, certificates)
    node.start_dns(folders, coredns, certificates)
    s3.start(folders)
    _wait_for_node(folders, binaries)
    node.kubectl(binaries, folders.kubeconfig, "apply", "-f", "-", given=node.volumes(folders))


def _wait_for_node(folders: Folders, binaries: Binaries) -> None:
    kubelet = daemons.find(folders, "kubelet")
    if kubelet is None:
        kubelet = daemons.Daemon("kubelet", 0, -1)

    def ready() -> bool:
        nodes = node.kubectl(
            binaries, folders.kubeconfig, "get", "nodes",
            "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}",
        )  # fmt: skip
        accounts = node.kubectl(
            binaries, folders.kubeconfig, "get", "serviceaccounts", "-o", "name"
        )
        return nodes == "True" and "default" in accounts

    daemons.wait_until(folders, kubelet, ready)
    node.kubectl(binaries, folders.kubeconfig, "get", "node", NODE_NAME)


def restart_api(folders: Folders) -> None:
    """End the API server and start it again, with all that etcd keeps."""
    _end(folders, "kube-apiserver", at_once=True)
    node.start_api_server(folders, built(NODE_TIER), Certificates(folders.certificates))


def _end(folders: Folders, name: str, *, at_once: bool = False) -> None:
    found = daemons.find(folders, name)
    if found is not None:
        daemons.end(found, at_once=at_once)


def stop(folders: Folders) -> None:
    """Everything of it, also of one whose starter was killed half way."""
    started = daemons.recorded(folders)
    by_name = {one.name: one for one in started}
    for name in ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        if name in by_name:
            daemons.end(by_name[name], at_once=True)
    if "containerd" in by_name and by_name["containerd"].alive:
        containers.end_containers(folders)
    for daemon in reversed(started):
        daemons.end(daemon)
    containers.end_shims(folders)
    containers.unmount_below(folders.run)
    network.remove()
    if _ours(folders):
        for folder in (POD_LOGS, Path("/var/log/containers")):
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folders.run, ignore_errors=True)


def _ours(folders: Folders) -> bool:
    """The pods' logs are those of this cluster: there were none before it."""
    try:
        return (folders.run / "had-pod-logs").read_text("utf-8") == "False"
    except FileNotFoundError:
        return False
