"""`spanyard up`: builds, servers, collectors, ingester, gateway and ClickHouse, in one process.

This puts the parts together in the order in which they need each other, and takes them apart in the
opposite one: servers and builds end first, their collectors store what they wrote, the ingester
loads it, and only then the gateway goes. Everything it starts survives its sudden death in the way
that its module says; the next `up` goes on.
"""

import asyncio
import contextlib
import functools
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import msgspec

from spanyard_core.clock import SystemClock
from spanyard_core.errors import AddressTakenError, SettingError, SpanyardError
from spanyard_core.logs import setup_logs
from spanyard_core.memory import settle_later
from spanyard_core.resources.kinds import Build, Deployment, resource_id
from spanyard_core.retry import Backoff
from spanyard_core.serve import Address, serving
from spanyard_core.storage import Storage
from spanyard_core.tasks import run_root_tasks
from spanyard_gateway.access import is_local_host
from spanyard_gateway.front import USER, front_app, token_of
from spanyard_gateway.items import Proof
from spanyard_gateway.live.mount import LiveParts
from spanyard_local.builds.runner import BuildRunner
from spanyard_local.controller import Controller
from spanyard_local.controller_builds import Builds
from spanyard_local.controller_servers import Changed, Event, Make, Servers
from spanyard_local.layout import Hold, Layout
from spanyard_local.live import LocalLive
from spanyard_local.podapi import PodIdentity
from spanyard_local.pods import Pods
from spanyard_local.secret_files import SecretFiles, read_env
from spanyard_local.serve import LocalServer, local_server
from spanyard_local.servers.runner import ServerRunner
from spanyard_local.store import ResourceStore
from spanyard_local.terminal import Terminal
from spanyard_local.undisturbed import settled
from spanyard_local.up_goal import Goal
from spanyard_local.up_output import Output
from spanyard_local.up_trouble import Patient, Trouble
from spanyard_local.up_wanted import Wanted
from spanyard_local.verify import LOST, verdict
from spanyard_sidecar.build_parts import BuildParts

log = logging.getLogger("spanyard.local")

LOAD_S = 60.0
"""How long the end waits for what was stored to be queryable."""
END_S = 15.0
"""How long for the ends of writers; some may never come, of pods that an older version left."""
RECOVER_AGAIN_S = 5.0
ONCE_TRIES = 3
"""Failed starts of a server, with `--once`, that answer the question; else it is tried until
`progressDeadline`, ten minutes."""


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """The command line's."""

    paths: Sequence[Path] = ()
    files: Sequence[Path] = ()
    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    clickhouse_port: int = 8123
    once: bool = False
    keep_for: float = 0.0
    """Seconds to go on with `once`, when all is ready."""
    watch: bool = True
    save: bool = False
    quiet: bool = False
    output: str = "table"
    build_jobs: int = 2
    build_dir: Path | None = None
    keep_build_dirs: bool = False
    env_files: Sequence[Path] = ()


