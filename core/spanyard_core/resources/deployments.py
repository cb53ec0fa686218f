"""What a Deployment runs: which build, what makes a revision, and the list of its revisions; pure.

Shared by the laptop's runner and the operator. How a new revision takes over is in
`spanyard_core.resources.rollout`.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from spanyard_core.resources.kinds import (
    FINISHED,
    Build,
    Camel,
    Deployment,
    EnvVar,
    Failure,
    HealthCheck,
    Resources,
    Revision,
    RevisionState,
)
from spanyard_core.resources.reasons import explain

_EXEC = re.compile(r"\s*exec\s+(?=[^\s-])")
_OF_THE_SHELL = {".", "cd", "export", "set", "source", "ulimit", "umask"}
HASH_DIGITS = 10
"""Hexadecimal: 40 bits tell the few revisions of one Deployment apart, and fit into a label."""


def program(command: str) -> str:
    """What follows `exec` when `spec.command` is run: people write that word there, too, and a shell
    looks for a program of this name."""
    return _EXEC.sub("", command, count=1) if _EXEC.match(command) else command


def named_program(command: str) -> str:
    """The program that `exec …` did not find, and a word on why, if it is none."""
    word = next(iter(program(command).split()), "")
    if word in _OF_THE_SHELL:
        return f"{word!r} (a command of the shell, not a program; say `sh -c '{word} …'`)"
    return repr(word)


class Content(Camel):
    """What makes a revision: a change of any of it rolls, a change of nothing else does."""

    build: str = ""
    """Name of the build; a new build is a new revision, also when it gave the same bytes."""
    digest: str = ""
    """Of its artifact: a build that was run again rolls too."""
    image: str = ""
    runtime_image: str = ""
    command: str = ""
    port: int = 8080
    env: list[EnvVar] = msgspec.field(default_factory=list)
    """As written: no value of a Secret stands in here."""
    env_hash: str = ""
    """Of the values, so that a changed Secret rolls."""
    resources: Resources = msgspec.field(default_factory=Resources)
    health: HealthCheck = msgspec.field(default_factory=HealthCheck)
    pod: str = ""
    """Hash of what else the spec says of its pods in a cluster (node selector, security context,
    service account, …); empty on a laptop, which uses none of it."""


class Choice(Camel):
    """The build or image to run, or why there is none."""

    build: Build | None = None
    image: str = ""
    wait: str = ""
    """What it waits for: it comes by itself."""
    failure: Failure | None = None
    """It does not come by itself."""


def choose(deployment: Deployment, builds: Iterable[Build]) -> Choice:
    """What the spec asks for, of the builds that there are now."""
    spec = deployment.spec
    if spec.image:
        return Choice(image=spec.image)
    here = [b for b in builds if b.metadata.namespace == deployment.metadata.namespace]
    if spec.build_ref is not None:
        return _named(spec.build_ref.name, spec.project, here)
    serving = {r.build for r in deployment.status.revisions if r.state == "Serving"}
    return _latest(spec.project, here, serving)


def _named(name: str, project: str, builds: Sequence[Build]) -> Choice:
    build = next((b for b in builds if b.metadata.name == name), None)
    if build is None:
        return Choice(failure=explain("BuildMissing", name=name))
    if build.spec.project != project:
        detail = f"it belongs to project {build.spec.project}"
        return Choice(failure=explain("BuildNotUsable", name=name, detail=detail))
    if build.status.phase == "Succeeded":
        return Choice(build=build)
    if build.status.phase in FINISHED:
        return Choice(failure=_unusable(build))
    return Choice(wait=f"{name} is {build.status.phase.lower()}")


def _latest(project: str, builds: Sequence[Build], serving: Collection[str]) -> Choice:
    best = latest_successful(project, builds)
    ours = sorted((b for b in builds if b.spec.project == project), key=_age)
    for build in ours:
        # What serves is built once more, by `spec.retry`: no reason to go back meanwhile.
        again = build.metadata.name in serving and build.status.phase not in FINISHED
        if again and (best is None or _age(build) > _age(best)):
            return Choice(wait=f"{build.metadata.name} is {build.status.phase.lower()} once more")
    if best is not None:
        return Choice(build=best)
    if not ours:
        return Choice(wait=f"project {project} has none yet")
    coming = [b for b in ours if b.status.phase not in FINISHED]
    if coming:
        return Choice(wait=f"{coming[-1].metadata.name} is {coming[-1].status.phase.lower()}")
    return Choice(failure=_unusable(ours[-1]))


def _unusable(build: Build) -> Failure:
    detail = f"it is {build.status.phase.lower()}"
    if build.status.reason:
        detail += f" ({build.status.reason})"
    return explain("BuildNotUsable", name=build.metadata.name, detail=detail)


def latest_successful(project: str, builds: Iterable[Build]) -> Build | None:
    """The newest successful build of a project, by the time it was asked for.

    Not by the time it ended: a slow build of older source never replaces a newer one.
    """
    succeeded = (b for b in builds if b.spec.project == project and b.status.phase == "Succeeded")
    return max(succeeded, key=_age, default=None)


def _age(build: Build) -> tuple[str, str, str]:
    queued_at, name = build.status.queued_at, build.metadata.name
    # The time of creation has seconds alone: two edits within one are told apart by the queue.
    return build.metadata.creation_timestamp or queued_at, queued_at, name


def content(
    deployment: Deployment, choice: Choice, values: Mapping[str, str], *, pod: str = ""
) -> Content:
    """The revision's content; `values` are the variables of `spec.env` as a process gets them."""
    spec = deployment.spec
    build = choice.build
    return Content(
        build=build.metadata.name if build else "",
        digest=build.status.artifact.digest if build else "",
        image=choice.image,
        runtime_image="" if choice.image else spec.runtime_image,
        command=spec.command,
        port=spec.port,
        env=spec.env,
        env_hash=env_hash(values),
        resources=spec.resources,
        health=spec.health,
        pod=pod,
    )


