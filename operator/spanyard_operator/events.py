"""Kubernetes Events: what a person reads under `kubectl describe`.

An Event's name follows from what it says, so the same thing is there once, whoever tells it and how
often. One that cannot be written is counted and logged and stops nobody: the condition says the same.
"""

import logging
from collections import Counter, OrderedDict

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.kube import EVENTS, Kube, KubeError, KubeUnavailableError
from spanyard_core.resources.kinds import API_VERSION, Build, Deployment, Project
from spanyard_core.resources.reasons import REASONS
from spanyard_operator.names import MANAGED_BY, MANAGER, event_name

log = logging.getLogger("spanyard.operator")

COMPONENT = "spanyard-operator"
MAX_MESSAGE = 1024
"""Characters: the API's limit."""
REMEMBERED = 4096
"""Names of Events that were written: those are not asked for again."""


class Events:
    """Writes Events."""

    def __init__(self, kube: Kube, clock: Clock, identity: str) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._written: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.counts: Counter[str] = Counter()
        """`written` and `failed`."""

    async def tell(
        self, about: Project | Build | Deployment, reason: str, message: str, *, once: str = ""
    ) -> None:
        """Write an Event. Its type is the reason's in the table.

        What has the same reason, message and `once` (an attempt, a revision) is the same Event.
        """
        metadata = about.metadata
        name = event_name(metadata.name, metadata.uid, reason, message, once)
        if (metadata.namespace, name) in self._written:
            return
        now = rfc3339(self._clock.time_ns())
        body = {
            "metadata": {
                "name": name,
                "namespace": metadata.namespace,
                "labels": {MANAGED_BY: MANAGER},
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": about.kind,
                "namespace": metadata.namespace,
                "name": metadata.name,
                "uid": metadata.uid,
            },
            "type": REASONS[reason].event,
            "reason": reason,
            "message": message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
            "action": reason,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity,
            "firstTimestamp": now[:19] + "Z",
            "lastTimestamp": now[:19] + "Z",
            "count": 1,
        }
        try:
            await self._kube.create(EVENTS, body, metadata.namespace)
        except KubeError as error:
            # A namespace that is being deleted takes no new objects.
            if not error.exists_already:
                self._failed(about, reason, error)
                return
        except KubeUnavailableError as error:
            self._failed(about, reason, error)
            return
        self.counts["written"] += 1
        self._written[metadata.namespace, name] = None
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _failed(self, about: Project | Build | Deployment, reason: str, error: Exception) -> None:
        self.counts["failed"] += 1
        metadata = about.metadata
        log.info("no Event %s for %s/%s: %s", reason, metadata.namespace, metadata.name, error)
