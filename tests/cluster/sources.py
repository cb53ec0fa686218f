"""Sources and manifests of what cluster tests build and deploy."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spanyard_core.build_objects import source_key
from spanyard_sidecar.sources.packing import pack
from tests.cluster.stack import TEAM, Stack

HERE = Path(__file__).parent
SDK = (HERE.parents[1] / "sdk" / "spanyard", HERE.parents[1] / "core" / "spanyard_core")
INSTALL = "python3 -m pip install --quiet --no-cache-dir --target .packages 'msgspec>=0.20,<1'"
VERSION = "spanyard.dev/v1alpha1"


def application(folder: Path) -> Path:
    """The application of `application/`, with the SDK beside it."""
    shutil.copy2(HERE / "application" / "server.py", folder / "server.py")
    for package in SDK:
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, folder / package.name, ignore=skipped)
    return folder


def uploaded(stack: Stack, folder: Path) -> str:
    """Digest of the folder as an archive, in the bucket as `spanyard deploy` would leave it."""
    with tempfile.NamedTemporaryFile(suffix=".tar.zst") as file:
        pack(folder, Path(file.name))
        data = Path(file.name).read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    async def put() -> None:
        storage = stack.storage()
        await storage.write(source_key(digest), data)
        await storage.close()

    asyncio.run(put())
    return digest


def project(name: str, **spec: Any) -> dict[str, Any]:
    return _object("Project", name, spec)


def build(name: str, project: str, source: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    return _object("Build", name, {"project": project, "source": source, **spec})


def deployment(name: str, project: str, **spec: Any) -> dict[str, Any]:
    """Of the application: with its packages, healthy when it answers."""
    usual = {
        "project": project,
        "command": "python3 server.py",
        "env": [{"name": "PYTHONPATH", "value": ".packages"}],
        "health": {"path": "/health"},
        # It ends at once; the rest is for a collector on a machine that has much to do.
        "terminationGracePeriod": "20s",
    }
    return _object("Deployment", name, {**usual, **spec})


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": TEAM},
        "spec": dict(spec),
    }
