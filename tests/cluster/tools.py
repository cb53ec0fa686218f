"""Programs around Kubernetes that the cluster tests use: helm, CoreDNS, the pause image's.

Each is built from source once and kept by its own version, beside those of `binaries`.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.addresses import cache
from tests.cluster.binaries import BinariesMissingError, one_builder

PAUSE_GO = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
}
"""
"""It holds a pod's network namespace and does nothing else."""


@dataclass(frozen=True)
class Tool:
    """One program."""

    name: str
    version: str
    package: str = ""
    """Empty: the source is in `text`."""
    text: str = ""

    @property
    def path(self) -> Path:
        return cache() / f"{self.name}-{self.version}" / self.name

    def built(self) -> Path:
        """Built now when it is not there. Raises BinariesMissingError."""
        if not self.path.exists():
            with one_builder(self.path.parent):
                if not self.path.exists():
                    self._build()
        return self.path

    def _build(self) -> None:
        with tempfile.TemporaryDirectory(prefix="spanyard-cluster-") as folder:
            if self.package:
                _go(["install", "-trimpath", "-ldflags=-s -w", f"{self.package}@{self.version}"],
                    Path(folder))  # fmt: skip
            else:
                (Path(folder) / "go.mod").write_text("module spanyard.dev/tool\ngo 1.24\n", "utf-8")
                (Path(folder) / "main.go").write_text(self.text, "utf-8")
                _go(["build", "-trimpath", "-ldflags=-s -w", "-o", self.name, "."], Path(folder))
            unfinished = self.path.with_suffix(".unfinished")
            shutil.copy2(Path(folder) / self.name, unfinished)
            unfinished.rename(self.path)


HELM = Tool("helm", "v4.3.1", "helm.sh/helm/v4/cmd/helm")
COREDNS = Tool("coredns", "v1.15.0", "github.com/coredns/coredns")
PAUSE = Tool("pause", "v1", text=PAUSE_GO)
TOOLS = (HELM, COREDNS, PAUSE)


def _go(arguments: list[str], folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise BinariesMissingError("there is no Go to build with: install Go 1.24 or newer")
    done = subprocess.run(
        ["nice", "-n", "15", go, *arguments],
        cwd=folder,
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOBIN": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BinariesMissingError(f"go {arguments[0]} failed: {done.stderr[-2000:]}")
