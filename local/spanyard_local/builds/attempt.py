"""The steps of one attempt, in its pod and its work folder."""

import asyncio
import contextlib
import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from spanyard_core.build_objects import artifact_key, meta_key, source_key
from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import ObjectNotFoundError, SpanyardError, StorageError
from spanyard_core.quantities import parse_size
from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import (
    ArtifactStatus,
    Build,
    BuildStatus,
    Failure,
    resource_id,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.step_answers import StepAnswer, fetched
from spanyard_core.storage import Storage
from spanyard_local.builds.environment import environment_hash, steps_environment
from spanyard_local.builds.folder import WorkFolder
from spanyard_local.builds.step import CREDENTIALS, Request
from spanyard_local.builds.steps import FailedError, Steps
from spanyard_local.podapi import Pod
from spanyard_local.servers.environment import Keys, MissingKeyError, resolved
from spanyard_local.shimmed import (
    ExitStatus,
)

log = logging.getLogger("spanyard.local")

T = TypeVar("T")
Patiently = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
BLOCK = 8 << 20
"""Bytes read of an uploaded archive at a time."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What attempts work with."""

    storage: Storage
    clock: Clock
    root: Path
    secrets: Keys
    config_maps: Keys
    keep_folders: bool
    never_copied: Sequence[Path]
    patiently: Patiently
    """Calls storage until it takes the call, a few times."""


class Attempt:
    """One attempt; `run` it once."""

    def __init__(
        self,
        means: Means,
        build: Build,
        status: BuildStatus,
        *,
        changed: Callable[[BuildStatus], Awaitable[None]],
        cancel: asyncio.Event,
    ) -> None:
        self._means = means
        self._build = build
        self._id = resource_id(build)
        self._steps = Steps(build, status, clock=means.clock, changed=changed, cancel=cancel)
        self._memory: int | None = None
        self._pod: Pod
        self._folder: WorkFolder
        self._environment: dict[str, str] = {}
        self.artifact = ArtifactStatus()

    @property
    def status(self) -> BuildStatus:
        return self._steps.status

    @property
    def lost_lines(self) -> int:
        """Output that is in no log: the disk was full to the end."""
        return self._steps.lost_lines

    async def run(self, pod: Pod) -> Failure | None:
        """All steps. Returns why it failed. Raises SpanyardError, OSError for what is no failure of
        the build's own."""
        self._pod = pod
        try:
            self._check()
            values = self._values()
            self._folder = await asyncio.to_thread(
                WorkFolder.take, self._means.root, self._id, pod.identity.uid
            )
        except FailedError as error:
            return error.failure
        try:
            self._folder.link_observability(pod.spans_dir)
            self._environment = steps_environment(values, pod.env, self._ours())
            await self._all()
        except FailedError as error:
            return error.failure
        finally:
            await asyncio.to_thread(self._folder.close, keep=self._means.keep_folders)
        return None

    # --- the spec --------------------------------------------------------------------------

    def _check(self) -> None:
        spec = self._build.spec
        try:
            limit = spec.resources.limits.get("memory")
            self._memory = parse_size(limit) if limit else None
        except ValueError as error:
            raise _invalid("spec.resources.limits.memory", str(error)) from error
        for where, path in (("spec.source.subPath", spec.source.sub_path),
                            ("spec.output", spec.output)):  # fmt: skip
            if path.startswith("/") or ".." in path.split("/"):
                raise _invalid(where, f"{path!r} is not inside the source")

    def _values(self) -> dict[str, str]:
        means = self._means
        try:
            return resolved(
                self._build.spec.env, secrets=means.secrets, config_maps=means.config_maps
            )
        except MissingKeyError as error:
            raise FailedError(
                explain("SecretMissing", where=error.where, name=error.name)
            ) from error
        except SpanyardError as error:  # a file of secrets that cannot be read
            raise _invalid("spec.env", str(error)) from error

    def _ours(self) -> dict[str, str]:
        ours = {"SPANYARD_BUILD": self._id, "SPANYARD_PROJECT": self._pod.identity.project}
        if self._build.spec.cache is not None:
            cache = self._means.root.parent / "cache" / self._pod.identity.project
            cache.mkdir(parents=True, exist_ok=True)
            ours["SPANYARD_CACHE"] = str(cache)
        return ours

    # --- the steps -------------------------------------------------------------------------

    async def _all(self) -> None:
        await self._fetch()
        source = self._folder.source
        here = Path(os.path.realpath(source / self._build.spec.source.sub_path))
        if not here.is_relative_to(os.path.realpath(source)) or not here.is_dir():
            name = self._build.spec.source.sub_path
            raise FailedError(
                explain("SourceNotFound", step="fetch", where=f"{name!r} in the source (subPath)")
            )
        for step in life.steps_of(self._build):
            if step in {"install", "build"}:
                command = self._build.spec.install if step == "install" else self._build.spec.build
                await self._steps.run(
                    self._pod,
                    step,
                    ("/bin/sh", "-c", command),
                    said=command,
                    environment=self._environment,
                    directory=here,
                    held=self._held,
                    memory=self._memory,
                )
        await self._publish(here / self._build.spec.output)

    async def _fetch(self) -> None:
        source = self._build.spec.source
        request = self._request("fetch", target=str(self._folder.source))
        request.never = [str(path) for path in self._means.never_copied]
        secrets: dict[str, str] = {}
        digest = ""
        if source.git is not None:
            request.git_url, request.git_revision = source.git.url, source.git.revision
            request.private = str(self._folder.work)
            if source.git.secret_ref is not None:
                secrets = self._git_secret(source.git.secret_ref.name)
        elif source.archive is not None:
            digest = source.archive.digest
        elif source.directory is not None:
            request.directory = self._local(source.directory.path, "spec.source.directory.path")
        elif source.artifact is not None and source.artifact.digest:
            digest = source.artifact.digest
        elif source.artifact is not None:
            request.directory = self._local(source.artifact.path, "spec.source.artifact.path")
            request.everything = True
        else:
            raise _invalid("spec.source", "it names no source")

        async def get_archive() -> None:
            if digest:
                request.digest = digest
                request.archive = str(await self._archive(digest))
                self._write_request("fetch", request)

        answer = await self._own_step("fetch", request, secrets, before=get_archive)
        self._steps.status = life.fetched(self.status, fetched(answer))
        if answer.commit:
            self._environment.setdefault("SPANYARD_COMMIT", answer.commit)
        self._folder.write_meta(self._meta())

    def _git_secret(self, name: str) -> dict[str, str]:
        try:
            found = self._means.secrets.get(name)
        except SpanyardError as error:
            raise _invalid("spec.source.git.secretRef", str(error)) from error
        if found is None:
            raise FailedError(
                explain("SecretMissing", where="spec.source.git.secretRef", name=f"in {name}")
            )
        return {CREDENTIALS: msgspec.json.encode(dict(found)).decode()}

    def _local(self, path: str, where: str) -> str:
        expanded = os.path.expanduser(path)
        if not os.path.isabs(expanded):
            raise _invalid(where, f"{path!r} is relative to a file that is not known here")
        return expanded

    async def _archive(self, digest: str) -> Path:
        """The uploaded archive as a file. Raises FailedError."""
        storage = self._means.storage
        try:
            key = source_key(digest)
        except ValueError as error:
            raise _invalid("spec.source.archive.digest", str(error)) from error
        local = storage.local_path(key)
        if local is not None and local.is_file():
            return local
        path = self._folder.work / "source.tar.zst"
        where = f"{storage.url}/{key}"
        try:
            with path.open("wb") as file:
                at = 0
                while True:
                    read = functools.partial(storage.read, key, start=at, length=BLOCK)
                    block = await self._means.patiently(read)
                    await asyncio.to_thread(file.write, block)
                    at += len(block)
                    if len(block) < BLOCK:
                        return path
        except ObjectNotFoundError as error:
            raise FailedError(explain("SourceNotFound", step="fetch", where=where)) from error
        except StorageError as error:
            raise FailedError(
                explain("SourceUnreachable", step="fetch", where=where, detail=str(error))
            ) from error

    async def _publish(self, output: Path) -> None:
        request = self._request("publish", target=str(self._folder.artifact))
        request.output, request.output_name = str(output), self._build.spec.output
        request.within = str(self._folder.source)
        answer = StepAnswer()

        async def store(found: StepAnswer) -> None:
            nonlocal answer
            answer = found
            self.artifact = ArtifactStatus(
                key=artifact_key(self._id), digest=found.digest, size=found.size
            )
            meta = self._folder.write_meta(self._meta())
            storage, patiently = self._means.storage, self._means.patiently
            try:
                await patiently(
                    lambda: storage.write_file(self.artifact.key, self._folder.artifact)
                )
                await patiently(lambda: storage.write(meta_key(self._id), meta))
            except StorageError as error:
                raise FailedError(
                    explain("PublishFailed", step="publish", detail=str(error))
                ) from error

        await self._own_step("publish", request, {}, after=store)

    def _meta(self) -> dict[str, Any]:
        """`meta.json`: what was built, of what, with what. No value of a variable is in it."""
        status = self.status
        return {
            "build": self._id,
            "project": self._pod.identity.project,
            "attempt": status.attempt,
            "commit": status.source.commit,
            "sourceDigest": status.source.digest,
            "environmentHash": environment_hash(self._environment),
            "install": self._build.spec.install,
            "buildCommand": self._build.spec.build,
            "startedAt": status.started_at,
            "finishedAt": rfc3339(self._means.clock.time_ns()) if self.artifact.key else "",
            "steps": [msgspec.to_builtins(step) for step in status.steps],
            "artifact": msgspec.to_builtins(self.artifact),
        }

    # --- our own steps --------------------------------------------------------------------------

    @property
    def _held(self) -> Sequence[int]:
        return (*self._pod.held, self._folder.descriptor)

    def _request(self, step: str, *, target: str) -> Request:
        return Request(answer=str(self._folder.work / f"{step}.answer.json"), target=target)

    def _write_request(self, step: str, request: Request) -> Path:
        path = self._folder.work / f"{step}.json"
        path.write_bytes(msgspec.json.encode(request))
        return path

    async def _own_step(
        self,
        step: life.Step,
        request: Request,
        secrets: Mapping[str, str],
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[StepAnswer], Awaitable[None]] | None = None,
    ) -> StepAnswer:
        """`fetch` or `publish`: the program `builds.step`."""
        path = self._write_request(step, request)
        answer = StepAnswer()

        async def look(end: ExitStatus) -> None:
            nonlocal answer
            with contextlib.suppress(OSError, msgspec.DecodeError):  # it was killed: `end` says so
                answer = msgspec.json.decode(Path(request.answer).read_bytes(), type=StepAnswer)
            if answer.reason:
                facts: Any = answer.facts
                raise FailedError(
                    explain(
                        answer.reason, step=step, pod=self._pod.identity.pod, container=step,
                        exit_code=end.exit_code, last_lines=end.tail, **facts,
                    )
                )  # fmt: skip
            if end.succeeded and after is not None:
                await self._steps.in_time(step, after(answer))

        program = (sys.executable, "-I", "-m", "spanyard_local.builds.step", str(path))
        await self._steps.run(
            self._pod,
            step,
            program,
            said=f"spanyard {step}",
            environment={**os.environ, **secrets},
            directory=self._folder.work,
            held=self._held,
            before=before,
            after=look,
        )
        return answer


def _invalid(where: str, detail: str) -> FailedError:
    return FailedError(explain("InvalidSpec", where=where, detail=detail))
