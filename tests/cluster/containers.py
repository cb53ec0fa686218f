"""containerd for the test cluster: its configuration, its start, its images and its traces."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.cluster import daemons
from tests.cluster.addresses import Folders
from tests.cluster.network import cni_programs

NEEDED = ("containerd", "ctr", "runc")
PAUSE = "localhost/spanyard/pause:test"
NAMESPACE = "k8s.io"
"""Of containerd: where the kubelet looks."""


def start(folders: Folders) -> None:
    config = folders.run / "containerd.toml"
    config.write_text(_config(folders), "utf-8")
    daemon = daemons.start(folders, "containerd", ["containerd", "--config", str(config)])
    daemons.wait_until(folders, daemon, lambda: _answers(folders))


def _answers(folders: Folders) -> bool:
    return ctr_done(folders, "images", "list", "-q").returncode == 0


def _config(folders: Folders) -> str:
    return f"""
version = 2
root = "{folders.containerd}"
state = "{folders.run / "containerd"}"
[grpc]
  address = "{folders.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Containers of a machine that may not raise its own priorities.
  restrict_oom_score_adj = true
  disable_apparmor = true
  # Under our own folder: gone with its mounts.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_programs()}"
    conf_dir = "{folders.run / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{shutil.which("runc")}"
      SystemdCgroup = false
"""


def ctr_done(folders: Folders, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["ctr", "--address", str(folders.socket), "--namespace", NAMESPACE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def ctr(folders: Folders, *arguments: str) -> str:
    done = ctr_done(folders, *arguments)
    if done.returncode:
        raise RuntimeError(f"ctr {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def load(folders: Folders, archive: Path) -> None:
    """Import an archive: its names come from inside it. Layers that are there may be missing."""
    ctr(folders, "images", "import", str(archive))


def images(folders: Folders) -> set[str]:
    return set(ctr(folders, "images", "list", "-q").split())


def blobs(folders: Folders) -> set[str]:
    """Digests of what containerd has, layers too."""
    return set(ctr(folders, "content", "list", "-q").split())


def end_containers(folders: Folders) -> int:
    """All of our containerd, at once; how many there were. It must answer."""
    for task in ctr(folders, "tasks", "list", "-q").split():
        ctr_done(folders, "tasks", "delete", "--force", task)
    found = ctr(folders, "containers", "list", "-q").split()
    for container in found:
        ctr_done(folders, "containers", "delete", container)
    return len(found)


def end_shims(folders: Folders) -> None:
    """Processes that serve our socket: a killed containerd leaves them, with their containers."""
    for pid in _shims(folders):
        for child in _children(pid):
            _kill(child)
        _kill(pid)


def _shims(folders: Folders) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"containerd-shim" in words[0] and str(folders.socket).encode() in words:
            found.append(int(place.parent.name))
    return found


def _children(pid: int) -> list[int]:
    """All below it, the nearest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            near = [int(one) for one in task.read_text("ascii").split()]
        except OSError:
            continue
        for child in near:
            found += [child, *_children(child)]
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def unmount_below(folder: Path) -> None:
    """Detach every mount below `folder`, the innermost first. Raises RuntimeError if one stays:
    whoever removed the folder then would remove what is mounted there.
    """
    for place in reversed(_mounts(folder)):
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)
    if left := _mounts(folder):
        raise RuntimeError(f"still mounted: {', '.join(left)}")


def _mounts(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    places = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [place for place in places if place.startswith(f"{folder}/")]
