"""Which Deployments take values from which Secret or ConfigMap, so that a change of it is a turn."""

from collections.abc import Iterable

from spanyard_core.kube import CONFIG_MAPS, SECRETS, Api
from spanyard_core.resources.kinds import Deployment
from spanyard_operator.deployments.environment import referenced
from spanyard_operator.workqueue import Key

APIS: dict[str, Api] = {"Secret": SECRETS, "ConfigMap": CONFIG_MAPS}
_Place = tuple[Api, str, str]
"""Kind, namespace, name."""


class References:
    """As of the last look at each Deployment: one that was not looked at yet will read what is there."""

    def __init__(self) -> None:
        self._by_place: dict[_Place, set[Key]] = {}
        self._by_key: dict[Key, frozenset[_Place]] = {}

    def __call__(self, api: Api, namespace: str, name: str) -> Iterable[Key]:
        """Those that refer to it."""
        return list(self._by_place.get((api, namespace, name), ()))

    def note(self, key: Key, deployment: Deployment | None) -> None:
        """What it refers to now; None: it is gone."""
        places: frozenset[_Place] = frozenset()
        if deployment is not None:
            found = referenced(deployment.spec.env)
            places = frozenset((APIS[kind], key.namespace, name) for kind, name in found)
        for gone in self._by_key.get(key, frozenset()) - places:
            keys = self._by_place[gone]
            keys.discard(key)
            if not keys:
                del self._by_place[gone]
        for place in places:
            self._by_place.setdefault(place, set()).add(key)
        if places:
            self._by_key[key] = places
        else:
            self._by_key.pop(key, None)
