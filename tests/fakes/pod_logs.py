"""A pod as the Kubernetes API shows it: status, late, and logs, in all the ways they are odd.

What was seen of the real kubelet is built in: only the file that is written now is given, times
are asked for in whole seconds, the status comes later than the logs, an answer that is followed
may go silent for ever at a rotation, and who asks for the log of a run that has ended meanwhile
gets the next one's.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.kube import Api, KubeError, KubeUnavailableError


@dataclass
class FakeRun:
    """One run of a container."""

    id: str
    started_ns: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    """Of the file that is written now."""
    written: list[str] = field(default_factory=list)
    """All that it ever said."""
    files: int = 0
    finished_ns: int | None = None
    removed: bool = False
    """The runtime has removed it, with its log."""


class FakePodLogs:
    """What of `Kube` a collector asks: the pod, and its logs."""

    def __init__(self, clock: Clock, *, lag: float = 0.8, seed: int = 0) -> None:
        self.clock = clock
        self.lag = lag
        self.rng = random.Random(seed)
        self.runs: dict[str, list[FakeRun]] = {}
        self.waiting: set[str] = set()
        self.deaf_at_rotation = False
        self.away = False
        self.break_after = 0.0
        """Chance that an answer breaks off after a piece."""
        self.silent: set[int] = set()
        self.deleting = False
        self.asked: list[dict[str, str]] = []
        self.pod_gone = False
        self._history: list[tuple[int, dict[str, Any]]] = []
        self._changed = asyncio.Condition()
        self._answers = 0
        self._last_ns = 0

    # -- what happens in the pod -----------------------------------------------------------------

    async def start(self, container: str) -> None:
        """The container's first run, or the next one."""
        runs = self.runs.setdefault(container, [])
        if runs and runs[-1].finished_ns is None:
            await self.stop(container)
        self.waiting.discard(container)
        runs.append(FakeRun(f"containerd://{container}-{len(runs)}", self._now()))
        await self._note()

    async def stop(self, container: str, *, backing_off: bool = False) -> None:
        """The run ends; `backing_off`: it waits to be started again."""
        self.runs[container][-1].finished_ns = self._now()
        if backing_off:
            self.waiting.add(container)
        await self._note()

    async def say(self, container: str, *texts: str) -> None:
        """Whole lines."""
        run = self.runs[container][-1]
        for text in texts:
            run.lines.append((self._now(), text))
            run.written.append(text)
        await self._note(status=False)

    async def rotate(self, container: str) -> None:
        """The kubelet begins a new file; the old one is not to be had any more."""
        run = self.runs[container][-1]
        run.lines, run.files = [], run.files + 1
        if self.deaf_at_rotation:
            self.silent.update(range(self._answers + 1))
        await self._note(status=False)

    def age(self, container: str) -> float:
        """Seconds since its newest run began."""
        return (self.clock.time_ns() - self.runs[container][-1].started_ns) / 1e9

    def _now(self) -> int:
        """Each one later than the last."""
        self._last_ns = max(self._last_ns + 1, self.clock.time_ns())
        return self._last_ns

    async def _note(self, *, status: bool = True) -> None:
        if status:
            self._history.append((self.clock.time_ns(), self._pod()))
        async with self._changed:
            self._changed.notify_all()

    def _pod(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": "app-1", "uid": "pod-uid"}
        if self.deleting:
            metadata["deletionTimestamp"] = rfc3339(self.clock.time_ns())
        statuses = [self._status_of(name, runs) for name, runs in self.runs.items()]
        return {"metadata": metadata, "status": {"containerStatuses": statuses}}

    def _status_of(self, name: str, runs: list[FakeRun]) -> dict[str, Any]:
        run = runs[-1]
        status: dict[str, Any] = {"name": name, "restartCount": len(runs) - 1, "lastState": {}}
        status["containerID"] = run.id
        if len(runs) > 1:
            status["lastState"] = {"terminated": _terminated(runs[-2])}
        if run.finished_ns is None:
            status["state"] = {"running": {"startedAt": _second(run.started_ns)}}
        elif name in self.waiting:
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["lastState"] = {"terminated": _terminated(run)}
        else:
            status["state"] = {"terminated": _terminated(run)}
        return status

    # -- what the API answers --------------------------------------------------------------------

    async def get(
        self, api: Api, name: str, namespace: str = "", *, subresource: str = ""
    ) -> dict[str, Any] | None:
        await asyncio.sleep(0.005)
        if self.away:
            raise KubeUnavailableError("the API server is away")
        if self.pod_gone:
            return None
        seen = self.clock.time_ns() - int(self.lag * 1e9)
        known = [pod for at, pod in self._history if at <= seen]
        return known[-1] if known else {"metadata": {"name": name, "uid": "pod-uid"}}

    @asynccontextmanager
    async def stream(
        self, path: str, query: dict[str, str] | None = None
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        query = dict(query or {})
        self.asked.append(query)
        await asyncio.sleep(0.005)
        if self.away:
            raise KubeUnavailableError("the API server is away")
        runs = self.runs.get(query["container"], [])
        back = 1
        if query.get("previous") and query["container"] not in self.waiting:
            back = 2  # while it waits for its next run, the newest one is previous, too
        if self.pod_gone:
            raise KubeError("pods app-1 not found", status=404)
        if len(runs) < back or runs[-back].removed:
            if len(runs) >= back:
                yield _one(f"unable to retrieve container logs for {runs[-back].id}".encode())
                return
            text = f'previous terminated container "{query["container"]}" in pod "app-1" not found'
            raise KubeError(text, status=400)
        if "tailLines" in query:
            lines = runs[-back].lines[-int(query["tailLines"]) :]
            text = b"".join(f"{_nano(ns)} {text}\n".encode() for ns, text in lines)
            yield _one(text[: int(query["limitBytes"])])
            return
        since = query.get("sinceTime", "")
        self._answers += 1
        answer = self._answer(runs[-back], since, follow="follow" in query, number=self._answers)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _answer(
        self, run: FakeRun, since: str, *, follow: bool, number: int
    ) -> AsyncGenerator[bytes, None]:
        file, at = run.lines, 0
        while True:
            if number in self.silent:
                await asyncio.Event().wait()
            if at == len(file) and file is not run.lines:
                file, at = run.lines, 0  # the old one was read to its end
            fresh = file[at:]
            at += len(fresh)
            data = b"".join(
                f"{_nano(ns)} {text}\n".encode() for ns, text in fresh if _nano(ns) >= since[:-1]
            )
            for piece in self._pieces(data):
                if self.away or self.rng.random() < self.break_after:
                    raise KubeUnavailableError("the connection broke")
                yield piece
            if file is not run.lines:
                continue
            if not follow or (run.finished_ns is not None and at == len(file)):
                return
            async with self._changed:
                if file is run.lines and at == len(file) and run.finished_ns is None:
                    await self._changed.wait()
            if self.away:
                raise KubeUnavailableError("the connection broke")

    def _pieces(self, data: bytes) -> list[bytes]:
        pieces = []
        while data:
            size = self.rng.choice((1, 20, 300, 70_000))
            pieces.append(data[:size])
            data = data[size:]
        return pieces


async def _one(piece: bytes) -> AsyncGenerator[bytes, None]:
    yield piece


def _nano(ns: int) -> str:
    """As the kubelet writes it: nine digits."""
    return f"{rfc3339(ns)[:19]}.{ns % 1_000_000_000:09d}Z"


def _second(ns: int) -> str:
    return f"{rfc3339(ns)[:19]}Z"


def _terminated(run: FakeRun) -> dict[str, Any]:
    return {
        "containerID": run.id,
        "startedAt": _second(run.started_ns),
        "finishedAt": _second(run.finished_ns or 0),
        "exitCode": 1,
    }
