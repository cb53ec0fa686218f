"""Answers the API server's question about a new pod: what is to be added.

The pod is always allowed. What goes wrong here costs it its collector and nothing else, and is told
to whoever made it as a warning.
"""

import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.kube import NAMESPACES, Kube, Object
from spanyard_operator.pod.capture import choose_capture
from spanyard_operator.pod.collector import CollectorOptions
from spanyard_operator.webhook.patch import (
    NotCollectedError,
    Operation,
    additions,
    asked,
    asks,
    warnings,
)

log = logging.getLogger("spanyard.operator")

PATH = "/collect"
MAX_REVIEW = 8 << 20
"""Bytes; the API server's own limit for objects is 3 MiB, and a review holds two."""
NAMESPACE_S = 10.0
"""A namespace's labels are remembered for so long."""
MAX_NAMESPACES = 10_000

GiveRights = Callable[[str, str], Awaitable[None]]
"""Namespace and service account: let its pods' collectors read logs through the API."""


class Collecting:
    """The handler. `options` gives what all collectors have in common."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        options: Callable[[], CollectorOptions],
        give_rights: GiveRights,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._options = options
        self._give_rights = give_rights
        self._namespaces: dict[str, tuple[float, Object | None]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """One AdmissionReview."""
        try:
            review: Any = msgspec.json.decode(await request.read())
            asking = review["request"]
            uid, pod, namespace = asking["uid"], asking["object"], asking["namespace"]
            dry_run = bool(asking.get("dryRun"))
        except (msgspec.DecodeError, KeyError, TypeError):
            return web.Response(status=400, text="this is no AdmissionReview of a pod\n")
        answer: dict[str, Any] = {"uid": uid, "allowed": True}
        try:
            operations, said = await self._patch(pod, namespace, dry_run=dry_run)
        except NotCollectedError as error:
            operations, said = [], [str(error)]
        except SpanyardError as error:
            log.warning("a pod in %s goes without a collector: %s", namespace, error)
            operations, said = [], [f"no collector: {error}"]
        if operations:
            answer["patchType"] = "JSONPatch"
            answer["patch"] = base64.b64encode(msgspec.json.encode(operations)).decode()
        if said:
            answer["warnings"] = [f"spanyard: {text}"[:256] for text in said]
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        )

    async def _patch(
        self, pod: Object, namespace: str, *, dry_run: bool
    ) -> tuple[list[Operation], list[str]]:
        if not asks(pod):
            return [], []
        wish, options = asked(pod, namespace), self._options()
        choice = choose_capture(await self._namespace(namespace), wish.capture, options.capture)
        if choice.mode == "api" and not dry_run:
            account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
            await self._give_rights(namespace, account)
        return additions(pod, wish, options, choice.mode), warnings(pod)

    async def _namespace(self, name: str) -> Object | None:
        at, found = self._namespaces.get(name, (float("-inf"), None))
        if self._clock.monotonic() - at > NAMESPACE_S:
            found = await self._kube.get(NAMESPACES, name)
            if len(self._namespaces) >= MAX_NAMESPACES:
                self._namespaces.clear()
            self._namespaces[name] = (self._clock.monotonic(), found)
        return found


def webhook_app(collecting: Collecting) -> web.Application:
    """For the port that the API server asks."""
    app = web.Application(client_max_size=MAX_REVIEW)
    app.add_routes([web.post(PATH, collecting.handle)])
    return app
