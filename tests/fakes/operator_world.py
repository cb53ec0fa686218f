"""An operator in a small world: an API server in memory, a bucket in a folder, a clock moved by hand,
and a kubelet that plays what a script says about each pod."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanyard_core.clock import rfc3339
from spanyard_core.kube import BUILDS, DEPLOYMENTS, EVENTS, NAMESPACES, PODS, PROJECTS, Api, Object
from spanyard_core.resources.kinds import Build, BuildStatus
from spanyard_core.resources.schema import decode
from spanyard_core.settings import load_settings
from spanyard_core.storage import Storage
from spanyard_core.storage.directory import DirectoryStorage
from spanyard_operator.builds.reconcile import reconcile_build
from spanyard_operator.builds.start import Attempts
from spanyard_operator.cache import KEPT, Cache
from spanyard_operator.context import Context
from spanyard_operator.events import Events
from spanyard_operator.projects import Projects
from spanyard_operator.settings import OperatorSettings
from spanyard_operator.watches import Watches
from spanyard_operator.workqueue import Again, Key, WorkQueue
from tests.fakes.handclock import HandClock
from tests.fakes.kube import FakeKube

NAMESPACE = "team"
COLLECTOR = "spanyard-collector"
IMAGE = "registry.example/builder:1"


@dataclass
class Play:
    """What a pod does. Steps by container name → exit code; a step that is left out goes on."""

    exits: dict[str, int] = field(default_factory=dict)
    took: float = 2.0
    """Seconds of each step."""
    messages: dict[str, str] = field(default_factory=dict)
    """Termination messages."""
    drains: float = 3.0
    """Seconds that the collector needs after everything else."""


WELL = Play(
    exits={"spanyard-fetch": 0, "install": 0, "build": 0, "spanyard-publish": 0},
)


class World:
    """All parts; `operator()` begins a new operator, as after a kill."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        storage: Storage | None = None,
        namespace: str = NAMESPACE,
    ) -> None:
        self.namespace = namespace
        self.clock = HandClock()
        self.kube = FakeKube(self.clock, pods_linger=True)
        self.storage: Storage = storage or DirectoryStorage(folder / "bucket")
        self.rng = random.Random(seed)
        self.workers = 1
        self._compared = False
        self.kube.turns = self._turns
        self.plays: dict[str, Play] = {}
        """By pod name; others end well."""
        self.settings = load_settings(
            OperatorSettings,
            prog="test",
            description="",
            argv=[f"--storage=file://{folder}/bucket", "--gateway=http://gateway.example:8080"],
            environ={},
        )
        self._begun: dict[str, float] = {}
        self.started: list[str] = []
        """Names of pods in the order in which they were made."""
        self.kube.put(NAMESPACES, {"metadata": {"name": namespace}})
        self._seen = 0
        self.context: Context
        self.operator()

    def operator(self, **settings: Any) -> None:
        """A new operator, which knows what the API server knows."""
        if settings:
            import dataclasses

            self.settings = dataclasses.replace(self.settings, **settings)
        cache, queue = Cache(), WorkQueue(self.clock, random.Random(self.rng.random()))
        self.context = Context(
            kube=self.kube,
            cache=cache,
            storage=self.storage,
            settings=self.settings,
            clock=self.clock,
            events=Events(self.kube, self.clock, "operator-1"),
            queue=queue,
        )
        self.attempts = Attempts(self.context)
        self.projects = Projects(self.context, self.attempts)
        self.watches = Watches(cache, queue)
        self._seen = 0
        self._compared = False

    # --- time passes -------------------------------------------------------------------------

    async def reconcile(self, key: Key) -> Again | None:
        if key.kind == "Build":
            return await reconcile_build(self.context, self.attempts, key.namespace, key.name)
        if key.kind == "Project":
            return await self.projects.reconcile(key.namespace, key.name)
        return None

    def deliver(self) -> None:
        """What the API server has told meanwhile reaches the watches."""
        for api, event in self.kube._history[self._seen :]:
            if api in KEPT:
                self.watches.seen(api, event.type, event.object)
        self._seen = len(self.kube._history)

    async def settle(self, steps: int = 300) -> None:
        """Work on all that is ready now."""
        if not self._compared:
            self._seen = len(self.kube._history)
            await self.watches.compare(self.kube)
            self._compared = True
        left = steps * self.workers

        async def work() -> None:
            nonlocal left
            while left:
                self.deliver()
                left -= 1
                if not await self.context.queue.step(self.reconcile):
                    if self.context.queue.idle:
                        return
                    left += 1
                    await asyncio.sleep(0)

        await self._side_by_side(work)
        assert left, "the operator does not come to rest: a hot loop"

    async def _side_by_side(self, work: Callable[[], Awaitable[None]]) -> None:
        """A kill of one worker is a kill of all."""
        workers = [asyncio.ensure_future(work()) for _ in range(self.workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

    def _turns(self) -> int:
        """While a request is under way watches go on, and so do others."""
        if self._compared:
            self.deliver()
        return self.rng.randrange(4)

    async def run(self, seconds: float, tick: float = 1.0) -> None:
        """Let time pass, for the operator and for the kubelet."""
        passed = 0.0
        await self.settle()
        while passed < seconds:
            self.clock.advance(tick)
            passed += tick
            self.kubelet()
            await self.settle()

    async def until(self, what: str, true: Callable[[], bool], limit: float = 600.0) -> float:
        """Let time pass until something is so; returns how long that took."""
        passed = 0.0
        await self.settle()
        while not true():
            if passed >= limit:
                told = [(b.metadata.name, b.status.phase, b.status.message) for b in self.builds()]
                raise AssertionError(f"{what}: not after {limit:g} s; {told}")
            await self.run(1.0)
            passed += 1.0
        return passed

    # --- the kubelet -------------------------------------------------------------------------

    def kubelet(self) -> None:
        """Every pod goes on by what its play says."""
        for (api, _, name), pod in list(self.kube._objects.items()):
            if api != PODS:
                continue
            about = pod["metadata"]
            if about["uid"] not in self._begun:
                self._begun[about["uid"]] = self.clock.now
                self.started.append(name)
            status = played(pod, self.plays.get(name, WELL), self)
            if status is not None and status != pod.get("status"):
                self.kube.put(PODS, {**pod, "status": status})
            ended = (status or {}).get("phase") in {"Succeeded", "Failed"}
            if about.get("deletionTimestamp") and (ended or status is None):
                self.kube.finish_pod(name, about["namespace"])

    def begun(self, pod: Object) -> float:
        return self._begun[pod["metadata"]["uid"]]

    # --- what there is -----------------------------------------------------------------------

    def project(self, name: str = "support", **builds: Any) -> None:
        self.kube.put(
            PROJECTS,
            {
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"builds": builds} if builds else {},
                "status": {"observedGeneration": 0},
            },
        )

    def build(self, name: str = "support-1", project: str = "support", **spec: Any) -> None:
        made = {
            "project": project,
            "source": {"git": {"url": "https://git.example.com/x.git", "revision": "main"}},
            "builder": {"image": IMAGE},
            "install": "npm ci",
            "build": "npm run build",
            "output": "dist",
            "timeout": "30m",
            **spec,
        }
        self.kube.put(
            BUILDS,
            {
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": made,
                "status": {"observedGeneration": 0, "phase": "Queued"},
            },
        )

    def deployment(self, name: str, **spec: Any) -> None:
        self.kube.put(
            DEPLOYMENTS,
            {
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"project": "support", **spec},
                "status": {"observedGeneration": 0},
            },
        )

    def builds(self) -> list[Build]:
        found = [decode(one) for one in self.kube.all(BUILDS)]
        return [one for one in found if isinstance(one, Build)]

    def status(self, name: str = "support-1") -> BuildStatus:
        return next(b.status for b in self.builds() if b.metadata.name == name)

    def phases(self) -> dict[str, str]:
        return {b.metadata.name: b.status.phase for b in self.builds()}

    @property
    def made(self) -> list[str]:
        """Names of all pods that were ever made, in order."""
        return [
            event.object["metadata"]["name"]
            for api, event in self.kube._history
            if api == PODS and event.type == "ADDED"
        ]

    def pods(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.kube.all(PODS)]

    def told(self, about: str = "") -> list[str]:
        """Reasons of Events, in order."""
        return [
            event["reason"]
            for event in sorted(
                self.kube.all(EVENTS), key=lambda e: int(e["metadata"]["resourceVersion"])
            )
            if not about or event["involvedObject"]["name"] == about
        ]

    def change(self, api: Api, name: str, **spec: Any) -> None:
        self.kube.change(api, name, self.namespace, {"spec": spec})


