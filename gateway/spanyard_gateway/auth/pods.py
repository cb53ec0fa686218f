"""Pods that ask: known by their own token, and by what Kubernetes says of the pod it is bound to.

The token is a projected one for the audience `spanyard-gateway`, mounted in our containers alone.
Its review names namespace, pod and uid; project, build and deployment are labels of that pod.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spanyard_core.clock import Clock
from spanyard_core.errors import BadRecordError
from spanyard_core.kube import PODS, Kube, KubeError, KubeUnavailableError
from spanyard_core.object_names import check_label, check_project
from spanyard_gateway.auth.errors import ForbiddenError, ReviewsAwayError, UnknownCallerError
from spanyard_gateway.auth.kept import Kept
from spanyard_gateway.auth.reviews import Person, Reviews

AUDIENCE = "spanyard-gateway"
LABEL_PROJECT = "spanyard.dev/project"
LABEL_BUILD = "spanyard.dev/build"
LABEL_DEPLOYMENT = "spanyard.dev/deployment"
POD_SECONDS = 30.0
MISSING_SECONDS = 1.0
MOST_PODS = 20_000
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a project."""

    namespace: str
    name: str
    uid: str
    project: str
    """Its id, `{namespace}.{name}`."""
    build: str = ""
    """Name of the Build, without the namespace; empty in other pods."""
    deployment: str = ""
    owners: frozenset[str] = frozenset()
    """Uids of what owns it."""


class Pods:
    """Finds out which pod a token is of."""

    def __init__(self, kube: Kube, reviews: Reviews, clock: Clock) -> None:
        self._kube, self._reviews = kube, reviews
        self._pods: Kept[tuple[str, str, str], Pod | None] = Kept(
            clock, seconds=lambda pod: POD_SECONDS if pod else MISSING_SECONDS, most=MOST_PODS,
            at_once=16,
        )  # fmt: skip

    async def of_token(self, token: str) -> Pod:
        """Raises UnknownCallerError, ForbiddenError, ReviewsAwayError."""
        person = await self._reviews.person(token, AUDIENCE)
        if person is None:
            raise UnknownCallerError(
                f"Kubernetes does not know the token, it has ended, or it is not for the audience "
                f"{AUDIENCE!r}"
            )
        namespace, name, uid = _bound_to(person)
        pod = await self._pods.get(
            (namespace, name, uid), lambda: self._look_up(namespace, name, uid)
        )
        if pod is None:
            raise ForbiddenError(
                f"the pod {namespace}/{name} is not there, or has no label {LABEL_PROJECT} with the "
                "name of a project"
            )
        return pod

    async def _look_up(self, namespace: str, name: str, uid: str) -> Pod | None:
        try:
            found = await self._kube.get(PODS, name, namespace)
        except (KubeUnavailableError, KubeError) as error:
            raise ReviewsAwayError(f"the pod {namespace}/{name} cannot be looked up") from error
        return pod_from(found, uid) if found else None


def pod_from(manifest: Mapping[str, Any], uid: str) -> Pod | None:
    """The pod of this uid as its manifest has it; None when it is another one or not of ours."""
    metadata = manifest.get("metadata") or {}
    labels = metadata.get("labels") or {}
    if metadata.get("uid") != uid:
        return None
    try:
        namespace = check_label(metadata["namespace"], "namespace")
        return Pod(
            namespace,
            metadata["name"],
            uid,
            check_project(f"{namespace}.{labels.get(LABEL_PROJECT, '')}"),
            _named(labels, LABEL_BUILD),
            _named(labels, LABEL_DEPLOYMENT),
            frozenset(str(one["uid"]) for one in metadata.get("ownerReferences") or ()),
        )
    except BadRecordError:
        return None


def _named(labels: Mapping[str, str], label: str) -> str:
    return check_label(labels[label], label) if label in labels else ""


def _bound_to(person: Person) -> tuple[str, str, str]:
    """Namespace, name and uid of the pod that the token is bound to. Raises UnknownCallerError."""
    name, uid = person.extras(_POD_NAME), person.extras(_POD_UID)
    account = person.name.removeprefix(_SERVICE_ACCOUNT).split(":")
    if not person.name.startswith(_SERVICE_ACCOUNT) or len(account) != 2 or not (name and uid):
        raise UnknownCallerError("the token is not bound to a pod; mount a projected one")
    return account[0], name[0], uid[0]
