"""What keeps resources, in memory: for tests of those who ask it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.resources.api import Applied, ResourceEvent
from spanyard_core.resources.kinds import KINDS, Kind, Resource, project_id, resource_id


class MemoryResources:
    """A ResourceApi; can be away. What tests want in a status they put into `found`."""

    def __init__(self) -> None:
        self.found: dict[tuple[Kind, str], Resource] = {}
        self.told: list[ResourceEvent] = []
        self.away = False

    def _asked(self) -> None:
        if self.away:
            raise SpanyardError("the keeper of resources does not answer")

    async def list(self, kind: Kind, *, project: str = "") -> Sequence[Resource]:
        self._asked()
        every = [r for (k, _), r in sorted(self.found.items()) if k == kind]
        return [
            r for r in every if not project or (r.kind != "Project" and project_id(r) == project)
        ]

    async def get(self, kind: Kind, resource_id: str) -> Resource | None:
        self._asked()
        return self.found.get((kind, resource_id))

    async def events(self, kind: Kind, resource_id: str) -> Sequence[ResourceEvent]:
        self._asked()
        return self.told

    async def apply(
        self, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> Sequence[Applied]:
        self._asked()
        made = [self._made(manifest) for manifest in manifests]
        applied = []
        for resource in made:
            key = (resource.kind, resource_id(resource))
            before = self.found.get(key)
            same = before is not None and before.spec == resource.spec
            applied.append(
                Applied(
                    kind=resource.kind,
                    id=key[1],
                    outcome="unchanged" if same else "configured" if before else "created",
                )
            )
            if not dry_run:
                self.found[key] = resource
        return applied

    def _made(self, manifest: Mapping[str, Any]) -> Resource:
        kind = manifest.get("kind")
        if kind not in KINDS:
            raise InvalidResourceError([("kind", f"is {kind!r}")])
        try:
            resource = msgspec.convert(dict(manifest), KINDS[kind])
        except msgspec.ValidationError as error:
            raise InvalidResourceError([(f"{kind}", str(error))]) from error
        resource.metadata.namespace = resource.metadata.namespace or "local"
        return resource

    async def patch(self, kind: Kind, resource_id: str, spec: Mapping[str, Any]) -> Resource | None:
        self._asked()
        before = self.found.get((kind, resource_id))
        if before is None:
            return None
        merged = msgspec.to_builtins(before)
        merged["spec"] = {k: v for k, v in {**merged["spec"], **spec}.items() if v is not None}
        after = self._made(merged | {"kind": kind})
        self.found[kind, resource_id] = after
        return after

    async def delete(self, kind: Kind, resource_id: str) -> bool:
        self._asked()
        return self.found.pop((kind, resource_id), None) is not None


def manifests() -> list[dict[str, Any]]:
    """A project, two builds and a deployment, as YAML would have them."""
    head = {"apiVersion": "spanyard.dev/v1alpha1"}

    def build(name: str) -> dict[str, Any]:
        return {
            **head,
            "kind": "Build",
            "metadata": {"name": name},
            "spec": {"project": "support", "source": {"directory": {"path": "."}}},
        }

    return [
        {**head, "kind": "Project", "metadata": {"name": "support"}, "spec": {}},
        build("support-1"),
        build("support"),
        {
            **head,
            "kind": "Deployment",
            "metadata": {"name": "support"},
            "spec": {"project": "support", "follow": True, "command": "run"},
        },
    ]
