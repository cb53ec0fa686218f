"""What Spanyard asks of a Kubernetes API server, whoever answers: the real one or a test's."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from spanyard_core.kube.apis import Api

Object = dict[str, Any]
"""A manifest as JSON has it."""
FIELD_MANAGER = "spanyard"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One thing that a watch saw. `SYNCED` (no object): all that was there has been told."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    object: Object = field(default_factory=dict)


class ByteStream(Protocol):
    """An answer that is read while it comes."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces as they come, of any size. Raises KubeUnavailableError when it breaks off."""
        ...


class Kube(Protocol):
    """An API server. Raises KubeError when it refuses, KubeUnavailableError when it is away.

    Nothing is tried again in here, except a watch: back-off is the caller's. A cancelled or failed
    change may have been made.
    """

    writes: Counter[tuple[str, str]]
    """Requests that change something, by verb and plural (`builds/status` for a subresource)."""

    async def get(
        self, api: Api, name: str, namespace: str = "", *, subresource: str = ""
    ) -> Object | None:
        """The object, or None when there is none."""
        ...

    async def list(
        self, api: Api, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> "list[Object]":
        """All objects, of all namespaces when none is given; in pages inside."""
        ...

    async def create(
        self,
        api: Api,
        body: Object,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Make an object; `KubeError.exists_already` when its name is taken.

        With `name` and `subresource`: a POST to a subresource (`pods/x/eviction`).
        """
        ...

    async def apply(
        self,
        api: Api,
        body: Object,
        namespace: str = "",
        *,
        manager: str = FIELD_MANAGER,
        force: bool = True,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: makes the object, or sets what `body` says and owns that."""
        ...

    async def merge(
        self, api: Api, name: str, patch: Object, namespace: str = "", *, subresource: str = ""
    ) -> Object | None:
        """Merge patch (RFC 7386): None deletes a field. None when there is no such object.

        A `metadata.resourceVersion` or `uid` in it makes it conditional: `KubeError.conflict`.
        """
        ...

    async def delete(
        self,
        api: Api,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        propagation: str = "Background",
        grace: int | None = None,
    ) -> bool:
        """Ask for removal; False when there is no such object, or one with another uid."""
        ...

    def watch(
        self, api: Api, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """All objects, `SYNCED`, then changes, for ever: it connects again by itself.

        After an interruption that lost changes it lists again: what went meanwhile is told as
        DELETED (with the metadata that identify it, no more), then `SYNCED` comes again. Raises
        KubeError when the server refuses (no such kind, no right).
        """
        ...

    def stream(
        self, path: str, query: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[ByteStream]:
        """GET `path` (with its leading slash) and read the answer as it comes; `pods/log`."""
        ...
