"""From a Deployment and the builds there are to what is to run: the wish, its values, its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.deployments import choose, content, revision_hash
from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import Build, Deployment, Failure, project_id
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.rollout import Wish
from spanyard_core.storage import Storage
from spanyard_local.servers.artifacts import fetch_artifact
from spanyard_local.servers.endings import memory_limit
from spanyard_local.servers.environment import Keys, MissingKeyError, base, resolved
from spanyard_local.servers.health import Rules
from spanyard_local.servers.kept import KeptRevision
from spanyard_local.servers.proxy import HOST
from spanyard_local.servers.replica import Plan

DEFAULTS = {"HOST": HOST, "PYTHONUNBUFFERED": "1"}
"""Variables that `spec.env` may set otherwise. A pod listens on all interfaces, a laptop on none that
others reach. Python holds back what it prints into a pipe, up to 8 KiB, unless it is told not to."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A wish, and what it takes to fulfil it."""

    wish: Wish
    revision: KeptRevision | None = None
    """Content and artifact; None when there is nothing to run."""
    values: Mapping[str, str]
    """Of `spec.env`. Secrets are among them: nowhere but into a process."""


class Keyring:
    """Where `valueFrom` is looked up."""

    def __init__(self, secrets: Keys, config_maps: Keys) -> None:
        self._secrets = secrets
        self._config_maps = config_maps

    def values(self, deployment: Deployment) -> dict[str, str]:
        """Of `spec.env`. Raises MissingKeyError, SpanyardError for a file that is bad."""
        return resolved(deployment.spec.env, secrets=self._secrets, config_maps=self._config_maps)

    def values_of(self, revision: KeptRevision) -> dict[str, str]:
        """The same for a revision that was kept."""
        return resolved(revision.content.env, secrets=self._secrets, config_maps=self._config_maps)


def wanted(
    deployment: Deployment, builds: Sequence[Build], keys: Keyring, *, replicas: int, tries: int
) -> Wanted:
    """What is to run now, or why nothing is."""
    choice = choose(deployment, builds)
    failure = choice.failure or _impossible(deployment)
    values: Mapping[str, str] = {}
    if failure is None:
        try:
            values = keys.values(deployment)
        except MissingKeyError as error:
            failure = explain("SecretMissing", where=error.where, name=error.name)
        except SpanyardError as error:
            failure = explain("InvalidSpec", where="spec.env", detail=str(error))
    revision = None
    if choice.build is not None and failure is None:
        revision = KeptRevision(
            content=content(deployment, choice, values), artifact=choice.build.status.artifact
        )
    wish = Wish(
        hash=revision_hash(revision.content) if revision else "",
        replicas=replicas,
        suspend=deployment.spec.suspend,
        deadline=seconds(deployment.spec.progress_deadline),
        tries=tries,
        generation=deployment.metadata.generation,
        wait=choice.wait,
        failure=failure,
    )
    return Wanted(wish=wish, revision=revision, values=values)


def _impossible(deployment: Deployment) -> Failure | None:
    """What can never run here, whatever is built."""
    spec = deployment.spec
    if spec.image:
        return explain(
            "NotOnThisPlatform",
            where="spec.image",
            detail="images run in a cluster only; this machine runs what a Build makes",
        )
    if not spec.command.strip():
        detail = "it says what to run, and is empty"
        return explain("InvalidSpec", where="spec.command", detail=detail)
    try:
        memory_limit(spec.resources)
    except ValueError as error:
        return explain("InvalidSpec", where="spec.resources.limits.memory", detail=str(error))
    return None


def plan(
    deployment: Deployment,
    number: int,
    revision: KeptRevision,
    values: Mapping[str, str],
    *,
    storage: Storage,
    environment: Mapping[str, str] | None,
) -> Plan:
    """What each replica of a revision runs; `environment` is the shell's."""
    metadata, what = deployment.metadata, revision.content

    async def fetch(folder: Path) -> None:
        await fetch_artifact(storage, revision.artifact, folder)

    return Plan(
        namespace=metadata.namespace,
        deployment=metadata.name,
        project=project_id(deployment),
        resource_uid=metadata.uid,
        revision=number,
        command=what.command,
        environment={**base(environment), **DEFAULTS, **values},
        fetch=fetch,
        health=Rules(
            path=what.health.path,
            period=seconds(what.health.period),
            timeout=seconds(what.health.timeout),
            failure_threshold=what.health.failure_threshold,
            startup_timeout=seconds(what.health.startup_timeout),
        ),
        memory_limit=memory_limit(what.resources),
        memory_text=what.resources.limits.get("memory", ""),
    )
