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
from spanyard_core.errors import ObjectNotFoundError, StorageError
from spanyard_core.quantities import parse_size
from spanyard_core.resources import builds as life
from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import (
    ArtifactStatus,
    Build,
    BuildStatus,
    Failure,
    SourceStatus,
    resource_id,
)
from spanyard_core.resources.reasons import explain
from spanyard_core.storage import Storage
from spanyard_local.builds.endings import failure_of
from spanyard_local.builds.environment import environment_hash, steps_environment
from spanyard_local.builds.folder import WorkFolder
from spanyard_local.builds.step import CREDENTIALS, Answer, Request
from spanyard_local.podapi import Pod
from spanyard_local.servers.environment import Keys, MissingKeyError, resolved
from spanyard_local.shimmed import (
    CommandNotFoundError,
    ExitStatus,
    NoSpaceError,
    Shimmed,
    ShimSpec,
)

log = logging.getLogger("spanyard.local")

T = TypeVar("T")
Patiently = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
GRACE_S = 10.0
"""For a step between SIGTERM and SIGKILL: cancelled, out of time, or `up` ends."""
BLOCK = 8 << 20
"""Bytes read of an uploaded archive at a time."""


class FailedError(Exception):
    """The build has failed, and this is why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


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
        self._changed = changed
        self._cancel = cancel
        self._deadline = means.clock.monotonic() + seconds(build.spec.timeout)
        self._memory: int | None = None
        self._pod: Pod
        self._folder: WorkFolder
        self._environment: dict[str, str] = {}
        self.status = status
        self.artifact = ArtifactStatus()
        self.lost_lines = 0
        """Output that is in no log: the disk was full to the end."""

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
            await self._steps()
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

    def _ours(self) -> dict[str, str]:
        ours = {"SPANYARD_BUILD": self._id, "SPANYARD_PROJECT": self._pod.identity.project}
        if self._build.spec.cache is not None:
            cache = self._means.root.parent / "cache" / self._pod.identity.project
            cache.mkdir(parents=True, exist_ok=True)
            ours["SPANYARD_CACHE"] = str(cache)
        return ours

    # --- the steps -------------------------------------------------------------------------

    async def _steps(self) -> None:
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
                await self._step(
                    step,
                    ("/bin/sh", "-c", command),
                    said=command,
                    environment=self._environment,
                    directory=here,
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
        self.status = life.fetched(
            self.status, SourceStatus(commit=answer.commit, digest=answer.digest)
        )
        if answer.commit:
            self._environment.setdefault("SPANYARD_COMMIT", answer.commit)
        self._folder.write_meta(self._meta())

    def _git_secret(self, name: str) -> dict[str, str]:
        found = self._means.secrets.get(name)
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
        answer = Answer()

        async def store(found: Answer) -> None:
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

    # --- one step --------------------------------------------------------------------------

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
        after: Callable[[Answer], Awaitable[None]] | None = None,
    ) -> Answer:
        """`fetch` or `publish`: the program `builds.step`."""
        path = self._write_request(step, request)
        answer = Answer()

        async def look(end: ExitStatus) -> None:
            nonlocal answer
            with contextlib.suppress(OSError, msgspec.DecodeError):  # it was killed: `end` says so
                answer = msgspec.json.decode(Path(request.answer).read_bytes(), type=Answer)
            if answer.reason:
                facts: Any = answer.facts
                raise FailedError(
                    explain(
                        answer.reason, step=step, pod=self._pod.identity.pod, container=step,
                        exit_code=end.exit_code, last_lines=end.tail, **facts,
                    )
                )  # fmt: skip
            if end.succeeded and after is not None:
                await self._in_time(step, after(answer))

        program = (sys.executable, "-I", "-m", "spanyard_local.builds.step", str(path))
        await self._step(
            step,
            program,
            said=f"spanyard {step}",
            environment={**os.environ, **secrets},
            directory=self._folder.work,
            before=before,
            after=look,
        )
        return answer

    async def _step(
        self,
        step: life.Step,
        command: Sequence[str],
        *,
        said: str,
        environment: Mapping[str, str],
        directory: Path,
        memory: int | None = None,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[ExitStatus], Awaitable[None]] | None = None,
    ) -> None:
        """Run it to its end. Raises FailedError."""
        pod = self._pod.identity
        self.status = life.step_begun(self._build, self.status, step, now=self._now())
        await self._changed(self.status)
        exit_code: int | None = None
        try:
            if before is not None:
                await self._in_time(step, before())
            self._check_cancelled(step)
            spec = ShimSpec(
                command=command,
                environment=environment,
                directory=directory,
                log_root=self._pod.log_root,
                namespace=pod.namespace,
                pod=pod.pod,
                uid=pod.uid,
                container=step,
                restart=0,
                status_file=self._pod.status_dir / f"{step}.0.json",
                grace=GRACE_S,
                memory_limit=memory,
                held=(*self._pod.held, self._folder.descriptor),
            )
            end = await self._to_its_end(step, await self._started(spec, said))
            exit_code = end.exit_code
            if after is not None:
                await after(end)
            if not end.succeeded:
                raise FailedError(failure_of(self._build, step, said, end, pod=pod.pod))
        finally:
            self.status = life.step_ended(self.status, now=self._now(), exit_code=exit_code)

    async def _started(self, spec: ShimSpec, said: str) -> Shimmed:
        try:
            return await Shimmed.start(spec)
        except NoSpaceError as error:
            raise FailedError(explain("NoSpace", step=spec.container, detail=str(error))) from error
        except CommandNotFoundError as error:
            raise FailedError(
                explain("CommandNotFound", step=spec.container, command=said)
            ) from error

    async def _to_its_end(self, step: str, process: Shimmed) -> ExitStatus:
        """Its end, by itself or by ours. Raises FailedError for the latter."""
        ended = asyncio.ensure_future(process.wait())
        asked = asyncio.ensure_future(self._cancel.wait())
        try:
            await asyncio.wait(
                {ended, asked}, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED
            )
            in_time = ended.done()
            end = await (ended if in_time else process.stop(GRACE_S))
        except asyncio.CancelledError:
            # `up` ends: so does the step, and its output is stored with what the pod drains.
            self._noted(step, await process.stop(GRACE_S))
            raise
        finally:
            asked.cancel()
            await asyncio.gather(asked, ended, return_exceptions=True)
        self._noted(step, end)
        if not in_time:
            raise FailedError(self._stopped(step, end))
        return end

    async def _in_time(self, step: str, work: Awaitable[T]) -> T:
        """What we do ourselves, unless the build is cancelled or its time is up meanwhile."""
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self._cancel.wait())
        try:
            await asyncio.wait(
                {task, asked}, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED
            )
            if not task.done():
                raise FailedError(self._stopped(step, None))
            return await task
        finally:
            for one in (task, asked):
                one.cancel()
            await asyncio.gather(task, asked, return_exceptions=True)

    def _stopped(self, step: str, end: ExitStatus | None) -> Failure:
        tail = end.tail if end is not None else ()
        code = end.exit_code if end is not None else None
        where = {"step": step, "pod": self._pod.identity.pod, "container": step}
        if self._cancel.is_set():
            return explain("Cancelled", exit_code=code, last_lines=tail, **where)  # type: ignore[arg-type]  # facts by name
        limit = self._build.spec.timeout
        return explain("Timeout", exit_code=code, last_lines=tail, limit=limit, **where)  # type: ignore[arg-type]  # facts by name

    def _check_cancelled(self, step: str) -> None:
        if self._cancel.is_set() or not self._left():
            raise FailedError(self._stopped(step, None))

    def _noted(self, step: str, end: ExitStatus) -> None:
        self.lost_lines += end.lost_lines + (1 if end.reason == "ShimLost" else 0)
        for note in end.notes:
            log.warning("build %s, step %s: %s", self._id, step, note)

    def _left(self) -> float:
        return max(0.0, self._deadline - self._means.clock.monotonic())

    def _now(self) -> str:
        return rfc3339(self._means.clock.time_ns())


def _invalid(where: str, detail: str) -> FailedError:
    return FailedError(explain("InvalidSpec", where=where, detail=detail))
