"""Kubernetes' own programs, built from source once and kept outside the checkout.

No registry of images and no download of binaries is needed: the Go module proxy has the sources.
`python -m tests.cluster.binaries` builds what the API tier needs (etcd and the API server: about
four minutes on two cores the first time, seconds when they are there).
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "v1.34.4"
ETCD = "v3.6.4"
STAGING = "v0.34.4"
"""Of `k8s.io/api` and the others that live in Kubernetes' own tree: without it they resolve to
v0.0.0 and nothing builds."""

PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
API_TIER = ("etcd", "kube-apiserver")
NODE_TIER = tuple(PACKAGES)


class BinariesMissingError(Exception):
    """They are not there and cannot be built here. Says why."""


@dataclass(frozen=True)
class Binaries:
    """The programs of one version."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def missing(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not self.path(name).exists()]


def kept() -> Binaries:
    """Where they are kept: `$XDG_CACHE_HOME/spanyard-cluster/{versions}`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Binaries(cache / "spanyard-cluster" / f"kubernetes-{KUBERNETES}-etcd-{ETCD}")


def built(names: Iterable[str] = API_TIER) -> Binaries:
    """The programs, built now when they are not there. Raises BinariesMissingError."""
    binaries = kept()
    if binaries.missing(names):
        with one_builder(binaries.folder):
            for name in binaries.missing(names):
                _build(binaries, name)
    return binaries


@contextmanager
def one_builder(folder: Path) -> Iterator[None]:
    """A second process waits and then finds what the first one built."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(binaries: Binaries, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="spanyard-cluster-") as folder:
        module = Path(folder)
        (module / "go.mod").write_text(_go_mod(), "utf-8")
        unfinished = binaries.path(f".{name}.unfinished")
        major, minor, _ = KUBERNETES.removeprefix("v").split(".")
        said = {
            "gitVersion": KUBERNETES,
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
            "gitCommit": "none",
        }
        flags = " ".join(
            f"-X k8s.io/component-base/version.{key}={value}" for key, value in said.items()
        )
        _go(
            "build", "-mod=mod", "-trimpath", "-ldflags", f"-s -w {flags}",
            "-o", str(unfinished), PACKAGES[name], cwd=module,
        )  # fmt: skip
        unfinished.rename(binaries.path(name))


def _go_mod() -> str:
    """A module that requires Kubernetes and says what its own `replace` block would say."""
    about = json.loads(_go("mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES}"))
    theirs = Path(about["GoMod"]).read_text("utf-8")
    staging = re.findall(r"^\s*(k8s\.io/\S+) => \./staging/", theirs, re.MULTILINE)
    if not staging:
        raise BinariesMissingError(f"the go.mod of Kubernetes {KUBERNETES} names no staging module")
    return "\n".join(
        [
            "module spanyard.dev/cluster",
            "go 1.24.0",
            "godebug default=go1.24",
            f"require k8s.io/kubernetes {KUBERNETES}",
            f"require go.etcd.io/etcd/server/v3 {ETCD}",
            *(f"replace {name} => {name} {STAGING}" for name in sorted(set(staging))),
            "",
        ]
    )


def _go(*arguments: str, cwd: Path | None = None) -> str:
    go = shutil.which("go")
    if go is None:
        raise BinariesMissingError(
            "there is no Go to build Kubernetes with: install Go 1.24 or newer"
        )
    done = subprocess.run(
        ["nice", "-n", "15", go, *arguments],
        cwd=cwd or tempfile.gettempdir(),
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BinariesMissingError(f"go {arguments[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    print(built(sys.argv[1:] or API_TIER).folder)
