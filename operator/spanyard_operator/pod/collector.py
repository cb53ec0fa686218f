"""The collector in a pod: its container, its volumes, and what other containers get to know of it.

A native sidecar (an init container that restarts), the first of all: what fetch and build print is
collected too, and OTLP is up before the server starts. Nothing here can keep the application from
starting or make it unready: the collector answers its startup probe from its first second on,
whatever is wrong with its settings, and there is no liveness and no readiness probe.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spanyard_operator.pod.capture import Capture

CONTAINER = "spanyard-collector"
STATE_VOLUME = "spanyard-state"
SPANS_VOLUME = "spanyard-spans"
LOGS_VOLUME = "spanyard-logs"
TOKEN_VOLUME = "spanyard-token"  # noqa: S105 - a volume's name
API_VOLUME = "spanyard-api"

SPANS_DIR = "/spanyard/spans"
STATE_DIR = "/spanyard/state"
LOGS_DIR = "/spanyard/logs"
TOKEN_DIR = "/var/run/secrets/spanyard"  # noqa: S105 - a folder
TOKEN_FILE = f"{TOKEN_DIR}/token"
API_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
AUDIENCE = "spanyard-gateway"
TOKEN_SECONDS = 3600

USER = 65532
ROOT_GROUP = 0
"""The kubelet's log files are root:root, mode 0640."""
OTLP_PORT = 4318
PORT = 4320
"""Health, metrics, live records."""
RESERVE = 10
"""Seconds of a pod's grace period that are added for the collector (D5)."""
LAST_SECONDS = 2
"""Before the kubelet kills it, the collector says what it could not send."""
BUILD_QUIET = "3s"
"""In a build pod SIGTERM comes to the builder and the collector together: it reads on until nothing
came for so long."""

DEFAULT_RESOURCES: Mapping[str, Mapping[str, str]] = {
    "requests": {"cpu": "20m", "memory": "64Mi"},
    "limits": {"memory": "192Mi"},
}
"""No limit of CPU: throttled, it would fall behind the kubelet's rotation."""
DISK_SLACK = 64 << 20
"""Bytes beyond the spool's limit: the file system's books, the collector's own log."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CollectorOptions:
    """What an installation says about all its collectors."""

    image: str
    storage: str
    """URL as the collector opens it: `gateway+http://…`, or a bucket's own (direct)."""
    gateway: str = ""
    """For hints and questions; with `gateway+http` storage the same address."""
    live_key: str = ""
    """Public key that tickets for /live are checked with."""
    pull_policy: str = "IfNotPresent"
    capture: str = "auto"
    flush_interval: str = "5s"
    spool_limit: int = 1_000_000_000
    """Bytes."""
    log_level: str = "info"
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: DEFAULT_RESOURCES)
    env: Sequence[Object] = ()
    """More variables, as in a pod: credentials of direct storage, proxies, CAs."""
    volume_mounts: Sequence[Object] = ()
    """Of volumes that the caller adds to the pod: a CA's ConfigMap."""


@dataclass(frozen=True, slots=True)
class PodOwner:
    """Whose output it is."""

    namespace: str
    project: str
    """Name without its namespace."""
    uid: str = ""
    """Of the Build or Deployment."""
    deployment: str = ""
    build: str = ""
    """Names without their namespace; one of the two."""

    @property
    def name(self) -> str:
        return self.deployment or self.build