def played(pod: Object, play: Play, world: World) -> Object | None:
    """The pod's status now; None for one that no kubelet has."""
    spec, clock = pod["spec"], world.clock
    begin = world.begun(pod)
    passed = clock.now - begin

    def at(seconds: float) -> str:
        return rfc3339(clock.wall_ns - int((passed - seconds) * 1e9))[:19] + "Z"

    status: Object = {"phase": "Pending", "startTime": at(0), "conditions": []}
    told: list[Object] = []
    end = spec.get("activeDeadlineSeconds") is not None or pod["metadata"].get("deletionTimestamp")
    asked = _ended_at(pod, world, passed) if end else None
    time, over, failed = 0.0, False, False
    for container in [*spec["initContainers"][1:], *spec["containers"]]:
        name = container["name"]
        code = play.exits.get(name)
        finish = time + play.took
        state: Object = {"waiting": {"reason": "PodInitializing"}}
        if not over and passed >= time:
            state = {"running": {"startedAt": at(time)}}
            killed = asked is not None and passed >= asked and (code is None or finish > asked)
            if killed:
                state = _terminated(143, at(time), at(asked or 0.0), "")
                over = failed = True
                time = asked or 0.0
            elif code is not None and passed >= finish:
                message = play.messages.get(name, _message(name, pod))
                state = _terminated(code, at(time), at(finish), message)
                over = failed = code != 0
                time = finish
            else:
                over = True
                time = float("inf")
        told.append({"name": name, "state": state})
    done = time != float("inf")
    ended = done and passed >= time + play.drains
    collector: Object = {"running": {"startedAt": at(0)}}
    if ended:
        collector = _terminated(0, at(0), at(time + play.drains), "")
        status["phase"] = "Failed" if failed else "Succeeded"
    elif told[-1]["state"].get("running"):
        status["phase"] = "Running"
    status["initContainerStatuses"] = [{"name": COLLECTOR, "state": collector}, *told[:-1]]
    status["containerStatuses"] = told[-1:]
    if asked is not None and ended:
        status["reason"] = "DeadlineExceeded"
    return status


