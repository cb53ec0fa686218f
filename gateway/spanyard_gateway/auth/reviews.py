"""What Kubernetes is asked: whose token is this (TokenReview), may they (SubjectAccessReview).

Answers are kept for seconds, refusals for less, so that a right that was just given works at once.
Tokens are known by their sha256 alone; nothing here keeps, logs or repeats one.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spanyard_core.clock import Clock
from spanyard_core.kube import (
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    Kube,
    KubeError,
    KubeUnavailableError,
)
from spanyard_core.resources.kinds import GROUP
from spanyard_gateway.auth.errors import ReviewsAwayError
from spanyard_gateway.auth.kept import Kept
from spanyard_gateway.auth.rights import Right

log = logging.getLogger("spanyard.gateway.auth")

MAX_TOKEN = 16_384
"""Bytes; nothing longer is asked about."""
REFUSED_SECONDS = 2.0
AT_ONCE = 16
"""Questions under way: a flood of wrong tokens must not become one for the API server."""
MOST_TOKENS = 10_000
MOST_DECISIONS = 100_000


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as Kubernetes knows them: a user, or a service account."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def extras(self, key: str) -> tuple[str, ...]:
        """The values of one extra."""
        return dict(self.extra).get(key, ())

    @classmethod
    def of(cls, user: Mapping[str, Any]) -> "Person":
        """From `status.user` of a TokenReview."""
        extra = user.get("extra") or {}
        return cls(
            str(user.get("username", "")),
            str(user.get("uid", "")),
            tuple(user.get("groups") or ()),
            tuple(sorted((key, tuple(values or ())) for key, values in extra.items())),
        )


class Reviews:
    """Asks the API server. Raises ReviewsAwayError when it does not answer."""

    def __init__(self, kube: Kube, clock: Clock, seconds: float) -> None:
        self._kube = kube
        refused = min(REFUSED_SECONDS, seconds)
        self._people: Kept[tuple[bytes, str], Person | None] = Kept(
            clock, seconds=lambda p: seconds if p else refused, most=MOST_TOKENS, at_once=AT_ONCE
        )
        self._decisions: Kept[tuple[Person, Right, str], bool] = Kept(
            clock, seconds=lambda ok: seconds if ok else refused, most=MOST_DECISIONS,
            at_once=AT_ONCE,
        )  # fmt: skip
        self._listed: Kept[tuple[Person, Right, str], bool] = Kept(
            clock, seconds=lambda _: seconds, most=MOST_DECISIONS, at_once=AT_ONCE
        )

    async def person(self, token: str, audience: str = "") -> Person | None:
        """Whose token it is, None when nobody's. Without an audience: the API server's own."""
        raw = token.encode()
        if not 1 <= len(raw) <= MAX_TOKEN:
            return None
        key = hashlib.sha256(raw).digest(), audience
        return await self._people.get(key, lambda: self._review(token, audience))

    async def allowed(
        self, person: Person, right: Right, namespace: str, *, listing: bool = False
    ) -> bool:
        """Whether they have the right in the namespace; an empty one stands for all of them.

        `listing`: a refusal may be as old as a permission. Of all namespaces most are refused, and
        to ask about hundreds of them takes longer than refusals are kept.
        """
        key = person, right, namespace
        kept = self._listed if listing else self._decisions
        return await kept.get(key, lambda: self._access(*key))

    async def _review(self, token: str, audience: str) -> Person | None:
        spec: dict[str, Any] = {"token": token}
        if audience:
            spec["audiences"] = [audience]
        status = await self._asked(TOKEN_REVIEWS, "TokenReview", spec)
        if not status.get("authenticated"):
            return None
        if audience and audience not in (status.get("audiences") or ()):
            return None  # an authenticator that knows no audiences must not let others' tokens in
        person = Person.of(status.get("user") or {})
        return person if person.name else None

    async def _access(self, person: Person, right: Right, namespace: str) -> bool:
        attributes = {
            "verb": right.verb, "group": GROUP, "resource": right.resource,
            "subresource": right.subresource, "namespace": namespace,
        }  # fmt: skip
        spec = {
            "user": person.name,
            "uid": person.uid,
            "groups": list(person.groups),
            "extra": {key: list(values) for key, values in person.extra},
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
        }
        status = await self._asked(SUBJECT_ACCESS_REVIEWS, "SubjectAccessReview", spec)
        return status.get("allowed") is True and not status.get("denied")

    async def _asked(self, api: Any, kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        body = {"apiVersion": api.api_version, "kind": kind, "spec": spec}
        try:
            answer = await self._kube.create(api, body)
        except KubeUnavailableError as error:
            raise ReviewsAwayError(
                "the Kubernetes API server does not answer, so nobody can be let in; try again"
            ) from error
        except KubeError as error:
            # Its text could repeat what was asked, and that holds a token.
            log.error(
                "the API server refuses a %s (%d %s): does the gateway's ServiceAccount have "
                "the right to create them?", kind, error.status, error.reason,
            )  # fmt: skip
            raise ReviewsAwayError(
                f"the Kubernetes API server refuses this gateway's {kind}; the gateway's log has "
                "why"
            ) from None
        status: dict[str, Any] = answer.get("status") or {}
        return status
