"""What all pods that we make have in common: texts that stay as they are, variables, rights, the
surroundings of the cluster (proxies, own CAs, private registries)."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from spanyard_core.resources.kinds import EnvVar, KeyReference, Resources

Object = dict[str, Any]
"""A piece of a manifest."""

UID = 65532
"""Of our containers, and of users' containers unless they say another."""
WORK = "/spanyard/work"
SOURCE = f"{WORK}/src"
CA_FOLDER = "/spanyard/ca"
CA_FILE = f"{CA_FOLDER}/ca.crt"
WORK_VOLUME, CA_VOLUME = "spanyard-work", "spanyard-ca"
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")


class Surroundings(Protocol):
    """What the operator's settings say about every pod."""

    @property
    def sidecar_image(self) -> str: ...
    @property
    def image_pull_policy(self) -> str: ...
    @property
    def image_pull_secrets(self) -> Sequence[str]:
        """Secrets in the pods' namespaces, for our own images and the defaults."""
        ...

    @property
    def pod_storage(self) -> str:
        """Storage URL for pods: `gateway+http://…`, or the bucket's own with `direct`."""
        ...

    @property
    def pod_env(self) -> Mapping[str, str]:
        """Variables for users' containers and for `fetch`: proxies, package mirrors."""
        ...

    @property
    def ca_config_map(self) -> str:
        """ConfigMap with the key `ca.crt` in the pods' namespaces; empty: none."""
        ...

    @property
    def termination_reserve(self) -> float:
        """Seconds that the collector has after everything else ended."""
        ...


def literal(text: str) -> str:
    """`text` as Kubernetes takes it: `$(NAME)` would be replaced in commands and values, and `$$`
    become `$`. A shell's `$(…)` must survive that."""
    return text.replace("$", "$$")


def variables(*given: Mapping[str, str] | Sequence[Object]) -> list[Object]:
    """A container's `env`: later ones win, each name is there once, at its first place.

    Mappings are plain values; lists are taken as Kubernetes' own entries.
    """
    found: dict[str, Object] = {}
    for each in given:
        if isinstance(each, Mapping):
            entries = [{"name": name, "value": literal(value)} for name, value in each.items()]
        else:
            entries = [dict(entry) for entry in each]
        for entry in entries:
            found[entry["name"]] = entry
    return list(found.values())


def users_variables(env: Sequence[EnvVar]) -> list[Object]:
    """`spec.env` as Kubernetes' entries."""
    return [_variable(variable) for variable in env]


def _variable(variable: EnvVar) -> Object:
    source = variable.value_from
    if source is None:
        return {"name": variable.name, "value": literal(variable.value)}
    if source.secret_key_ref is not None:
        return {
            "name": variable.name,
            "valueFrom": {"secretKeyRef": _key(source.secret_key_ref)},
        }
    assert source.config_map_key_ref is not None  # the schema says: one of the two
    return {
        "name": variable.name,
        "valueFrom": {"configMapKeyRef": _key(source.config_map_key_ref)},
    }


def _key(reference: KeyReference) -> Object:
    key: Object = {"name": reference.name, "key": reference.key}
    return {**key, "optional": True} if reference.optional else key


def resources(given: Resources, *, default: Object | None = None) -> Object:
    """A container's `resources`; nothing given: `default`."""
    found: Object = {}
    if given.requests:
        found["requests"] = {name: str(amount) for name, amount in given.requests.items()}
    if given.limits:
        found["limits"] = {name: str(amount) for name, amount in given.limits.items()}
    return found or dict(default or {})


def restricted(*, read_only: bool = True) -> Object:
    """A container's rights under Pod Security `restricted`. Ours write to volumes alone."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
    }


def pod_security() -> Object:
    """A pod's rights under `restricted`. Volumes belong to the group, so that every one writes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def surrounding_env(settings: Surroundings) -> dict[str, str]:
    """Proxies and certificates; for users' containers, and for ours that talk to the outside."""
    found = dict(settings.pod_env)
    if settings.ca_config_map:
        found |= dict.fromkeys(_CA_VARIABLES, CA_FILE)
    return found


def ca_mounts(settings: Surroundings) -> list[Object]:
    """Beside `surrounding_env`."""
    if not settings.ca_config_map:
        return []
    return [{"name": CA_VOLUME, "mountPath": CA_FOLDER, "readOnly": True}]


def ca_volumes(settings: Surroundings) -> list[Object]:
    """Beside `ca_mounts`. A ConfigMap that is missing keeps the pod waiting, and its Event says so."""
    if not settings.ca_config_map:
        return []
    return [{"name": CA_VOLUME, "configMap": {"name": settings.ca_config_map}}]


def pull_secrets(settings: Surroundings, *names: str) -> list[Object]:
    """The pod's `imagePullSecrets`, each once."""
    return [{"name": name} for name in dict.fromkeys([*names, *settings.image_pull_secrets])]
