"""The pod of one attempt of a build.

Init containers run one after the other: the collector, which stays, `spanyard-fetch`, then the
user's `install` and `build` in the builder image; `spanyard-publish` is the only main container. The
first that fails ends the pod. Users' containers see the source, a home of their own and what the
spec gives them: no token of ours, no credentials of the repository, no other step's files.
"""

from collections.abc import Sequence

from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import Build, resource_id
from spanyard_operator.pod.fetch import FETCH, PUBLISH, fetch_source, private_volumes, publish
from spanyard_operator.pod.parts import (
    SOURCE,
    WORK_VOLUME,
    Object,
    Surroundings,
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
trap 'kill -TERM -1 2>/dev/null' TERM INT
if [ -r {TOLD}/commit ]; then
  read -r SPANYARD_COMMIT <{TOLD}/commit && export SPANYARD_COMMIT
fi
/bin/sh -c "$1" </dev/null &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
exit "$code"
"""
"""A shell as process 1 takes no SIGTERM, and its children would get none: so it passes it on to all.
`wait` ends at a trap, so it is called until the command is gone."""


def pod_name(build: str, attempt: int) -> str:
    """Deterministic: an attempt is started at most once. `build` is a name without namespace."""
    return f"{build}-build-{attempt}"


def build_pod(
    build: Build,
    attempt: int,
    settings: Surroundings,
    *,
    builder_image: str,
    service_account: str,
    collector: Object,
    collector_volumes: Sequence[Object],
    telemetry: Sequence[Object],
    mounts: Sequence[Object] = (),
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> Object:
    """The manifest, without an owner reference.

    `collector`, `collector_volumes`, `telemetry` (variables) and `mounts` (of users' containers, for
    span files) are `pod.collector`'s.
    """
    name, namespace = build.metadata.name, build.metadata.namespace
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": build.spec.service_account_name or service_account,
        "terminationGracePeriodSeconds": GRACE_S + round(settings.termination_reserve),
        "securityContext": pod_security(),
        "initContainers": [
            collector,
            fetch_source(build, settings),
            *_steps(build, settings, builder_image, telemetry, mounts),
        ],
        "containers": [publish(build, attempt, settings)],
        "volumes": [
            {"name": WORK_VOLUME, "emptyDir": {}},
            *private_volumes(build),
            *_cache_volumes(build),
            *ca_volumes(settings),
            *collector_volumes,
        ],
    }
    secrets = pull_secrets(settings, *(s.name for s in build.spec.builder.image_pull_secrets))
    if secrets:
        spec["imagePullSecrets"] = secrets
    if build.spec.node_selector:
        spec["nodeSelector"] = dict(build.spec.node_selector)
    if build.spec.tolerations:
        spec["tolerations"] = list(build.spec.tolerations)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(name, attempt),
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "spanyard",
                "app.kubernetes.io/component": "build",
                "spanyard.dev/project": build.spec.project,
                "spanyard.dev/build": name,
                **(labels or {}),
            },
            "annotations": {
                "spanyard.dev/resource-uid": build.metadata.uid,
                **(annotations or {}),
            },
        },
        "spec": spec,
    }


def _steps(
    build: Build,
    settings: Surroundings,
    image: str,
    telemetry: Sequence[Object],
    mounts: Sequence[Object],
) -> list[Object]:
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
            "image": spec.builder.image or image,
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
                *mounts,
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
