"""One Deployment on this machine, from what is wanted to processes behind a stable port.

The state machine is `spanyard_core.resources.rollout`; this asks it what to do, does it, and tells
status and events. `want` gives a newer wish at any time; `run` goes on until `stop`.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import SpanyardError
from spanyard_core.resources import rollout
from spanyard_core.resources.deployments import begin, interrupted, limited, marked, revision_hash
from spanyard_core.resources.durations import seconds
from spanyard_core.resources.kinds import (
    Build,
    CollectorStatus,
    Deployment,
    DeploymentStatus,
    Failure,
    Revision,
    RevisionState,
)
from spanyard_core.resources.reasons import REASONS
from spanyard_core.resources.rollout import GivenUp, Step, Wish
from spanyard_core.storage import Storage
from spanyard_local.podapi import PodHost
from spanyard_local.servers.environment import Keys
from spanyard_local.servers.group import Group
from spanyard_local.servers.kept import Kept, KeptRevision
from spanyard_local.servers.ports import Target
from spanyard_local.servers.proxy import HOST, Proxy
from spanyard_local.servers.replica import World
from spanyard_local.servers.wishes import Keyring, Wanted, plan, wanted

COLLECTOR = CollectorStatus(
    mode="shim",
    guarantee="every line is stored, up to the last before the server ends; a killed `up` loses none",
)
NO_KEYS: Keys = {}


class ServerRunner:
    """See the module. One per Deployment object (a uid, not a name)."""

    def __init__(
        self,
        *,
        storage: Storage,
        pods: PodHost,
        clock: Clock,
        rng: random.Random,
        changed: Callable[[DeploymentStatus], Awaitable[None]],
        event: Callable[[str, str, str], None],
        secrets: Keys = NO_KEYS,
        config_maps: Keys | None = None,
        environment: Mapping[str, str] | None = None,
        state_file: Path | None = None,
        tries: int = 0,
        seams: Mapping[str, Any] | None = None,
    ) -> None:
        """`changed` gets every new status, `event` (type, reason, message) what happens.

        `config_maps` are the `secrets` unless given: on a laptop the same files serve both.
        `environment` is the shell's, ours by default. `state_file` keeps what served over the end
        of `up`, so that a bad newer revision does not leave nobody serving; no secret is in it.
        `tries` failed starts end a rollout before its deadline, for those who wait for its end; 0:
        any number. `seams` replaces those of `replica.World` in tests.
        """
        self._storage = storage
        self._clock = clock
        self._changed = changed
        self._event = event
        self._keys = Keyring(secrets, config_maps if config_maps is not None else secrets)
        self._environment = environment
        self._tries = tries
        self._kept = Kept(state_file)
        self._wake = asyncio.Event()
        self._stopping = False
        self._wanted: tuple[Deployment, Sequence[Build]] | None = None
        self._told: DeploymentStatus | None = None
        self._revisions: list[Revision] = []
        self._replicas = 1
        self._serving: Group | None = None
        self._candidate: Group | None = None
        self._given_up: GivenUp | None = None
        self._leaving: dict[Group, asyncio.Task[None]] = {}
        self._proxy: Proxy | None = None
        self._last_port = 0
        self._wished_port = 0
        self._world = World(
            pods=pods,
            clock=clock,
            rng=rng,
            event=event,
            release=self._release,
            **(seams or {}),
        )

    def want(self, deployment: Deployment, builds: Sequence[Build]) -> None:
        """The newest wish: the object and all builds there are. Returns at once."""
        if self._wanted is None:
            # The first one brings what an earlier run told; from then on only we write it.
            self._told = deployment.status
            self._revisions = interrupted(deployment.status.revisions)
            self._last_port = _port_of(deployment.status.endpoint)
            self._replicas = deployment.status.replicas or 1
        self._wanted = deployment, builds
        self._wake.set()

    async def stop(self) -> None:
        """Let `run` end: requests are finished, processes end, all they wrote is stored."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until `stop`. Cancelled, it kills; raises only for mistakes of ours."""
        try:
            while not self._stopping:
                self._wake.clear()
                wait = None
                if self._wanted is not None:
                    wait = await self._reconcile(*self._wanted)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
            for group in (self._candidate, self._serving):
                if group is not None:
                    self._retire(group)
            await self._all_left()
        finally:
            await self._end()

    async def _end(self) -> None:
        for task in self._leaving.values():
            task.cancel()
        for group in (self._candidate, self._serving):
            if group is not None and group not in self._leaving:
                task = asyncio.create_task(group.ended())
                await asyncio.sleep(0)
                task.cancel()
                self._leaving[group] = task
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        if self._proxy is not None:
            await self._proxy.close()

    async def _all_left(self) -> None:
        while self._leaving:
            await asyncio.wait(self._leaving.values())

    # --- one look ---------------------------------------------------------------------------

    async def _reconcile(self, deployment: Deployment, builds: Sequence[Build]) -> float | None:
        """Do what there is to do now; returns the seconds until it must be looked at again."""
        spec = deployment.spec
        if spec.replicas is not None:
            self._replicas = spec.replicas
        now = wanted(deployment, builds, self._keys, replicas=self._replicas, tries=self._tries)
        wish = now.wish
        await self._revive(deployment, wish)
        for group in (self._candidate, self._serving):
            if group is not None:
                group.check()
                group.set_grace(seconds(spec.termination_grace_period))
        while step := self._step(wish):
            self._do(step, deployment, now)
        self._route(wish)
        await self._tell(deployment, wish)
        return rollout.next_look(wish, _state(self._candidate), self._clock.monotonic())

    def _step(self, wish: Wish) -> Step | None:
        return rollout.decide(
            wish,
            _state(self._serving),
            _state(self._candidate),
            self._given_up,
            self._clock.monotonic(),
        )

    def _do(self, step: Step, deployment: Deployment, now: Wanted) -> None:
        match step:
            case rollout.Start():
                assert now.revision is not None
                self._start(deployment, now.revision, now.values)
            case rollout.Promote():
                self._promote(now.wish)
            case rollout.Scale(which, replicas):
                group = self._serving if which == "serving" else self._candidate
                assert group is not None
                group.scale(replicas)
            case rollout.Stop("serving"):
                self._take_serving(now.wish)
            case rollout.Stop():
                self._take_candidate("Replaced")
            case rollout.GiveUp(failure):
                self._give_up(now.wish, failure)

    def _start(self, deployment: Deployment, what: KeptRevision, values: Mapping[str, str]) -> None:
        revision, self._revisions = begin(self._revisions, what.content, now=_now(self._clock))
        self._given_up = None
        self._candidate = self._group(deployment, revision, what, values)
        self._candidate.scale(self._replicas)
        name = f"revision {revision.number}"
        if self._serving is not None:
            serving = f"revision {self._serving.number}"
            self._say("RollingOut", REASONS["RollingOut"].told(name=name, serving=serving))
        else:
            self._say("Starting", REASONS["Starting"].told(name=name))

    def _group(
        self,
        deployment: Deployment,
        revision: Revision,
        what: KeptRevision,
        values: Mapping[str, str],
    ) -> Group:
        self._kept.remember(revision.hash, what)
        return Group(
            revision.number,
            revision.hash,
            plan(
                deployment,
                revision.number,
                what,
                values,
                storage=self._storage,
                environment=self._environment,
            ),
            self._world,
            changed=self._wake.set,
            grace=seconds(deployment.spec.termination_grace_period),
        )

    def _promote(self, wish: Wish) -> None:
        assert self._candidate is not None
        old, self._serving, self._candidate = self._serving, self._candidate, None
        self._mark(self._serving.number, "Serving")
        self._route(wish)  # first the new, then the end of the old: no request finds nobody
        self._kept.serves(self._serving.hash)
        name = f"revision {self._serving.number}"
        if old is not None:
            serving = f"revision {old.number}"
            self._retire(old)
            self._say(
                "RevisionReplaced", REASONS["RevisionReplaced"].told(name=name, serving=serving)
            )
        else:
            self._say("Serving", REASONS["Serving"].told(name=name))

    def _give_up(self, wish: Wish, failure: Failure) -> None:
        group = self._take_candidate("Failed", failure.reason)
        self._given_up = GivenUp(wish.hash, wish.generation, failure)
        if self._serving is not None:
            told = REASONS["RevisionRefused"].told(
                name=f"revision {group.number}",
                serving=f"revision {self._serving.number}",
                detail=failure.message,
            )
            self._say("RevisionRefused", told)
        else:
            self._say(failure.reason, f"revision {group.number}: {failure.message}")

    def _take_candidate(self, state: RevisionState, reason: str = "") -> Group:
        assert self._candidate is not None
        group, self._candidate = self._candidate, None
        self._mark(group.number, state, reason)
        self._retire(group)
        return group

    def _take_serving(self, wish: Wish) -> None:
        assert self._serving is not None
        group, self._serving = self._serving, None
        self._mark(group.number, "Replaced")
        self._route(wish)
        self._retire(group)

    def _mark(self, number: int, state: RevisionState, reason: str = "") -> None:
        assert self._wanted is not None
        limit = self._wanted[0].spec.revision_history_limit
        made = marked(self._revisions, number, state, reason, now=_now(self._clock))
        self._revisions = limited(made, limit)

    def _retire(self, group: Group) -> None:
        group.leave()
        task = asyncio.create_task(group.ended(), name=f"end of revision {group.number}")
        self._leaving[group] = task
        task.add_done_callback(lambda _: self._leaving.pop(group, None))

    async def _revive(self, deployment: Deployment, wish: Wish) -> None:
        """At the first look: start what served before `up` ended, when something newer is wanted.

        Else a newer revision that turns out to be bad would leave nobody serving.
        """
        kept = self._kept.take_serving()
        if kept is None or wish.suspend or wish.replicas == 0:
            return
        hash_ = revision_hash(kept.content)
        revision = next(
            (r for r in self._revisions if r.hash == hash_ and r.state == "Serving"), None
        )
        if revision is None or hash_ == wish.hash:
            return
        try:
            values = self._keys.values_of(kept)
        except SpanyardError:
            return  # what it needs is gone; the newer wish is all there is
        self._serving = self._group(deployment, revision, kept, values)
        self._serving.scale(self._replicas)

    # --- what is seen from outside ----------------------------------------------------------

    def _route(self, wish: Wish) -> None:
        if self._proxy is not None:
            targets = self._serving.targets if self._serving is not None else []
            self._proxy.route(targets, self._why_not(wish))

    def _why_not(self, wish: Wish) -> str:
        """What a client hears while no replica is ready."""
        if wish.suspend:
            return "it is suspended"
        if not wish.replicas:
            return "it is scaled to 0"
        if self._serving is not None:
            failure = self._serving.state().failure
        elif self._given_up is not None and rollout.is_given_up(wish, self._given_up):
            failure = self._given_up.failure
        else:
            failure = self._candidate.state().failure if self._candidate else wish.failure
        return failure.message if failure else "it starts"

    async def _endpoint(self, deployment: Deployment) -> str:
        wished = deployment.spec.port
        if self._proxy is None and (self._serving or self._candidate):
            # The port of the last run comes first, so that URLs stay; the one in the spec, if it is
            # another one than then.
            ports = [self._last_port, wished]
            if self._kept.port not in {0, wished}:
                ports.reverse()
            self._proxy = Proxy(deployment.metadata.name)
            await self._proxy.open(*filter(None, ports))
        elif self._proxy is not None and wished != self._wished_port:
            await self._proxy.move(wished)
        self._wished_port = wished
        return f"http://{HOST}:{self._proxy.port}" if self._proxy else ""

    async def _release(self, target: Target, limit: float) -> None:
        if self._proxy is not None:
            if self._serving is not None:
                self._proxy.route(self._serving.targets)
            await self._proxy.release(target, limit)

    async def _tell(self, deployment: Deployment, wish: Wish) -> None:
        before = self._proxy
        endpoint = await self._endpoint(deployment)
        if before is not self._proxy:
            self._route(wish)
        shown = deployment
        if self._told is not None:
            shown = _with_status(deployment, self._told)
        status = rollout.describe(
            shown,
            wish,
            _state(self._serving),
            _state(self._candidate),
            self._given_up,
            revisions=self._revisions,
            endpoint=endpoint,
            collector=COLLECTOR,
            now=_now(self._clock),
        )
        if status != self._told:
            self._told = status
            await self._changed(status)

    def _say(self, reason: str, message: str) -> None:
        self._event(REASONS[reason].event, reason, message)


def _now(clock: Clock) -> str:
    """Now, as Kubernetes writes times."""
    return rfc3339(clock.time_ns())[: len("2026-11-21T14:45:00")] + "Z"


def _state(group: Group | None) -> rollout.Group | None:
    return group.state() if group is not None else None


def _with_status(deployment: Deployment, status: DeploymentStatus) -> Deployment:
    return msgspec.structs.replace(deployment, status=status)


def _port_of(endpoint: str) -> int:
    try:
        return urlsplit(endpoint).port or 0
    except ValueError:
        return 0
