"""What keeps resources, as handlers ask it: typed, and its absence and failures told as answers."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar, cast

from aiohttp import web

from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.resources.api import Applied, ResourceApi, ResourceEvent
from spanyard_core.resources.kinds import Kind, R
from spanyard_core.resources.schema import encode
from spanyard_gateway.state import resources_of

T = TypeVar("T")


class NoKeeperError(SpanyardError):
    """Nobody keeps resources here."""


class KeeperAwayError(SpanyardError):
    """What keeps resources does not answer."""


class Keeper:
    """A ResourceApi. Raises InvalidResourceError, KeeperAwayError."""

    def __init__(self, api: ResourceApi) -> None:
        self._api = api

    @classmethod
    def of(cls, app: web.Application) -> "Keeper | None":
        """The application's, or None where it has only records."""
        api = resources_of(app)
        return None if api is None else cls(api)

    @classmethod
    def needed(cls, app: web.Application) -> "Keeper":
        """The application's. Raises NoKeeperError where it has none."""
        found = cls.of(app)
        if found is None:
            raise NoKeeperError(
                "This gateway shows records and keeps no resources, so nothing can be applied, "
                "changed or deleted here; `spanyard up` runs one that does.",
            )
        return found

    async def all(self, kind: type[R], project: str = "") -> list[R]:
        """All of a kind, of one project or of all."""
        found = await _asked(self._api.list(_name(kind), project=project))
        return [r for r in found if isinstance(r, kind)]

    async def one(self, kind: type[R], name: str) -> R | None:
        """One by its id, or None."""
        found = await _asked(self._api.get(_name(kind), name))
        return found if isinstance(found, kind) else None

    async def events(self, kind: type[R], name: str) -> Sequence[ResourceEvent]:
        """What happened to it, oldest first."""
        return await _asked(self._api.events(_name(kind), name))

    async def apply(
        self, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool
    ) -> Sequence[Applied]:
        """All of them, or none when one is not valid."""
        return await _asked(self._api.apply(manifests, dry_run=dry_run))

    async def patch(self, kind: type[R], name: str, spec: Mapping[str, Any]) -> R | None:
        """Merge into the spec; None when there is none of that id."""
        found = await _asked(self._api.patch(_name(kind), name, spec))
        return found if isinstance(found, kind) else None

    async def delete(self, kind: type[R], name: str) -> bool:
        """Ask for its end; False when there is none of that id."""
        return await _asked(self._api.delete(_name(kind), name))


def shown(resource: R) -> R:
    """The resource as answers have it: `kind`, `apiVersion` and a build's phase always there."""
    return cast("R", encode(resource))  # what msgspec writes is the same type's JSON


def _name(kind: type[R]) -> Kind:
    name: Kind = kind.__name__  # type: ignore[assignment]  # R allows the three
    return name


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except InvalidResourceError:
        raise
    except SpanyardError as error:
        raise KeeperAwayError(str(error)) from error
