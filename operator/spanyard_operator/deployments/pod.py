"""The pod of a server: what the spec says, over what Spanyard sets; pure.

Restricted by default, as Pod Security means it. The collector is the first native sidecar, `fetch`
brings a build's artifact, `server` is the user's.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from spanyard_core.resources.deployments import program
from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import Deployment, DeploymentSpec
from spanyard_operator.deployments.probes import probes
from spanyard_operator.pod import parts
from spanyard_operator.pod.parts import Object

CONTAINER = "server"
HOME_VOLUME = "spanyard-home"
HOME_PATH = "/spanyard/home"
HOST = "0.0.0.0"  # noqa: S104 - in its pod: the Service must reach it
DRAIN_S = 5
"""Between a pod's removal from its Service and SIGTERM: until the nodes learn of it they send it
connections. kube-proxy waits up to a second between two changes of its rules, a busy node longer. The
kubelet's own `sleep` needs no program in the image."""
_FIRST_PROCESS = """\
child= stop=
trap 'stop=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT QUIT
/bin/sh -c "exec $1" </dev/null &
child=$!
[ -z "$stop" ] || kill -TERM "$child" 2>/dev/null
wait "$child" 2>/dev/null
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child" 2>/dev/null
  code=$?
done
exit "$code"
"""
"""The kernel does not end the first process of a container by SIGTERM unless it has a handler for it:
most programs have none, and each rollout would wait for their whole grace period. So a shell is the
first one, and passes the signal on. `wait` ends at a trap, so it is called until the server is gone;
what it says of a signal ("Terminated") is no word of the server's.
"""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What the pod gets from others: the installation, the collector, the fetching of an artifact."""

    settings: parts.Surroundings
    account: str
    """Service account where the spec names none: one without rights."""
    default_image: str
    """In which artifacts run, unless the spec says otherwise."""
    collector: Object | None = None
    fetch: Object | None = None
    volumes: Sequence[Object] = ()
    mounts: Sequence[Object] = ()
    """Of the server's container."""
    telemetry: Sequence[Object] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def template(deployment: Deployment, around: Around) -> Object:
    """The pod template."""
    spec = deployment.spec
    annotations = {"kubectl.kubernetes.io/default-container": CONTAINER, **around.annotations}
    return {
        "metadata": {"labels": dict(around.labels), "annotations": annotations},
        "spec": _pod(spec, around),
    }


def _pod(spec: DeploymentSpec, around: Around) -> Object:
    settings = around.settings
    made: Object = {
        "serviceAccountName": spec.service_account_name or around.account,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(spec, settings.termination_reserve),
        "securityContext": merged(pod_security(spec), spec.pod_security_context),
        "containers": [_server(spec, around)],
    }
    if not spec.service_account_name:
        made["automountServiceAccountToken"] = False
    before = [one for one in (around.collector, around.fetch) if one is not None]
    if before:
        made["initContainers"] = before
    home = [] if spec.image else [{"name": HOME_VOLUME, "emptyDir": {}}]
    volumes = [*around.volumes, *home, *parts.ca_volumes(settings)]
    if volumes:
        made["volumes"] = volumes
    if secrets := parts.pull_secrets(settings, *(one.name for one in spec.image_pull_secrets)):
        made["imagePullSecrets"] = secrets
    if spec.node_selector:
        made["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        made["tolerations"] = list(spec.tolerations)
    return made


def _server(spec: DeploymentSpec, around: Around) -> Object:
    settings = around.settings
    defaults = {"HOST": HOST, "PYTHONUNBUFFERED": "1"}
    mounts = [*around.mounts, *parts.ca_mounts(settings)]
    made: Object = {"name": CONTAINER, "image": spec.image}
    if not spec.image:
        defaults["HOME"] = HOME_PATH
        made["image"] = spec.runtime_image or around.default_image
        made["workingDir"] = parts.SOURCE
        mounts += [
            {"name": parts.WORK_VOLUME, "mountPath": parts.WORK},
            {"name": HOME_VOLUME, "mountPath": HOME_PATH},
        ]
    if spec.command.strip():
        made["command"] = [
            "/bin/sh",
            "-c",
            *map(parts.literal, (_FIRST_PROCESS, CONTAINER, program(spec.command))),
        ]
    made |= {
        "imagePullPolicy": settings.image_pull_policy,
        "env": parts.variables(
            parts.surrounding_env(settings),
            defaults,
            around.telemetry,
            parts.users_variables(spec.env),
            {"PORT": str(spec.port)},
        ),
        "ports": [{"name": "http", "containerPort": spec.port, "protocol": "TCP"}],
        "securityContext": merged(parts.restricted(read_only=False), spec.security_context),
        # The last lines of a container that failed come with its status: nobody has to ask for them.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_S}}},
        **probes(spec.health, spec.port),
    }
    if mounts:
        made["volumeMounts"] = mounts
    if given := parts.resources(spec.resources):
        made["resources"] = given
    return made


def grace_seconds(spec: DeploymentSpec, reserve: float) -> int:
    """Until it gets no more requests, the server's own time to end, and the collector's after it."""
    return math.ceil(DRAIN_S + seconds(spec.termination_grace_period) + reserve)


def pod_security(spec: DeploymentSpec) -> Object:
    """An image says itself who it runs as; an artifact can be run by anybody."""
    made = parts.pod_security()
    if spec.image:
        for name in ("runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy"):
            made.pop(name, None)
    return made


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Object:
    """`over` wins, field by field; a null takes a field out."""
    made = dict(base)
    for name, value in over.items():
        before = made.get(name)
        if value is None:
            made.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            made[name] = merged(before, value)
        else:
            made[name] = value
    return made


def placement_hash(spec: DeploymentSpec) -> str:
    """Of what the spec says of its pods beside what a laptop uses too; empty when it says nothing."""
    said = {
        "account": spec.service_account_name,
        "secrets": [one.name for one in spec.image_pull_secrets],
        "nodes": spec.node_selector,
        "tolerations": spec.tolerations,
        "container": spec.security_context,
        "pod": spec.pod_security_context,
        "collector": spec.collector,
    }
    if said == {**said, **_NOTHING}:
        return ""
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:16]


_NOTHING = {
    "account": "",
    "secrets": [],
    "nodes": {},
    "tolerations": [],
    "container": {},
    "pod": {},
    "collector": DeploymentSpec(project="").collector,
}