class Up:
    """One run."""

    def __init__(self, options: UpOptions, terminal: Terminal) -> None:
        self.options = options
        self.layout = Layout(options.data.resolve())
        self.output = Output(
            terminal, quiet=options.quiet, as_json=options.output == "json", gone=self._unread
        )
        self._clock = SystemClock()
        self._rng = random.SystemRandom()
        self._live = LocalLive()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unstored = False
        """Whether something is left for the next run."""
        self._starting: asyncio.Task[Any] | None = None
        """Who is cancelled when we are told to end while nothing runs yet."""
        self.code = 0

    def run(self) -> int:
        """Run to the end; returns the exit code. Raises SpanyardError."""
        if not is_local_host(Address(self.options.host, 0).url.removeprefix("http://")):
            raise SettingError(
                f"host: {self.options.host!r} is not an address of this machine alone, and there is "
                "no authentication yet; use 127.0.0.1, ::1 or localhost"
            )
        for file in self.options.env_files:
            read_env(file)  # what is wrong with it is said before anything is started
        try:
            wanted = Wanted(
                self.layout,
                self.options.paths,
                self.options.files,
                self.output,
                save=self.options.save,
            )
            with self.layout.only_one(self.output.say) as hold:
                wanted.tell()
                setup_logs("up", stream=cast(TextIO, Patient(self.layout.open_log())), json=True)
                logging.getLogger().addHandler(
                    Trouble(lambda text, bad: self.output.trouble(text, bad=bad))
                )
                self._run(hold, wanted)
        finally:
            written = self.output.end()
        if not written:
            # A paused terminal; the interpreter would wait for it. All else has ended.
            os._exit(self.code)
        return self.code

    def _run(self, hold: Hold, wanted: Wanted) -> None:
        try:
            asyncio.run(self._main(hold, wanted))
        except (SpanyardError, OSError):
            raise
        except Exception as error:
            log.exception("a part of `spanyard up` failed")
            raise SpanyardError(
                f"a part of `spanyard up` failed, by a mistake of ours ({error!r}); the trace is in "
                f"{self.layout.short(self.layout.up_log)}. Nothing is lost: start it again, it goes on"
            ) from error

    def _unread(self) -> None:
        """Nobody reads what we say (`| head`, a closed terminal): end in order, and say nothing."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)

    async def _main(self, hold: Hold, wanted: Wanted) -> None:
        loop = self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_end)
        store = ResourceStore(self.layout.resources, clock=self._clock)
        await store.open()
        await wanted.apply(store, again=True, dry_run=True)  # what is wrong is told at once
        self.output.know(store)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(settled)  # last of all: what clients asked for is whole
            server = await self._begun(stack, store)
            if server is None:
                return
            done, ending = asyncio.Event(), asyncio.Event()

            async def ingest() -> None:
                await server.ingester.run(ending)
                done.set()
                await asyncio.Event().wait()

            async def work() -> None:
                before = _by_signal(await server.proof())
                try:
                    await self._work(hold, store, server, wanted)
                    await self._tell_end(server, before)
                finally:
                    ending.set()
                await done.wait()

            await run_root_tasks({"ingester": ingest()}, until=work())

    async def _begun(
        self, stack: contextlib.AsyncExitStack, store: ResourceStore
    ) -> LocalServer | None:
        """What starts, or None when we are told to end first: it may wait for a disk for ever."""
        me = self._starting = asyncio.current_task()
        try:
            return await stack.enter_async_context(self._server(store))
        except asyncio.CancelledError:
            if me is None or not self._stop.is_set():
                raise
            me.uncancel()
            self.output.say("ended before anything was started")
            self.code = 1 if self.options.once else 0
            return None
        finally:
            self._starting = None

    def _told_to_end(self) -> None:
        if self._stop.is_set():
            self.output.say(
                "ending at once; nothing is lost: the next `spanyard up` goes on", "yellow"
            )
            # The shims see their pipes end, stop what they started and write out its last lines.
            self.output.end(0.5)
            os._exit(130)
        self._stop.set()
        if self._starting is not None:
            self._starting.cancel()

    # --- the parts -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _server(self, store: ResourceStore) -> AsyncIterator[LocalServer]:
        self.output.say("starting ClickHouse, ingester and gateway …")
        async with contextlib.AsyncExitStack() as stack:
            for port in dict.fromkeys((self.options.port, 0)):
                server = local_server(
                    self.layout,
                    host=self.options.host,
                    port=port,
                    resources=store,
                    live=LiveParts(self._live, self._live),
                )
                try:
                    found = await stack.enter_async_context(server)
                    break
                except AddressTakenError:
                    if port == 0:
                        raise
                    self.output.say(f"port {port} is taken; the gateway takes another one")
            yield found

    @contextlib.asynccontextmanager
    async def _front(self, server: LocalServer) -> AsyncIterator[Address]:
        async with contextlib.AsyncExitStack() as stack:
            for port in dict.fromkeys((self.options.clickhouse_port, 0)):
                app = front_app(server.database, token_of(self.layout.clickhouse_token))
                listening = serving(app, self.options.host, port, cancel_abandoned=True)
                try:
                    address = await stack.enter_async_context(listening)
                    break
                except AddressTakenError:
                    if port == 0:
                        raise
            yield address

    def _pods(self, hold: Hold, store: ResourceStore, server: LocalServer) -> Pods:
        return Pods(
            self.layout.runs,
            storage=functools.partial(storage_of, store, server.storage),
            hinter=server.hints,
            index=server.index,
            held=[hold.descriptor],
            clock=self._clock,
            viewer=self.output.lines,
            live=self._live,
        )

    def _controller(
        self, store: ResourceStore, server: LocalServer, pods: Pods, secrets: SecretFiles
    ) -> Controller:
        def unstored(build: Build) -> bool:
            return pods.unstored(build.metadata.namespace, build=build.metadata.name)

        runner = BuildRunner(
            storage=server.storage,
            pods=pods,
            build_root=self.options.build_dir,
            clock=self._clock,
            rng=self._rng,
            secrets=secrets,
            keep_folders=self.options.keep_build_dirs,
            never_copied=[self.layout.root, *(f.resolve() for f in self.options.env_files)],
        )
        builds = Builds(
            store,
            runner,
            server.storage,
            self._clock,
            at_once=self.options.build_jobs,
            unstored=unstored,
        )
        servers = Servers(store, self._maker(server, pods, secrets), self._clock, clean=self._clean)
        return Controller(store, builds, servers, self._clock)

    def _maker(self, server: LocalServer, pods: Pods, secrets: SecretFiles) -> Make:
        def make(deployment: Deployment, changed: Changed, event: Event) -> ServerRunner:
            return ServerRunner(
                storage=server.storage,
                pods=pods,
                clock=self._clock,
                rng=self._rng,
                changed=changed,
                event=event,
                secrets=secrets,
                config_maps=secrets,
                state_file=self.layout.served_by(deployment.metadata.uid),
                tries=ONCE_TRIES if self.options.once else 0,
            )

        return make

    def _clean(self, deployment: Deployment) -> None:
        file = self.layout.served_by(deployment.metadata.uid)
        with contextlib.suppress(OSError):  # values of variables may stand in it
            file.unlink()

    # --- the run ---------------------------------------------------------------------------

    async def _work(
        self, hold: Hold, store: ResourceStore, server: LocalServer, wanted: Wanted
    ) -> None:
        secrets = SecretFiles(wanted.folders, self.options.env_files)
        pods = self._pods(hold, store, server)
        controller = self._controller(store, server, pods, secrets)
        async with contextlib.AsyncExitStack() as stack:
            front = await stack.enter_async_context(self._front(server))
            self._hello(server, front)
            if hold.killed:
                self.output.say("the last run was killed; storing what it left …")
            waiting = await pods.recover()
            await controller.begin()
            goal = Goal(store)
            goal.expect(await wanted.apply(store, again=True))
            wanted.remember()
            watch = stack.enter_context(store.watching())
            tasks = {
                "controller": controller.run(),
                "recovery": self._recover(pods, store, waiting),
                "output": self.output.follow(store, watch),
                "memory": settle_later(self._clock),
            }
            if self.options.watch:
                tasks["watch over sources"] = wanted.watch(store, self._clock, goal.expect)
            try:
                await run_root_tasks(tasks, until=self._until_end(goal))
            finally:
                self.output.say("ending servers and builds …")
                ending = asyncio.create_task(controller.stop(), name="end of the controller")
                following = asyncio.create_task(self.output.follow(store, watch))
                try:
                    await ending
                finally:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            if pods.has_unstored:  # a collector that failed: once more, while storage is open
                await pods.recover()
            self._unstored = pods.has_unstored
            self.code = goal.code if self.options.once else 0

    async def _until_end(self, goal: Goal) -> None:
        if not self.options.once:
            await self._stop.wait()
            return
        reaching = asyncio.create_task(goal.reached(), name="goal")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({reaching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reaching.done():
                reaching.result()
                self.output.event("settled", ok=goal.code == 0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.options.keep_for if goal.code == 0 else 0):
                        await stopping
        finally:
            for task in (reaching, stopping):
                task.cancel()
            await asyncio.gather(reaching, stopping, return_exceptions=True)

    async def _recover(self, pods: Pods, store: ResourceStore, waiting: int) -> None:
        """Try again what could not be stored; for ever, as storage may come back."""
        backoff = Backoff(self._rng, first=RECOVER_AGAIN_S, most=60.0)
        while True:
            if waiting:
                log.warning("%d pods of earlier runs are not all stored yet", waiting)
            await self._clock.sleep(backoff.next())
            if pods.has_unstored:
                waiting = await pods.recover()
                for build in store.builds():
                    store.touch(build)

    # --- what is said ----------------------------------------------------------------------

    def _hello(self, server: LocalServer, front: Address) -> None:
        token = self.layout.short(self.layout.clickhouse_token)
        self.output.addresses(
            [
                ("gateway", server.address.url, "the page; API: /openapi.json"),
                ("clickhouse", front.url, f"user {USER}, password: cat {token}"),
                ("data", self.layout.short(self.layout.root), ""),
            ]
        )

    async def _tell_end(self, server: LocalServer, before: dict[str, int]) -> None:
        proof = await self._loaded(server)
        after = _by_signal(proof)
        self.output.stored({k: n - before.get(k, 0) for k, n in after.items()})
        if self._unstored:
            self.output.say(
                "not all of it is stored yet (up.log tells why); the next `spanyard up` goes on",
                "yellow",
            )
        told = msgspec.to_builtins(proof)
        self.output.verdict(told)
        if verdict(told) == LOST:
            self.code = 1
        self.output.event("end", ok=self.code == 0, exitCode=self.code, proof=proof.totals)

    async def _loaded(self, server: LocalServer) -> Proof:
        """The proof once all is loaded and every writer has ended, or after a while as it is."""
        began = self._clock.monotonic()
        while True:
            proof = await server.proof()
            waits = proof.totals["pending"] or proof.totals["missing"]
            # The ends of writers come in objects of their own, which no writer counts as pending.
            limit = LOAD_S if waits else END_S
            waits = waits or (proof.totals["open"] and not self._unstored)
            if not waits or self._clock.monotonic() > began + limit:
                return proof
            await self._clock.sleep(0.2)


def storage_of(store: ResourceStore, storage: Storage, pod: PodIdentity) -> Storage:
    """Where a pod's collector stores. Output of a build is also put beside the build's other
    objects, unless the build is gone: then they are gone too, or those of another by its name."""
    build = store.find("Build", f"{pod.namespace}.{pod.build}") if pod.build else None
    if build is None or build.metadata.uid != pod.resource_uid:
        return storage
    return BuildParts(storage, resource_id(build))


def _by_signal(proof: Proof) -> dict[str, int]:
    found: dict[str, int] = {}
    for writer in proof.writers:
        if writer.signal != "gaps":
            found[writer.signal] = found.get(writer.signal, 0) + writer.stored
    return found