def collector_container(
    options: CollectorOptions,
    owner: PodOwner,
    capture: Capture,
    *,
    grace: int,
    exclude: Iterable[str] = (),
    resources: Mapping[str, Mapping[str, str]] | None = None,
    disk_limited: bool = False,
) -> Object:
    """The init container; goes before all others.

    `grace`: the pod's terminationGracePeriodSeconds, all in all. `resources` of the resource's spec
    win over the installation's, name by name. `disk_limited`: another container of the pod has a
    limit of ephemeral-storage. The kubelet evicts the pod when all of it together takes more than
    all such limits together, so then this one needs one too, or its spool would eat the others'.
    """
    return {
        "name": CONTAINER,
        "image": options.image,
        "imagePullPolicy": options.pull_policy,
        "command": ["spanyard-sidecar"],
        "restartPolicy": "Always",
        "env": _environment(options, owner, capture, grace, exclude),
        "ports": [{"name": "spanyard", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(options, resources, disk_limited=disk_limited),
        "volumeMounts": [*_mounts(options, capture), *options.volume_mounts],
        # Started means that OTLP is up. It answers whatever is wrong: only a node too busy to run
        # it for five minutes makes the kubelet start it again.
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": PORT},
            "initialDelaySeconds": 1,  # it takes about one; earlier, each pod began with a Warning
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 300,
        },
        # Runs when the pod's end begins, long before the collector's turn to end.
        "lifecycle": {"preStop": {"httpGet": {"path": "/flush-fast", "port": PORT}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security_context(ROOT_GROUP if capture == "hostPath" else USER),
    }


def security_context(group: int = USER) -> Object:
    """Of our own containers; keeps Pod Security `restricted`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": group,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def collector_volumes(options: CollectorOptions, capture: Capture) -> list[Object]:
    """The volumes that `collector_container` mounts, `spanyard-spans` and the token among them."""
    volumes: list[Object] = [
        {"name": STATE_VOLUME, "emptyDir": {}},  # no size limit: beyond it the pod is evicted
        {"name": SPANS_VOLUME, "emptyDir": {}},
        token_volume(),
    ]
    if capture == "hostPath":
        volumes.append(
            {"name": LOGS_VOLUME, "hostPath": {"path": "/var/log/pods", "type": "Directory"}}
        )
    else:
        volumes.append({"name": API_VOLUME, "projected": {"sources": _api_sources()}})
    return volumes


def token_volume() -> Object:
    """The token that the gateway knows us by; mounted in our own containers only."""
    token = {"path": "token", "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS}
    return {"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}


def token_mount() -> Object:
    """For our other containers: fetch, publish."""
    return {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": True}


def spans_mount() -> Object:
    """For the containers whose programs write span files."""
    return {"name": SPANS_VOLUME, "mountPath": SPANS_DIR}


def telemetry_env(owner: PodOwner) -> list[Object]:
    """Variables for the user's containers: all that an OpenTelemetry SDK needs to be heard."""
    attributes = {
        "service.namespace": owner.namespace,
        "service.instance.id": "$(SPANYARD_POD_NAME)",
        "k8s.namespace.name": owner.namespace,
        "k8s.pod.name": "$(SPANYARD_POD_NAME)",
        "k8s.pod.uid": "$(SPANYARD_POD_UID)",
    }
    return [
        _of_field("SPANYARD_POD_NAME", "metadata.name"),
        _of_field("SPANYARD_POD_UID", "metadata.uid"),
        {"name": "SPANYARD_SPANS_DIR", "value": SPANS_DIR},
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": f"http://127.0.0.1:{OTLP_PORT}"},
        {"name": "OTEL_EXPORTER_OTLP_PROTOCOL", "value": "http/protobuf"},
        {"name": "OTEL_SERVICE_NAME", "value": owner.name},
        {
            "name": "OTEL_RESOURCE_ATTRIBUTES",
            "value": ",".join(f"{key}={value}" for key, value in attributes.items()),
        },
    ]


def with_users(injected: Iterable[Object], users: Iterable[Object]) -> list[Object]:
    """Both, in this order; what the user sets is not injected. `$(NAME)` refers to earlier ones."""
    users = list(users)
    taken = {variable["name"] for variable in users}
    return [*(variable for variable in injected if variable["name"] not in taken), *users]


def collector_rules() -> list[Object]:
    """Of the Role `spanyard-collector`, for pods with capture `api`: what they can reach of each
    other in the namespace, which is one team's.
    """
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]


def _environment(
    options: CollectorOptions,
    owner: PodOwner,
    capture: Capture,
    grace: int,
    exclude: Iterable[str],
) -> list[Object]:
    excluded = ",".join(sorted({CONTAINER, *exclude}))
    values = {
        "SPANYARD_PROJECT": f"{owner.namespace}.{owner.project}",
        "SPANYARD_UID": owner.uid,
        "SPANYARD_DEPLOYMENT": owner.deployment,
        "SPANYARD_BUILD": f"{owner.namespace}.{owner.build}" if owner.build else "",
        "SPANYARD_STORAGE": options.storage,
        "SPANYARD_GATEWAY": options.gateway,
        "SPANYARD_GATEWAY_TOKEN": TOKEN_FILE,
        "SPANYARD_LIVE_KEY": options.live_key,
        "SPANYARD_CAPTURE": "api" if capture == "api" else "files",
        "SPANYARD_LOGS": LOGS_DIR if capture == "hostPath" else "",
        "SPANYARD_EXCLUDE_CONTAINERS": excluded,
        "SPANYARD_SPANS_DIR": SPANS_DIR,
        "SPANYARD_SPOOL": f"{STATE_DIR}/spool",
        "SPANYARD_SPOOL_LIMIT": str(options.spool_limit),
        "SPANYARD_FLUSH_INTERVAL": options.flush_interval,
        "SPANYARD_LISTEN": "0.0.0.0",  # noqa: S104 - the kubelet's probe and the gateway
        "SPANYARD_PORT": str(PORT),
        "SPANYARD_OTLP_PORT": str(OTLP_PORT),
        "SPANYARD_QUIET": BUILD_QUIET if owner.build else "",
        "SPANYARD_GRACE": f"{max(grace - LAST_SECONDS, 1)}s",
        "SPANYARD_MUST_START": "true",
        "SPANYARD_LOG_LEVEL": options.log_level,
    }
    return [
        _of_field("POD_NAMESPACE", "metadata.namespace"),
        _of_field("POD_NAME", "metadata.name"),
        _of_field("POD_UID", "metadata.uid"),
        {"name": "SPANYARD_POD", "value": "$(POD_NAME)"},
        {"name": "SPANYARD_POD_UID", "value": "$(POD_UID)"},
        *({"name": name, "value": value} for name, value in values.items() if value),
        *options.env,
    ]


def _mounts(options: CollectorOptions, capture: Capture) -> list[Object]:
    mounts: list[Object] = [
        {"name": STATE_VOLUME, "mountPath": STATE_DIR},
        spans_mount(),
        token_mount(),
    ]
    if capture == "hostPath":
        # The pod's own folder, not its neighbours'.
        folder = "$(POD_NAMESPACE)_$(POD_NAME)_$(POD_UID)"
        mounts.append(
            {
                "name": LOGS_VOLUME,
                "mountPath": LOGS_DIR,
                "subPathExpr": folder,
                "readOnly": True,
            }
        )
    else:
        mounts.append({"name": API_VOLUME, "mountPath": API_DIR, "readOnly": True})
    return mounts


def _api_sources() -> list[Object]:
    """What the kubelet would mount for a service account, in our container alone."""
    return [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {
            "configMap": {
                "name": "kube-root-ca.crt",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }
        },
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
            }
        },
    ]


def _resources(
    options: CollectorOptions,
    wanted: Mapping[str, Mapping[str, str]] | None,
    *,
    disk_limited: bool,
) -> Object:
    wanted = wanted or {}
    asked = {name for part in ("requests", "limits") for name in wanted.get(part, {})}
    made: Object = {}
    for part in ("requests", "limits"):
        # What is asked for under a name replaces both of ours: half of each may contradict itself.
        ours = {k: v for k, v in options.resources.get(part, {}).items() if k not in asked}
        merged = {**ours, **wanted.get(part, {})}
        if disk_limited and "ephemeral-storage" not in asked:
            # A limit alone would be reserved in full on the node.
            most = {"limits": options.spool_limit + DISK_SLACK, "requests": DISK_SLACK}
            merged.setdefault("ephemeral-storage", str(most[part]))
        if merged:
            made[part] = merged
    return made


def _of_field(name: str, path: str) -> Object:
    # The version is what the API server would add: without it every apply had a difference.
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
