"""Where resources live: the seam between the gateway or a runner and what keeps them.

Implementations: a folder on the laptop, the Kubernetes API in a cluster. Ids are
`{namespace}.{name}`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from spanyard_core.resources.kinds import Camel, Kind, Resource

Outcome = Literal["created", "configured", "unchanged"]


class Applied(Camel):
    """What became of one manifest."""

    kind: Kind
    id: str
    outcome: Outcome
    warnings: list[str] = msgspec.field(default_factory=list)


class ResourceEvent(Camel):
    """A Kubernetes Event about a resource, the newest last."""

    time: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    count: int = 1


class ResourceApi(Protocol):
    """See the module. Every call raises SpanyardError when the keeper does not answer."""

    async def list(self, kind: Kind, *, project: str = "") -> Sequence[Resource]:
        """All of a kind, by id; `project` is an id and leaves out the others."""
        ...

    async def get(self, kind: Kind, resource_id: str) -> Resource | None:
        """One, or None."""
        ...

    async def events(self, kind: Kind, resource_id: str) -> Sequence[ResourceEvent]:
        """What happened to it, oldest first; bounded."""
        ...

    async def apply(
        self, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> Sequence[Applied]:
        """Create or change what they name: all of them, or none when one is not valid.

        Raises InvalidResourceError, which names every wrong field of every manifest.
        """
        ...

    async def patch(self, kind: Kind, resource_id: str, spec: Mapping[str, Any]) -> Resource | None:
        """Merge into the spec (RFC 7386), validated like `apply`; None when there is none."""
        ...

    async def delete(self, kind: Kind, resource_id: str) -> bool:
        """Ask for its end; False when there is none. It is gone when its cleanup is done."""
        ...
