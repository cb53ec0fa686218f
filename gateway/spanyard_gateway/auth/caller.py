"""Who asks in one request, and what was asked of their rights."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aiohttp import web

from spanyard_core.resources.kinds import R
from spanyard_gateway.auth.errors import missing_rights
from spanyard_gateway.auth.reviews import Person, Reviews
from spanyard_gateway.auth.rights import Right

_TOGETHER = 64
"""Namespaces that one caller asks about at a time."""


class Sight:
    """The namespaces in which a caller has an operation's rights: what its answer may hold."""

    def __init__(self, caller: "Caller", rights: tuple[Right, ...]) -> None:
        self._caller, self._rights = caller, rights

    async def everything(self) -> bool:
        """Whether all of them."""
        self._caller.asked = True
        return await self._caller.has("", self._rights)

    async def among(self, namespaces: Iterable[str]) -> frozenset[str]:
        """Those of the named ones."""
        named = sorted({name for name in namespaces if name})
        if await self.everything():  # asked even where nothing is named
            return frozenset(named)
        found: set[str] = set()
        for at in range(0, len(named), _TOGETHER):
            some = named[at : at + _TOGETHER]
            told = await asyncio.gather(
                *(self._caller.has(name, self._rights, listing=True) for name in some)
            )
            found |= {name for name, ok in zip(some, told, strict=True) if ok}
        return frozenset(found)

    async def those(self, resources: Sequence[R]) -> list[R]:
        """Those of the resources that lie there."""
        permitted = await self.among(r.metadata.namespace for r in resources)
        return [r for r in resources if r.metadata.namespace in permitted]

    async def holds(self, namespace: str) -> bool:
        """Whether this one."""
        return bool(await self.among([namespace]))


class Caller:
    """Who asks. Without authentication everybody may everything, and nothing is asked."""

    def __init__(
        self,
        person: Person | None = None,
        reviews: Reviews | None = None,
        again: Callable[[], Awaitable[Person]] | None = None,
    ) -> None:
        """`again` finds out who they are once more, from the same credentials."""
        self.person = person
        self.rights: tuple[Right, ...] = ()
        """Those of the operation's check."""
        self.asked = False
        """Whether rights were asked for: an answer without that is not sent where it has to be."""
        self._reviews = reviews
        self._again = again

    @classmethod
    def of(cls, request: web.Request) -> "Caller":
        """The request's."""
        return request[_KEY]

    def hold(self, request: web.Request) -> None:
        """Make this the request's."""
        request[_KEY] = self

    async def has(self, namespace: str, rights: Iterable[Right], *, listing: bool = False) -> bool:
        """Whether all rights are held there; an empty namespace stands for all of them."""
        self.asked = True
        if self._reviews is None:
            return True
        if self.person is None:
            return False
        for right in rights:
            if not await self._reviews.allowed(self.person, right, namespace, listing=listing):
                return False
        return True

    async def require(self, namespace: str, *rights: Right) -> None:
        """Raises ForbiddenError, which names what is missing, and ReviewsAwayError."""
        for right in rights:
            if not await self.has(namespace, (right,)):
                name = self.person.name if self.person else "nobody"
                raise missing_rights(name, namespace, (right,))
        self.asked = True

    def sight(self) -> Sight:
        """What the answer may hold."""
        return Sight(self, self.rights)

    async def still_there(self) -> None:
        """For what stays open: find out again who they are. Rights have to be asked after it.

        Raises UnknownCallerError and ReviewsAwayError.
        """
        if self._again is not None:
            self.person = await self._again()


_KEY = web.RequestKey("caller", Caller)


def namespace_of(identifier: str) -> str:
    """The namespace in `{namespace}.{name}`."""
    return identifier.partition(".")[0]
