"""Every reason that a status, a condition or an Event of ours can carry: one table.

`docs/reasons.md` is generated from it. A reason is a name for programs, in CamelCase as Kubernetes
wants it; its message says to a human what happened, its remedy what to do. Texts carry facts in
braces; a fact that is not known is replaced by a word for it, so that telling a failure never
fails itself.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from spanyard_core.resources.kinds import Failure, Kind

EventType = Literal["Normal", "Warning"]
ConditionType = Literal["Ready", "Reconciling", "Stalled"]

LAST_LINES = 20
LAST_LINE_CHARACTERS = 500


class Facts(TypedDict, total=False):
    """What a text may mention. All are optional."""

    step: str
    exit_code: int | None
    signal: str
    pod: str
    container: str
    last_lines: Sequence[str]
    command: str
    limit: str
    """What was set: a timeout, an amount of memory, a number."""
    where: str
    """A path, URL, digest, image, port, field."""
    name: str
    """Of the other object: a build, project, secret, revision."""
    serving: str
    """What goes on serving, `revision 3`."""
    attempt: int
    detail: str
    """What the system below said, in its words."""


UNKNOWN: Mapping[str, str] = {
    "step": "a step",
    "exit_code": "unknown",
    "signal": "a signal",
    "pod": "its pod",
    "container": "its container",
    "command": "the command",
    "limit": "its limit",
    "where": "the place named in the spec",
    "name": "the object named in the spec",
    "serving": "what served before",
    "attempt": "another attempt",
    "detail": "no more is known",
}
"""What stands in a text for a fact that nobody gave."""


@dataclass(frozen=True)
class Reason:
    """One row of the table."""

    name: str
    kinds: tuple[Kind, ...]
    condition: ConditionType | None
    """The condition that carries it first; None: only Events do."""
    event: EventType
    message: str
    remedy: str = ""
    failure: bool = False
    """It can stand in `.status.failure`."""
    transient: bool = False
    """Waiting or another attempt may mend it without a change of the spec."""

    def told(self, **facts: Unpack[Facts]) -> str:
        """The message with these facts in it."""
        return _filled(self.message, facts)


_PROJECT: tuple[Kind, ...] = ("Project",)
_BUILD: tuple[Kind, ...] = ("Build",)
_SERVER: tuple[Kind, ...] = ("Deployment",)
_BOTH: tuple[Kind, ...] = ("Build", "Deployment")
_ALL: tuple[Kind, ...] = ("Project", "Build", "Deployment")


def _progress(
    name: str, kinds: tuple[Kind, ...], message: str, remedy: str = "", event: EventType = "Normal"
) -> Reason:
    return Reason(name, kinds, "Reconciling", event, message, remedy, transient=True)


def _well(name: str, kinds: tuple[Kind, ...], message: str, remedy: str = "") -> Reason:
    return Reason(name, kinds, "Ready", "Normal", message, remedy)


def _failed(
    name: str, kinds: tuple[Kind, ...], message: str, remedy: str, *, transient: bool = False
) -> Reason:
    return Reason(
        name, kinds, "Stalled", "Warning", message, remedy, failure=True, transient=transient
    )


def _told(
    name: str, kinds: tuple[Kind, ...], message: str, remedy: str = "", event: EventType = "Normal"
) -> Reason:
    return Reason(name, kinds, None, event, message, remedy)


def _table() -> Iterator[Reason]:
    # --- all is well, or on its way
    yield _well("Accepted", _PROJECT, "the project takes builds and deployments")
    yield _progress(
        "Queued", _BUILD, "waits for {name}: the project builds one at a time",
        "To build side by side, set spec.builds.concurrencyPolicy of the project to Parallel.",
    )  # fmt: skip
    yield _progress("Building", _BUILD, "runs {step}")
    yield _progress(
        "Interrupted", _BUILD,
        "attempt {attempt} starts: the one before was interrupted ({detail})",
        "Nothing is to be done. Its log stays under the name of the attempt.",
    )  # fmt: skip
    yield _well("Succeeded", _BUILD, "the artifact is published")
    yield _progress("Starting", _SERVER, "{name} starts")
    yield _progress("RollingOut", _SERVER, "{name} starts while {serving} goes on serving")
    yield _progress(
        "Unhealthy",
        _SERVER,
        "{pod} does not answer well: {detail}",
        "It gets no requests until it does.",
        "Warning",
    )
    yield _well("Serving", _SERVER, "{name} serves")
    yield _well(
        "ScaledToZero", _SERVER, "no replica runs, as spec.replicas says",
        "Set spec.replicas to 1 or more.",
    )  # fmt: skip
    yield _well(
        "Suspended", _SERVER, "no replica runs, as spec.suspend says",
        "Set spec.suspend to false to start it again.",
    )  # fmt: skip
    yield _progress(
        "WaitingForBuild", _SERVER, "waits for a successful build: {name}",
        "See what the build does: `spanyard builds`. Without one: apply a Build of this project.",
    )  # fmt: skip
    yield _progress(
        "ProjectMissing", _BOTH, "there is no project {name} in this namespace",
        "Apply a Project of this name, or correct spec.project. It goes on by itself then.",
        "Warning",
    )  # fmt: skip
    yield _progress("Deleting", _ALL, "is being removed with what it stored: {detail}")

    # --- a spec that cannot work
    yield _failed("InvalidSpec", _ALL, "{where}: {detail}", "Correct the field and apply again.")
    yield _failed(
        "NotOnThisPlatform", _BOTH, "{where} does not work here: {detail}",
        "A folder of a machine is for the laptop, an image for the cluster. To move a folder to a "
        "cluster use `spanyard deploy`, which uploads it.",
    )  # fmt: skip
    yield _failed(
        "SecretMissing", _BOTH, "{where}: there is no key {name}",
        "Create the Secret or ConfigMap with that key in this namespace; on a laptop put a line "
        "KEY=value into secrets/NAME.env beside the YAML, or name a file with --env-file.",
        transient=True,
    )  # fmt: skip

    # --- builds: the source
    yield _failed(
        "SourceNotFound", _BUILD, "there is no source at {where}",
        "Check spec.source: the spelling of the URL, path or digest, and spec.source.subPath. A "
        "private repository that may not be seen with these credentials answers the same.",
    )  # fmt: skip
    yield _failed(
        "RevisionNotFound", _BUILD, "{where} has no branch, tag or commit {name}",
        "Check spec.source.git.revision, and that the commit was pushed.",
    )  # fmt: skip
    yield _failed(
        "SourceUnreachable", _BUILD, "{where} did not answer: {detail}",
        "Check the network from where the build runs: name resolution, proxy, certificates. Then "
        "raise spec.retry by one.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "SourceRefused", _BUILD, "{where} refused the credentials: {detail}",
        "Check the Secret of spec.source.git.secretRef: a token that has ended, a key that is not "
        "known there, a missing right to read.",
    )  # fmt: skip
    yield _failed(
        "ArchiveInvalid", _BUILD, "the archive {where} was not unpacked: {detail}",
        "An archive is a tar.zst whose names stay inside it: no absolute path, no `..`, no link "
        "that leads out. Make it with `spanyard deploy`, or with `tar --zstd`.",
    )  # fmt: skip

    # --- builds: the steps
    yield _failed(
        "StepFailed", _BUILD, "{step} ended with exit code {exit_code}",
        "Read the last lines below, or all of it: `spanyard build-log ID`. The same command in a "
        "fresh copy of the source, without your caches, shows the same.",
    )  # fmt: skip
    yield _failed(
        "StepKilled", _BUILD, "{step} was ended by {signal}",
        "Nobody here sent it: look at what the command starts, and at the machine. Then raise "
        "spec.retry by one.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "Timeout", _BUILD, "{step} still ran after {limit}, the time for the whole build",
        "If it hangs, the last lines say where; tools that ask a question wait for ever. If it is "
        "slow, raise spec.timeout, or give it a spec.cache.",
    )  # fmt: skip
    yield _failed(
        "OutputMissing", _BUILD, "the build ended well, but {where} is not there",
        "Set spec.output to the folder that spec.build writes, relative to the source.",
    )  # fmt: skip
    yield _failed(
        "PublishFailed", _BUILD, "the artifact was not stored: {detail}",
        "Check that storage answers and has room. Then raise spec.retry by one.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "TooManyAttempts", _BUILD, "was interrupted {attempt} times: {detail}",
        "Look at why its runner or node keeps ending. Then raise spec.retry by one.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "Cancelled", _BUILD, "was cancelled by spec.cancel",
        "To run it after all, set spec.cancel to false and raise spec.retry by one.",
    )  # fmt: skip
    yield _failed(
        "Superseded", _BUILD, "was left out: {name} is newer",
        "The project's concurrencyPolicy is SerialLatestOnly: of those that wait only the newest "
        "is built. To run it after all, raise spec.retry by one.",
    )  # fmt: skip

    # --- builds and servers
    yield _failed(
        "CommandNotFound", _BOTH, "{command} was not found",
        "Install it; on a laptop it must be on the PATH of the shell that runs `spanyard up`, in a "
        "cluster in the image (spec.builder.image, spec.runtimeImage).",
    )  # fmt: skip
    yield _failed(
        "OutOfMemory", _BOTH, "{container} used more memory than {limit} and was ended",
        "Raise spec.resources.limits.memory, or let it use less: fewer workers, a smaller heap.",
    )  # fmt: skip
    yield _failed(
        "NoSpace", _BOTH, "there is no space left on the disk: {detail}",
        "Free some (`spanyard prune --dry-run` tells what would go), or raise "
        "spec.resources.limits.ephemeral-storage.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "Evicted", _BOTH, "the node sent {pod} away: {detail}",
        "It is started again elsewhere. When that goes on: raise spec.resources.requests to what "
        "it uses, so that nodes do not run short.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "NodeLost", _BOTH, "the node of {pod} went away: {detail}",
        "It is started again elsewhere. The log up to then is stored, its end is an open tail.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "ImagePullFailed", _BOTH, "the image {where} was not pulled: {detail}",
        "Check the image's name and tag, and for a private registry spec.imagePullSecrets "
        "(Build: spec.builder.imagePullSecrets).",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "Unschedulable", _BOTH, "no node takes {pod}: {detail}",
        "Lower spec.resources.requests, correct spec.nodeSelector and spec.tolerations, or add a "
        "node.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "PodRefused", _BOTH, "the cluster refused {pod}: {detail}",
        "A quota, Pod Security or an admission policy says so in the words above.",
        transient=True,
    )  # fmt: skip
    yield _failed(
        "InternalError", _ALL, "Spanyard itself failed here: {detail}",
        "It is tried again. When it stays, please report it with the log of the operator or of "
        "`spanyard up`.",
        transient=True,
    )  # fmt: skip

    # --- deployments
    yield _failed(
        "BuildMissing", _SERVER, "there is no build {name} in this namespace",
        "Correct spec.buildRef.name; `spanyard builds` lists them. Retention removes old builds.",
    )  # fmt: skip
    yield _failed(
        "BuildNotUsable", _SERVER, "the build {name} has no artifact: {detail}",
        "Name a build that succeeded and belongs to the same project, or mend that one.",
    )  # fmt: skip
    yield _failed(
        "ArtifactInvalid", _SERVER, "the artifact of {name} was not unpacked: {detail}",
        "Build again: raise the build's spec.retry by one.",
    )  # fmt: skip
    yield _failed(
        "PortTaken", _SERVER, "the server could not listen on {where}: another one does",
        "Let the server listen on the port in its variable PORT; on a laptop every replica has "
        "another one.",
    )  # fmt: skip
    yield _failed(
        "NeverReady", _SERVER, "was not ready within {limit}: {detail}",
        "Let the server listen on 0.0.0.0 and the port in its variable PORT, and answer "
        "spec.health.path with a status below 400. If it only needs longer, raise "
        "spec.health.startupTimeout.",
    )  # fmt: skip
    yield _failed(
        "CrashLoop", _SERVER, "keeps ending soon after its start, last with exit code {exit_code}",
        "Read the last lines below, or all of it: `spanyard logs PROJECT`.",
    )  # fmt: skip
    yield _failed(
        "DeadlineExceeded", _SERVER, "the rollout did not end within {limit}: {detail}",
        "See why the new revision is not ready. If it only needs longer, raise "
        "spec.progressDeadline.",
    )  # fmt: skip
    yield _failed(
        "NameTaken", _SERVER, "there is {name} already, and it is not ours: it is left alone",
        "Give this Deployment another name, or remove the other object.",
    )  # fmt: skip

    # --- only told, as Events
    yield _told("RevisionReplaced", _SERVER, "{name} serves instead of {serving}")
    yield _told(
        "RevisionRefused", _SERVER, "{name} is not taken, {serving} goes on: {detail}",
        "Mend what .status.failure says and apply again.", "Warning",
    )  # fmt: skip
    yield _told(
        "Restarted", _SERVER, "{pod} ended with exit code {exit_code} and starts again",
        "See its last lines: `spanyard logs PROJECT`.", "Warning",
    )  # fmt: skip
    yield _told("Healthy", _SERVER, "{pod} answers")
    yield _told(
        "Killed", _BOTH, "{container} did not end within {limit} after SIGTERM and was killed",
        "Let it end on SIGTERM; a shell as first process does not pass it on: begin the command "
        "with exec. If it only needs longer, raise spec.terminationGracePeriod.", "Warning",
    )  # fmt: skip
    yield _told("BuildRemoved", _PROJECT, "{name} was removed with log and artifact: {detail}")
    yield _told(
        "CleanupFailed", _ALL, "what it stored could not all be removed: {detail}",
        "The object goes all the same. `spanyard prune` removes what is left.", "Warning",
    )  # fmt: skip
    yield _told(
        "LogIncomplete", _BOTH, "the end of its log is not stored yet: {detail}",
        "`spanyard verify` tells what is missing and why.", "Warning",
    )  # fmt: skip


REASONS: dict[str, Reason] = {reason.name: reason for reason in _table()}


def explain(reason: str, **facts: Unpack[Facts]) -> Failure:
    """`.status.failure` for one of the failure reasons of the table.

    KeyError for a name that is not in it, ValueError for one that is no failure: mistakes of ours.
    """
    row = REASONS[reason]
    if not row.failure:
        raise ValueError(f"{reason} is no failure")
    return Failure(
        reason=reason,
        message=row.told(**facts),
        remedy=_filled(row.remedy, facts),
        step=facts.get("step", ""),
        exit_code=facts.get("exit_code"),
        pod=facts.get("pod", ""),
        container=facts.get("container", ""),
        last_lines=clipped(facts.get("last_lines", ())),
    )


def clipped(lines: Sequence[str]) -> list[str]:
    """The last lines, as many and as long as a status may carry: their ends are kept."""
    return [
        line if len(line) <= LAST_LINE_CHARACTERS else "…" + line[1 - LAST_LINE_CHARACTERS :]
        for line in lines[-LAST_LINES:]
    ]


_FACT = re.compile(r"\{(\w+)\}")


def _filled(template: str, facts: Facts) -> str:
    def word(match: re.Match[str]) -> str:
        value: object = facts.get(match[1])
        return UNKNOWN[match[1]] if value is None or value == "" else str(value)

    return _FACT.sub(word, template)
