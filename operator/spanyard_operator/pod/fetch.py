"""The containers `spanyard-fetch` and `spanyard-publish`: our program in pods of builds and servers.

They are told by variables what to do, and tell by their termination message what became of it
(`spanyard_core.step_answers`).
"""

import hashlib
from collections.abc import Mapping

import msgspec

from spanyard_core.build_objects import artifact_key, meta_key
from spanyard_core.resources.kinds import ArtifactStatus, Build, EnvVar, project_id, resource_id
from spanyard_operator.pod.collector import TOKEN_FILE, token_mount
from spanyard_operator.pod.parts import (
    SOURCE,
    WORK,
    WORK_VOLUME,
    Object,
    Surroundings,
    ca_mounts,
    restricted,
    surrounding_env,
    variables,
)

FETCH, PUBLISH = "spanyard-fetch", "spanyard-publish"
GIT_VOLUME, PRIVATE_VOLUME = "spanyard-git", "spanyard-private"
GIT_FOLDER, PRIVATE_FOLDER = "/spanyard/git", "/tmp"  # noqa: S108 - a volume in memory, ours alone
COMMIT_FILE = f"{WORK}/told/commit"
OURS: Object = {
    "requests": {"cpu": "50m", "memory": "64Mi"},
    "limits": {"memory": "1Gi"},
}
"""Unpacking takes 128 MiB at most, git by the size of what it fetches."""


def fetch_source(build: Build, settings: Surroundings) -> Object:
    """The first step of a build's pod."""
    source = build.spec.source
    told = {"SPANYARD_SUB_PATH": source.sub_path, "SPANYARD_COMMIT_FILE": COMMIT_FILE}
    mounts: list[Object] = []
    if source.git is not None:
        told |= {"SPANYARD_SOURCE": source.git.url, "SPANYARD_REVISION": source.git.revision}
        told |= {"SPANYARD_PRIVATE": PRIVATE_FOLDER, "HOME": PRIVATE_FOLDER}
        mounts.append({"name": PRIVATE_VOLUME, "mountPath": PRIVATE_FOLDER})
        if source.git.secret_ref is not None:
            told["SPANYARD_GIT_SECRET"] = GIT_FOLDER
            mounts.append({"name": GIT_VOLUME, "mountPath": GIT_FOLDER, "readOnly": True})
    elif source.archive is not None:
        told["SPANYARD_SOURCE"] = source.archive.digest
    elif source.artifact is not None:
        told["SPANYARD_SOURCE"] = source.artifact.digest
    return _ours(FETCH, "fetch", told, mounts, settings)


def fetch_artifact(artifact: ArtifactStatus, settings: Surroundings) -> Object:
    """Before a server starts: what its build published, checked by digest, in SOURCE."""
    told = {"SPANYARD_SOURCE": artifact.key, "SPANYARD_DIGEST": artifact.digest}
    return _ours(FETCH, "fetch", told, [], settings)


def publish(build: Build, attempt: int, settings: Surroundings) -> Object:
    """The last step of a build's pod, and its only main container."""
    build_id = resource_id(build)
    told = {
        "SPANYARD_OUTPUT": build.spec.output,
        "SPANYARD_SUB_PATH": build.spec.source.sub_path,
        "SPANYARD_COMMIT_FILE": COMMIT_FILE,
        "SPANYARD_ARTIFACT_KEY": artifact_key(build_id, attempt),
        "SPANYARD_META_KEY": meta_key(build_id, attempt),
        "SPANYARD_META": msgspec.json.encode(_meta(build, attempt)).decode(),
    }
    return _ours(PUBLISH, "publish", told, [], settings)


def private_volumes(build: Build) -> list[Object]:
    """For `fetch_source`: credentials that no other container sees."""
    git = build.spec.source.git
    if git is None:
        return []
    volumes: list[Object] = [
        {"name": PRIVATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
    ]
    if git.secret_ref is not None:
        secret = {"secretName": git.secret_ref.name, "defaultMode": 0o440}
        volumes.append({"name": GIT_VOLUME, "secret": secret})
    return volumes


def _ours(
    name: str,
    command: str,
    told: Mapping[str, str],
    mounts: list[Object],
    settings: Surroundings,
) -> Object:
    ours = {
        "SPANYARD_STORAGE": settings.pod_storage,
        "SPANYARD_GATEWAY_TOKEN": TOKEN_FILE,
        "SPANYARD_WORK": WORK,
        "SPANYARD_INTO": SOURCE,
    }
    return {
        "name": name,
        "image": settings.sidecar_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["spanyard-sidecar", command],
        "env": variables(surrounding_env(settings), ours, {n: v for n, v in told.items() if v}),
        "resources": OURS,
        "securityContext": restricted(),
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": WORK_VOLUME, "mountPath": WORK},
            token_mount(),
            *ca_mounts(settings),
            *mounts,
        ],
    }


def _meta(build: Build, attempt: int) -> Object:
    spec = build.spec
    return {
        "build": resource_id(build),
        "project": project_id(build),
        "attempt": attempt,
        "environmentHash": _hash(spec.env),
        "builderImage": spec.builder.image,
        "install": spec.install,
        "buildCommand": spec.build,
    }


def _hash(env: list[EnvVar]) -> str:
    """Of the variables as the spec has them: values, and names of keys; hides the values."""
    raw = msgspec.json.encode(sorted(env, key=lambda variable: variable.name))
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
