"""The test cluster on Docker, by kind: for machines that have both.

The S3 server runs on the gateway address of kind's Docker network, which pods and this machine
reach alike. Rotation of logs is as small as in our own recipe.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster import s3
from tests.cluster.addresses import Folders
from tests.cluster.node import ROTATION

NAME = "spanyard-test"


def usable() -> bool:
    """Docker answers and kind is there."""
    if shutil.which("kind") is None or shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _kind(*arguments: str) -> str:
    done = subprocess.run(["kind", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kind {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def start(folders: Folders) -> None:
    stop(folders)
    folders.made()
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        **ROTATION,
    }
    config = {
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "kind": "Cluster",
        "nodes": [{"role": "control-plane"}],
        "kubeadmConfigPatches": [json.dumps(kubelet)],
    }
    file = folders.run / "kind.json"
    file.write_text(json.dumps(config), "utf-8")
    _kind("create", "cluster", "--name", NAME, "--config", str(file), "--wait", "180s",
          "--kubeconfig", str(folders.kubeconfig))  # fmt: skip
    s3.start(folders, _gateway())


def stop(folders: Folders) -> None:
    _kind("delete", "cluster", "--name", NAME)
    s3.stop(folders)
    shutil.rmtree(folders.run, ignore_errors=True)


def kubeconfig(folders: Folders) -> Path | None:
    """Of the one that runs."""
    there = NAME in _kind("get", "clusters").split() and folders.kubeconfig.exists()
    return folders.kubeconfig if there else None


def bucket_url(folders: Folders) -> str:
    return s3.url(address=_gateway())


def _gateway() -> str:
    done = subprocess.run(
        ["docker", "network", "inspect", "kind"], capture_output=True, text=True, check=True,
        env={**os.environ, "DOCKER_CLI_HINTS": "false"},
    )  # fmt: skip
    for one in json.loads(done.stdout)[0]["IPAM"]["Config"]:
        if "." in one.get("Gateway", ""):
            return str(one["Gateway"])
    raise RuntimeError("Docker's network `kind` has no IPv4 gateway")


def load(archive: Path) -> None:
    _kind("load", "image-archive", str(archive), "--name", NAME)


def kill(container: str) -> None:
    """SIGKILL to a container's first process."""
    node = f"{NAME}-control-plane"
    ctr = ("ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)
    subprocess.run(["docker", "exec", node, *ctr], capture_output=True, check=True)
