"""The gate: finds out who asks, and keeps each operation's check.

Three ways to be known, in this order: a Bearer token, which Kubernetes reviews; the session cookie
of a browser that showed one; the word of a proxy in front (off by default), taken only from the
addresses that are named. Pods are known by tokens for an audience of their own, so that neither
kind opens what is for the other.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError
from spanyard_core.kube import Kube
from spanyard_core.object_names import check_label, check_project
from spanyard_core.tickets import Signer, Verifier, live_ticket
from spanyard_gateway.auth.caller import Caller, namespace_of
from spanyard_gateway.auth.errors import ForbiddenError, TooOftenError, UnknownCallerError
from spanyard_gateway.auth.pods import AUDIENCE, Pod, Pods
from spanyard_gateway.auth.rates import Rates
from spanyard_gateway.auth.reviews import Person, Reviews
from spanyard_gateway.auth.rights import (
    Across,
    ByHandler,
    ByTicket,
    Check,
    Everywhere,
    InPath,
    InQuery,
    OfPods,
    Public,
)
from spanyard_gateway.auth.sessions import Sessions
from spanyard_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from spanyard_gateway.params import Query

_HOW = "send a Kubernetes token (Authorization: Bearer …); `spanyard login` gets one"


class Gate:
    """One per gateway. Without authentication it lets everybody through."""

    def __init__(
        self, settings: GatewaySettings, kube: Kube | None, signer: Signer, clock: Clock
    ) -> None:
        """Raises SettingError when people are to be asked for and there is no Kubernetes."""
        self.enabled = settings.auth == "kubernetes"
        self.signer = signer
        self.verifier = Verifier.of(signer.public_key)
        self._settings, self._clock = settings, clock
        self._rates = Rates(clock)
        self._reviews: Reviews | None = None
        self._pods: Pods | None = None
        if self.enabled:
            if kube is None:
                raise SettingError("auth: kubernetes, but there is no API server to ask")
            self._reviews = Reviews(kube, clock, settings.auth_cache)
            self._pods = Pods(kube, self._reviews, clock)
        self.sessions = Sessions(signer, settings.session_lifetime, settings.base_path)
        self._proxies = [ipaddress.ip_network(text) for text in settings.trusted_proxies]

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.time_ns() / 1e9

    def mint_live_ticket(self, pod_uid: str) -> str:
        """What opens the `/live` of the collector in this pod, for a minute."""
        return live_ticket(self.signer, pod_uid, self.now())

    # --- who -------------------------------------------------------------------------------

    def from_proxy(self, request: web.Request) -> bool:
        """Whether a trusted proxy sends it, whose X-Forwarded headers count."""
        try:
            peer = ipaddress.ip_address((request.remote or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._proxies)

    def is_secure(self, request: web.Request) -> bool:
        """Whether the client's connection is encrypted, by our own TLS or a trusted proxy's."""
        if self.from_proxy(request):
            forwarded = request.headers.get("X-Forwarded-Proto")
            if forwarded is not None:
                return forwarded.lower() == "https"
        return request.secure

    async def person(self, request: web.Request) -> Person:
        """Who asks. Raises UnknownCallerError, ReviewsAwayError."""
        token = bearer_of(request)
        if token is not None:
            return await self.person_of_token(token)
        person = self.sessions.person(request, self.now(), secure=self.is_secure(request))
        if person is None and self._settings.auth_proxy_user_header:
            person = self._told_by_proxy(request)
        if person is None:
            raise UnknownCallerError(f"Nobody is signed in: {_HOW}.")
        return person

    async def person_of_token(self, token: str) -> Person:
        """Whose token it is. Raises UnknownCallerError, ReviewsAwayError."""
        assert self._reviews is not None
        person = await self._reviews.person(token)
        if person is None:
            raise UnknownCallerError(
                f"Kubernetes does not know the token, or it has ended: {_HOW}."
            )
        return person

    def _told_by_proxy(self, request: web.Request) -> Person | None:
        settings = self._settings
        user = request.headers.get(settings.auth_proxy_user_header, "").strip()
        if not user or not self.from_proxy(request):
            return None
        name = settings.auth_proxy_prefix + user
        given = request.headers.get(settings.auth_proxy_groups_header, "").split(",")
        groups = [settings.auth_proxy_prefix + group.strip() for group in given if group.strip()]
        # Kubernetes' own names are Kubernetes' to give: system:masters may everything.
        if any(text.startswith("system:") for text in (name, *groups)):
            raise UnknownCallerError("the proxy in front told a name of Kubernetes itself")
        return Person(name, groups=(*groups, "system:authenticated"))

    async def pod(self, request: web.Request) -> Pod:
        """Which pod asks. Raises UnknownCallerError, ForbiddenError, ReviewsAwayError."""
        assert self._pods is not None
        token = bearer_of(request)
        if token is None:
            raise UnknownCallerError(
                f"send the pod's own token for the audience {AUDIENCE!r} (Authorization: Bearer …)"
            )
        return await self._pods.of_token(token)

    # --- may they --------------------------------------------------------------------------

    async def admit(self, request: web.Request, check: Check, query: "Query") -> Caller:
        """Keep the check; the caller is then the request's.

        Raises UnknownCallerError, ForbiddenError, TooOftenError, ReviewsAwayError.
        """
        caller = Caller()
        if self.enabled and isinstance(check, OfPods):
            request[POD] = pod = await self.pod(request)
            if not self._rates.take(pod.uid, check.cost):
                raise TooOftenError("this pod asks too often; wait a second")
        elif self.enabled and not isinstance(check, Public | ByTicket):
            person = await self.person(request)
            caller = Caller(person, self._reviews, lambda: self.person(request))
        caller.rights = check.rights
        caller.hold(request)
        match check:
            case InPath():
                identifier = check_project(request.match_info[check.name])
                await caller.require(namespace_of(identifier), *check.rights)
            case InQuery() if self.enabled:
                namespace = query["namespace"]
                if namespace is None:
                    raise SettingError("namespace: missing. Say in which you may do this")
                await caller.require(check_label(namespace, "namespace"), *check.rights)
            case Everywhere():
                await caller.require("", *check.rights)
            case Across() if self.enabled and query["project"] is not None:
                await caller.require(namespace_of(check_project(query["project"])), *check.rights)
                caller.asked = False  # the handler still has to
            case _:
                pass
        return caller


POD = web.RequestKey("pod", Pod)


def pod_of(request: web.Request) -> Pod | None:
    """Which pod asks, of an operation for pods; None where nobody is asked who they are."""
    return request.get(POD)


def forgotten(check: Check, caller: Caller) -> bool:
    """Whether a handler that had to ask about rights did not."""
    return isinstance(check, Across | ByHandler) and not caller.asked


def bearer_of(request: web.Request) -> str | None:
    """The token of the Authorization header; None without one. Raises UnknownCallerError."""
    given = request.headers.getall("Authorization", [])
    if not given:
        return None
    kind, _, token = given[0].partition(" ")
    token = token.strip()
    if len(given) > 1 or kind.lower() != "bearer" or not token or not token.isascii():
        raise UnknownCallerError(f"The Authorization header is not `Bearer …`: {_HOW}.")
    return token


GATE: "web.AppKey[Gate]" = web.AppKey("gate", Gate)
Handler = Callable[[web.Request], Awaitable[Any]]
__all__ = ["GATE", "ForbiddenError", "Gate", "bearer_of", "forgotten", "pod_of"]