def env_hash(values: Mapping[str, str]) -> str:
    """Of names and values. It stays in private files; a revision's hash shows 40 bits of its hash."""
    return hashlib.sha256(msgspec.json.encode(sorted(values.items()))).hexdigest()


def revision_hash(what: Content) -> str:
    """The hash in status and labels; the order of variables does not count."""
    settled = msgspec.structs.replace(what, env=sorted(what.env, key=lambda v: v.name))
    return hashlib.sha256(msgspec.json.encode(settled, order="sorted")).hexdigest()[:HASH_DIGITS]


# --- the list of revisions ------------------------------------------------------------------


def begin(
    revisions: Sequence[Revision], what: Content, *, now: str
) -> tuple[Revision, list[Revision]]:
    """The revision that starts now, and the list with it.

    The newest one starts again under its own number. Content that ran earlier gets a new number and
    leaves its old one, as with Kubernetes' ReplicaSets: a rollback is a step forward.
    """
    digest = revision_hash(what)
    newest = max(revisions, key=lambda r: r.number, default=None)
    number = newest.number if newest and newest.hash == digest else _next_number(revisions)
    made = Revision(
        number=number,
        hash=digest,
        state="Starting",
        build=what.build,
        image=what.image,
        started_at=now,
    )
    return made, [*(r for r in revisions if r.hash != digest), made]


def _next_number(revisions: Sequence[Revision]) -> int:
    return max((r.number for r in revisions), default=0) + 1


def marked(
    revisions: Sequence[Revision],
    number: int,
    state: RevisionState,
    reason: str = "",
    *,
    now: str,
) -> list[Revision]:
    """The list with one revision in another state. A revision that serves replaces the others.

    Its times move with its state alone, so that equal facts give an equal list.
    """
    made: list[Revision] = []
    for revision in revisions:
        if revision.number == number:
            made.append(_in_state(revision, state, reason, now))
        elif state == "Serving" and revision.state == "Serving":
            made.append(_in_state(revision, "Replaced", "", now))
        else:
            made.append(revision)
    return made


def _in_state(revision: Revision, state: RevisionState, reason: str, now: str) -> Revision:
    if revision.state == state:
        return msgspec.structs.replace(revision, reason=reason)
    ready_at, ended_at = revision.ready_at, now
    if state in {"Serving", "Starting"}:
        ready_at, ended_at = now if state == "Serving" else "", ""
    return msgspec.structs.replace(
        revision, state=state, reason=reason, ready_at=ready_at, ended_at=ended_at
    )


def interrupted(revisions: Sequence[Revision]) -> list[Revision]:
    """The list after its runner was killed: nothing starts any more. What served serves again."""
    return [
        msgspec.structs.replace(r, state="Replaced") if r.state == "Starting" else r
        for r in revisions
    ]


def limited(revisions: Sequence[Revision], limit: int) -> list[Revision]:
    """The list without the oldest of those that do not run; `limit` of them stay."""
    idle = [r for r in revisions if r.state not in {"Serving", "Starting"}]
    # The newest number stays whatever it is: numbers are never given twice.
    highest = max((r.number for r in revisions), default=0)
    gone = {
        r.number
        for r in sorted(idle, key=lambda r: r.number)[: max(0, len(idle) - limit)]
        if r.number != highest
    }
    return sorted((r for r in revisions if r.number not in gone), key=lambda r: r.number)


def builds_in_use(deployments: Iterable[Deployment]) -> Collection[str]:
    """Names of builds that retention must leave: those that are asked for, and those of all
    revisions in a status, so that there is something to go back to."""
    names: set[str] = set()
    for deployment in deployments:
        if deployment.spec.build_ref is not None:
            names.add(deployment.spec.build_ref.name)
        names.update(revision.build for revision in deployment.status.revisions)
    return names - {""}
