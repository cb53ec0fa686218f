"""Builds and deployments as tests of servers write them."""

from typing import Any

import msgspec

from spanyard_core.resources.kinds import Build, BuildStatus, Deployment, Phase

NOW = "2026-11-21T14:45:00Z"


def build(
    name: str,
    phase: Phase = "Succeeded",
    *,
    project: str = "shop",
    created: str = NOW,
    digest: str = "",
    namespace: str = "local",
) -> Build:
    """A build in some phase; its artifact's digest is its name's unless one is given."""
    made = msgspec.convert(
        {
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": {"project": project, "source": {"directory": {"path": "."}}},
        },
        Build,
    )
    status = BuildStatus(phase=phase)
    if phase == "Succeeded":
        status.artifact.key = f"builds/{namespace}.{name}/artifact.tar.zst"
        status.artifact.digest = digest or f"sha256:{name}"
    return msgspec.structs.replace(made, status=status)


def deployment(*, generation: int = 1, name: str = "shop", **spec: Any) -> Deployment:
    """A deployment with camelCase fields of its spec; it follows its project by default."""
    if not {"buildRef", "image"} & set(spec):
        spec.setdefault("follow", True)
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "local",
                "uid": "11111111-1111-4111-8111-111111111111",
                "generation": generation,
            },
            "spec": {"project": "shop", "command": "node server.js", **spec},
        },
        Deployment,
    )
