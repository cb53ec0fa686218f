"""One step of a build at a time: started under a shim, ended in time, its status told."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.resources import builds as life
from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import Build, BuildStatus, Failure, resource_id
from spanyard_core.resources.reasons import explain
from spanyard_local.builds.endings import failure_of
from spanyard_local.podapi import Pod
from spanyard_local.shimmed import (
    CommandNotFoundError,
    ExitStatus,
    NoSpaceError,
    Shimmed,
    ShimSpec,
)

log = logging.getLogger("spanyard.local")

T = TypeVar("T")
GRACE_S = 10.0
"""For a step between SIGTERM and SIGKILL: cancelled, out of time, or `up` ends."""


class FailedError(Exception):
    """The build has failed, and this is why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Steps:
    """The steps of one attempt; its time begins now."""

    def __init__(
        self,
        build: Build,
        status: BuildStatus,
        *,
        clock: Clock,
        changed: Callable[[BuildStatus], Awaitable[None]],
        cancel: asyncio.Event,
    ) -> None:
        self.status = status
        self.lost_lines = 0
        """Output that is in no log: the disk was full to the end."""
        self._build = build
        self._clock = clock
        self._changed = changed
        self._cancel = cancel
        self._deadline = clock.monotonic() + seconds(build.spec.timeout)

    async def run(
        self,
        pod: Pod,
        step: life.Step,
        command: Sequence[str],
        *,
        said: str,
        environment: Mapping[str, str],
        directory: Path,
        held: Sequence[int],
        memory: int | None = None,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[ExitStatus], Awaitable[None]] | None = None,
    ) -> None:
        """Run `command` as `step` to its end. `before` and `after` belong to the step: its status
        is told before the one, and has its end after the other. Raises FailedError."""
        it = pod.identity
        self.status = life.step_begun(self._build, self.status, step, now=self._now())
        await self._changed(self.status)
        exit_code: int | None = None
        try:
            if before is not None:
                await self.in_time(step, before())
            self._check_cancelled(step)
            spec = ShimSpec(
                command=command,
                environment=environment,
                directory=directory,
                log_root=pod.log_root,
                namespace=it.namespace,
                pod=it.pod,
                uid=it.uid,
                container=step,
                restart=0,
                status_file=pod.status_dir / f"{step}.0.json",
                grace=GRACE_S,
                memory_limit=memory,
                held=held,
            )
            end = await self._to_its_end(step, await self._started(spec, said))
            exit_code = end.exit_code
            if after is not None:
                await after(end)
            if not end.succeeded:
                raise FailedError(failure_of(self._build, step, said, end, pod=it.pod))
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

    async def in_time(self, step: str, work: Awaitable[T]) -> T:
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
        where = {
            "step": step,
            "pod": f"{self._build.metadata.name}-{self.status.attempt}",
            "container": step,
        }
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
            log.warning("build %s, step %s: %s", resource_id(self._build), step, note)

    def _left(self) -> float:
        return max(0.0, self._deadline - self._clock.monotonic())

    def _now(self) -> str:
        return rfc3339(self._clock.time_ns())