def _ended_at(pod: Object, world: World, passed: float) -> float:
    """When its end was first seen by the kubelet, from the pod's begin."""
    return world._begun.setdefault(f"end of {pod['metadata']['uid']}", passed)


def _terminated(code: int, started: str, finished: str, message: str) -> Object:
    end: Object = {"exitCode": code, "startedAt": started, "finishedAt": finished}
    end["reason"] = "Completed" if code == 0 else "Error"
    if message:
        end["message"] = message
    return {"terminated": end}


def _message(name: str, pod: Object) -> str:
    from spanyard_core.step_answers import StepAnswer, encoded

    if name == "spanyard-fetch":
        return encoded(StepAnswer(commit="c0ffee" * 6 + "beef")).decode()
    if name == "spanyard-publish":
        key = next(
            v["value"]
            for v in pod["spec"]["containers"][0]["env"]
            if v["name"] == "SPANYARD_ARTIFACT_KEY"
        )
        return encoded(StepAnswer(key=key, digest="sha256:" + "a" * 64, size=4711)).decode()
    return ""


@contextlib.contextmanager
def failing(kube: FakeKube, error: Exception, *verbs: str) -> Iterator[None]:
    """Requests with these verbs fail."""
    before = kube.before

    def fail(verb: str, api: Api, name: str) -> None:
        if verb in verbs:
            raise error

    kube.before = fail
    try:
        yield
    finally:
        kube.before = before
