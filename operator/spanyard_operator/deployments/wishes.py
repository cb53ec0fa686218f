"""What a Deployment asks for now, of the builds and Secrets that there are; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from spanyard_core.resources.deployments import Choice, Content, choose, content, revision_hash
from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import Build, Deployment, Failure
from spanyard_core.resources.reasons import explain
from spanyard_core.resources.rollout import Wish
from spanyard_operator.deployments.environment import Keys, MissingKeyError, values
from spanyard_operator.deployments.pod import placement_hash
from spanyard_operator.pod.collector import OTLP_PORT, PORT


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A wish, and what fulfils it."""

    wish: Wish
    choice: Choice
    content: Content | None = None
    """None when there is nothing new to run: what runs goes on."""


def wanted(
    deployment: Deployment,
    builds: Iterable[Build],
    keys: Keys,
    *,
    replicas: int,
    salt: str = "",
) -> Wanted:
    """`keys` are the Secrets and ConfigMaps that `spec.env` names; only a hash of them is kept, with
    the installation's `salt` in it."""
    choice = choose(deployment, builds)
    failure = choice.failure or _impossible(deployment)
    what: Content | None = None
    if failure is None and (choice.build is not None or choice.image):
        try:
            found = values(deployment.spec.env, keys, salt=salt)
        except MissingKeyError as error:
            failure = explain("SecretMissing", where=error.where, name=error.name)
        else:
            placed = placement_hash(deployment.spec)
            what = content(deployment, choice, found, pod=placed)
    wish = Wish(
        hash=revision_hash(what) if what else "",
        replicas=replicas,
        suspend=deployment.spec.suspend,
        deadline=seconds(deployment.spec.progress_deadline),
        generation=deployment.metadata.generation,
        wait=choice.wait,
        failure=failure,
    )
    return Wanted(wish=wish, choice=choice, content=what)


def _impossible(deployment: Deployment) -> Failure | None:
    spec = deployment.spec
    if not spec.image and not spec.command.strip():
        detail = "it says what to run, and is empty"
        return explain("InvalidSpec", where="spec.command", detail=detail)
    if spec.port in (OTLP_PORT, PORT):
        detail = f"the collector beside the server listens on {OTLP_PORT} and {PORT}: take another"
        return explain("InvalidSpec", where="spec.port", detail=detail)
    return None
