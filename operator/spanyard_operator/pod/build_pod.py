"""The pod of one attempt of a build.

Init containers run one after the other: the collector, which stays, `spanyard-fetch`, then the
user's `install` and `build` in the builder image; `spanyard-publish` is the only main container. The
first that fails ends the pod. Users' containers see the source, a home of their own and what the
spec gives them: no token of ours, no credentials of the repository, no other step's files.
"""

import math
from collections.abc import Sequence

from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import Build, resource_id
from spanyard_operator import names
from spanyard_operator.pod.capture import Capture
from spanyard_operator.pod.collector import (
    PodOwner,
    collector_container,
    collector_volumes,
    spans_mount,
    telemetry_env,
)
from spanyard_operator.pod.fetch import FETCH, PUBLISH, fetch_source, private_volumes, publish
from spanyard_operator.pod.parts import (
    SOURCE,
    WORK_VOLUME,
    Object,
    ca_mounts,
    ca_volumes,
    literal,
    pod_security,
    pull_secrets,
    resources,
    restricted,
    surrounding_env,
    users_variables,
    variables,
)
from spanyard_operator.settings import OperatorSettings

HOME, TOLD = "/spanyard/home", "/spanyard/told"
CACHE_VOLUME = "spanyard-cache"
GRACE_S = 10
"""For a step between SIGTERM and SIGKILL, as on a laptop; the collector's reserve comes on top."""
CONTAINERS: dict[life.Step, str] = {
    "fetch": FETCH,
    "install": "install",
    "build": "build",
    "publish": PUBLISH,
}
"""Step → its container."""
_STEP = f"""\
child= stop=
trap '[ -n "$child" ] || stop=1; [ $$ -eq 1 ] && kill -TERM -1 2>/dev/null || kill -TERM "$child" 2>/dev/null' TERM INT
if [ -r {TOLD}/commit ]; then
  read -r SPANYARD_COMMIT <{TOLD}/commit && export SPANYARD_COMMIT
fi
[ -z "$stop" ] || exit 143
/bin/sh -c "$1" </dev/null &
child=$!
[ -z "$stop" ] || {{ sleep 1; kill -TERM "$child"; }} 2>/dev/null
wait "$child" 2>/dev/null
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child" 2>/dev/null
  code=$?
done
exit "$code"
"""
"""A shell as process 1 takes no SIGTERM, and its children would get none: so it passes it on to all
that are in the container. `wait` ends at a trap, so it is called until the command is gone. A command
that begins just as the signal comes is told after a second: until it is a program of its own it still
has the shell's trap, and nothing would come of it."""


def build_pod(
    build: Build,
    attempt: int,
    settings: OperatorSettings,
    capture: Capture,
    *,
    live_key: str = "",
) -> Object:
    """The manifest, with the Build as its owner. `live_key` as in `collector_options`."""
    name, spec = build.metadata.name, build.spec
    grace = GRACE_S + math.ceil(settings.termination_reserve)
    options = settings.collector_options(live_key=live_key)
    owner = PodOwner(build.metadata.namespace, spec.project, uid=build.metadata.uid, build=name)
    collector = collector_container(
        options, owner, capture, grace=grace, disk_limited=_limits_disk(build)
    )
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": spec.service_account_name or names.RUNNER_ACCOUNT,
        "terminationGracePeriodSeconds": grace,
        "securityContext": pod_security(),
        "initContainers": [
            collector,
            fetch_source(build, settings),
            *_steps(build, settings, telemetry_env(owner)),
        ],
        "containers": [publish(build, attempt, settings)],
        "volumes": [
            {"name": WORK_VOLUME, "emptyDir": {}},
            *private_volumes(build),
            *_cache_volumes(build),
            *ca_volumes(settings),
            *collector_volumes(options, capture),
        ],
    }
    if secrets := pull_secrets(settings, *(s.name for s in spec.builder.image_pull_secrets)):
        pod["imagePullSecrets"] = secrets
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        pod["tolerations"] = list(spec.tolerations)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.build_pod_name(name, attempt),
            "namespace": build.metadata.namespace,
            "labels": names.build_labels(build),
            "annotations": {
                names.RESOURCE_UID: build.metadata.uid,
                names.COLLECTOR: capture,
                "kubectl.kubernetes.io/default-container": _default_container(build),
            },
            "ownerReferences": [names.owner_reference(build)],
        },
        "spec": pod,
    }


def _default_container(build: Build) -> str:
    """Whose log `kubectl logs` shows: what people wrote, not what we did."""
    own = [step for step in life.steps_of(build) if step in {"install", "build"}]
    return CONTAINERS[own[-1]] if own else FETCH


def _limits_disk(build: Build) -> bool:
    return "ephemeral-storage" in build.spec.resources.limits


def _steps(build: Build, settings: OperatorSettings, telemetry: Sequence[Object]) -> list[Object]:
    spec = build.spec
    commands = {"install": spec.install, "build": spec.build}
    ours = {
        "CI": "1",
        "HOME": HOME,
        "SPANYARD_BUILD": resource_id(build),
        "SPANYARD_PROJECT": f"{build.metadata.namespace}.{spec.project}",
    }
    if spec.cache is not None:
        ours["SPANYARD_CACHE"] = spec.cache.mount_path
    env = variables(surrounding_env(settings), ours, telemetry, users_variables(spec.env))
    return [
        {
            "name": step,
            "image": spec.builder.image or settings.builder_image,
            "imagePullPolicy": settings.image_pull_policy,
            "command": ["/bin/sh", "-c", literal(_STEP), step, literal(commands[step])],
            "workingDir": f"{SOURCE}/{spec.source.sub_path}".rstrip("/"),
            "env": env,
            "resources": resources(spec.resources),
            "securityContext": restricted(read_only=False),
            "volumeMounts": [
                {"name": WORK_VOLUME, "mountPath": SOURCE, "subPath": "src"},
                {"name": WORK_VOLUME, "mountPath": HOME, "subPath": "home"},
                {"name": WORK_VOLUME, "mountPath": TOLD, "subPath": "told", "readOnly": True},
                *_cache_mounts(build),
                *ca_mounts(settings),
                spans_mount(),
            ],
        }
        for step in life.steps_of(build)
        if step in commands
    ]


# --- the cache -------------------------------------------------------------------------------


def cache_claim_name(project: str) -> str:
    """The claim that the builds of a project share."""
    return f"{project}-cache"


def cache_claim(build: Build) -> Object | None:
    """The claim's manifest, for the first build that wants one; later sizes change nothing.

    ReadWriteOnce: builds on one node share it, those on others wait for it.
    """
    cache = build.spec.cache
    if cache is None:
        return None
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": cache_claim_name(build.spec.project),
            "namespace": build.metadata.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "spanyard",
                "spanyard.dev/project": build.spec.project,
            },
        },
        "spec": spec,
    }


def _cache_volumes(build: Build) -> list[Object]:
    if build.spec.cache is None:
        return []
    claim = {"claimName": cache_claim_name(build.spec.project)}
    return [{"name": CACHE_VOLUME, "persistentVolumeClaim": claim}]


def _cache_mounts(build: Build) -> list[Object]:
    cache = build.spec.cache
    return [] if cache is None else [{"name": CACHE_VOLUME, "mountPath": cache.mount_path}]
