"""`spanyard demo`: the whole chain on this machine, on real input.

An agent server prints, writes span files and sends OTLP; the collector tails, spools and stores
objects in a folder; the ingester loads them into ClickHouse; the gateway answers. Each is the
component of the cluster. This process only starts them, asks the agent questions, and looks.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from spanyard_core.clock import SystemClock
from spanyard_core.errors import SettingError, SpanyardError
from spanyard_core.serve import Address
from spanyard_gateway.access import is_local_host
from spanyard_local.child import Child
from spanyard_local.crilog import CriLog
from spanyard_local.guardian import Guardian, guarded
from spanyard_local.layout import Layout, last_words
from spanyard_local.processes import Supervised
from spanyard_local.tally import Row, Run, compare, emitted_counts, stored_counts
from spanyard_local.terminal import Terminal
from spanyard_local.traffic import Traffic
from spanyard_local.verify import print_proof, verdict

PROJECT = "local.support"
NAMESPACE, DEPLOYMENT, POD, CONTAINER = "local", "support-agent", "support-agent-0", "server"
START_S = 60.0
DRAIN_S = 60.0
BURST_LINES = 5_000


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The command line's."""

    data: Path
    once: bool
    requests: int
    rate: float
    """Questions per second."""
    kills: int
    """How often something is killed on the way."""
    host: str
    port: int
    seed: int
    output: str


class Demo:
    """One run."""

    def __init__(self, options: DemoOptions, terminal: Terminal) -> None:
        self.options = options
        self.layout = Layout(options.data.resolve())
        self.terminal = terminal
        self.example = _example()
        self.pod_uid = ""
        self.gateway = ""
        self.agent_url = ""
        self._rng = random.Random(options.seed)
        self._report = self.layout.root / "emitted.json"
        self._log: CriLog | None = None
        self._guardian: Guardian | None = None
        self._lenient = False
        self._run_of_agent = Run(0, 0)

    def run(self) -> int:
        """Run to the end; returns the exit code of the proof."""
        if not is_local_host(Address(self.options.host, 0).url.removeprefix("http://")):
            raise SettingError(
                f"host: {self.options.host!r} is not an address of this machine alone, and there is "
                "no authentication yet; use 127.0.0.1, ::1 or localhost"
            )
        with (
            self.layout.only_one(self._say) as hold,
            guarded(held=[hold.descriptor]) as self._guardian,
        ):
            self._lenient = hold.killed or self.options.kills > 0
            self._run_of_agent = Run(self.layout.next_restart(CONTAINER), SystemClock().time_ns())
            self.pod_uid = self.layout.pod_uid()
            self._report.unlink(missing_ok=True)
            return asyncio.run(self._main())

    async def _main(self) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with aiohttp.ClientSession() as session:
            return await self._run(session, stop)

    async def _run(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> int:
        ports = _free_ports(4)
        wanted = self.options.port
        port = wanted if wanted and _is_free(self.options.host, wanted) else ports[3]
        self.gateway = Address(self.options.host, port).url
        server = Supervised("server", lambda: self._start_server(port))
        collector = Supervised("collector", lambda: self._start_collector(ports[0], ports[1]))
        self._say("starting ClickHouse, ingester, gateway, collector and the support agent …")
        async with _ended([server]):
            await server.start()
            await self._until_up(session, server)
            before = stored_counts(await self._proof(session), CONTAINER, self._run_of_agent)
            async with _ended([collector]):
                await collector.start()
                agent = await self._start_agent(ports[2], ports[0])
                try:
                    traffic = Traffic(session, f"http://127.0.0.1:{ports[2]}", self.options.seed)
                    self.agent_url = f"http://127.0.0.1:{ports[2]}"
                    if not await traffic.healthy(START_S):
                        raise SpanyardError(
                            "the support agent did not come up; its output is in "
                            f"{self.layout.pods}"
                        )
                    self._hello(port)
                    await self._traffic(session, traffic, [server, collector], stop)
                finally:
                    self._say("ending the agent …")
                    await agent.stop(grace=20)
                self._say("draining the collector …")
                status = await collector.stop(grace=40)
                if status not in {0, -signal.SIGTERM}:
                    self._say(f"the collector ended with {status}: something is still in its spool")
            proof = await self._loaded(session)
            rows = compare(
                emitted_counts(self._read_report(), self._lines()),
                before,
                stored_counts(proof, CONTAINER, self._run_of_agent),
                lenient_otlp=self._lenient,
            )
        return self._tell(proof, rows)

    # --- the parts -------------------------------------------------------------------------

    async def _start_server(self, port: int) -> Child:
        command = [sys.executable, "-m", "spanyard_local", "serve", "--data", str(self.layout.root)]
        command += ["--host", self.options.host, "--port", str(port)]
        return await Child.start(
            "server",
            command,
            environment=_environment(),
            output=self.layout.server_log,
            guardian=self._guardian,
        )

    async def _start_collector(self, otlp_port: int, port: int) -> Child:
        environment = {
            **_environment(),
            "SPANYARD_STORAGE": self.layout.storage_url,
            "SPANYARD_GATEWAY": self.gateway,
            "SPANYARD_PROJECT": PROJECT,
            "SPANYARD_DEPLOYMENT": DEPLOYMENT,
            "SPANYARD_POD": POD,
            "SPANYARD_POD_UID": self.pod_uid,
            "SPANYARD_LOGS": str(self.layout.pods),
            "SPANYARD_SPANS_DIR": str(self.layout.spans),
            "SPANYARD_SPOOL": str(self.layout.spool),
            "SPANYARD_FLUSH_INTERVAL": "1s",
            "SPANYARD_OTLP_PORT": str(otlp_port),
            "SPANYARD_PORT": str(port),
        }
        return await Child.start(
            "collector",
            [sys.executable, "-m", "spanyard_sidecar"],
            environment=environment,
            output=self.layout.root / "collector.log",
            guardian=self._guardian,
        )

    async def _start_agent(self, port: int, otlp_port: int) -> Child:
        log = self._log = CriLog(
            self.layout.pods,
            namespace=NAMESPACE,
            pod=POD,
            uid=self.pod_uid,
            container=CONTAINER,
            restart=self._run_of_agent.restart,
            clock=SystemClock(),
        )
        environment = {
            **_environment(),
            "PYTHONUNBUFFERED": "1",
            "PORT": str(port),
            "SPANYARD_SPANS_DIR": str(self.layout.spans),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": DEPLOYMENT,
            "SUPPORT_AGENT_EMITTED": str(self._report),
            "SUPPORT_AGENT_SEED": str(self.options.seed),
        }
        return await Child.start(
            "support agent",
            [sys.executable, "-m", "support_agent"],
            environment=environment,
            directory=self.example,
            log=log,
            guardian=self._guardian,
        )

    # --- what happens ----------------------------------------------------------------------

    async def _until_up(self, session: aiohttp.ClientSession, server: Supervised) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_S
        while loop.time() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{self.gateway}/readyz") as response:
                    if response.status == 200:
                        return
            if server.deaths > 2:
                break
            await asyncio.sleep(0.1)
        raise SpanyardError(f"the server did not come up. {last_words(self.layout.server_log)}")

    async def _traffic(
        self,
        session: aiohttp.ClientSession,
        traffic: Traffic,
        victims: list[Supervised],
        stop: asyncio.Event,
    ) -> None:
        every = 1 / self.options.rate
        kill_at = (
            {
                self.options.requests * (k + 1) // (self.options.kills + 1)
                for k in range(self.options.kills)
            }
            if self.options.kills
            else set[int]()
        )
        asking: set[asyncio.Task[None]] = set()
        watching = asyncio.create_task(self._watch(session, traffic), name="live counts")
        try:
            while not stop.is_set() and not (
                self.options.once and traffic.asked >= self.options.requests
            ):
                if traffic.asked % 50 == 20:
                    asking.add(asyncio.create_task(traffic.burst(BURST_LINES)))
                asking.add(asyncio.create_task(traffic.ask()))
                asking = {task for task in asking if not task.done()}
                if traffic.asked in kill_at:
                    self._kill_one(victims)
                if len(asking) >= 16:  # the agent is slower than the rate: wait for it
                    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await stop.wait()
            if asking:
                await asyncio.wait(asking, timeout=30)
        finally:
            for task in (*asking, watching):
                task.cancel()
            await asyncio.gather(*asking, watching, return_exceptions=True)
            self.terminal.end_status()

    def _kill_one(self, victims: list[Supervised]) -> None:
        victim = self._rng.choice(victims)
        if victim.running:
            self._say(f"kill -9 the {victim.name}")
            victim.kill()

    async def _watch(self, session: aiohttp.ClientSession, traffic: Traffic) -> None:
        while True:
            await asyncio.sleep(1 if self.terminal.live else 5)
            try:
                totals = stored_counts(await self._proof(session), CONTAINER)
            except (aiohttp.ClientError, TimeoutError, SpanyardError):
                continue  # killed just now; the next second it is back
            by_signal: dict[str, int] = {}
            for (_, signal_name), n in totals.items():
                by_signal[signal_name] = by_signal.get(signal_name, 0) + n
            stored = ", ".join(f"{n:,} {name}" for name, n in by_signal.items())
            if self.options.output == "table":
                self.terminal.status(
                    f"{traffic.asked:,} questions asked · stored: {stored or 'nothing yet'}"
                )

    async def _loaded(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        """The proof once nothing is pending any more, or after DRAIN_S as it is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        proof: dict[str, Any] | None = None
        while loop.time() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, SpanyardError):
                proof = await self._proof(session)
                totals = proof["totals"]
                if not totals["pending"] and not totals["missing"] and not totals["open"]:
                    return proof
            await asyncio.sleep(0.2)
        if proof is None:
            raise SpanyardError(f"the gateway at {self.gateway} does not answer any more")
        return proof

    async def _proof(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=10)
        async with session.get(f"{self.gateway}/proof", timeout=timeout) as response:
            if response.status != 200:
                raise SpanyardError(f"the proof is not to be had: {response.status}")
            proof: dict[str, Any] = await response.json()
            return proof

    def _lines(self) -> int:
        return self._log.lines if self._log is not None else 0

    def _read_report(self) -> dict[str, Any]:
        try:
            report: dict[str, Any] = json.loads(self._report.read_text())
        except (OSError, ValueError) as error:
            raise SpanyardError(
                "the support agent did not say what it emitted; see its output below "
                f"{self.layout.pods}"
            ) from error
        return report

    # --- what is said ----------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.options.output == "table":
            self.terminal.print(self.terminal.style(text, "dim"))

    def _hello(self, port: int) -> None:
        if self.options.output != "table":
            return
        bold = self.terminal.style
        if port != self.options.port != 0:
            self._say(f"port {self.options.port} is taken; the gateway listens on {port}")
        self.terminal.print(f"{bold('gateway', 'bold')}  {self.gateway}   (API: /openapi.json)")
        self.terminal.print(f"{bold('agent', 'bold')}    {self.agent_url}   POST /ask")
        self.terminal.print(f"{bold('data', 'bold')}     {_short(self.layout.root)}")
        if self.options.once:
            return
        self.terminal.print()
        self.terminal.print("In another terminal, try")
        for line in (
            f"curl '{self.gateway}/projects/{PROJECT}/traces?status=error&limit=3'",
            f"curl '{self.gateway}/projects/{PROJECT}/logs?level=error&from=5m'",
            f"spanyard verify --server {self.gateway}",
        ):
            self.terminal.print(f"  {line}")
        self.terminal.print("Ctrl-C ends it in order: everything is stored and checked.")
        self.terminal.print()

    def _tell(self, proof: dict[str, Any], rows: list[Row]) -> int:
        wrong = [row for row in rows if not row.right]
        code = verdict(proof) or int(bool(wrong))
        if self.options.output == "json":
            self.terminal.print(
                json.dumps(
                    {
                        "ok": code == 0,
                        "counts": [
                            {
                                "way": row.way,
                                "signal": row.signal,
                                "emitted": row.emitted,
                                "stored": row.stored,
                            }
                            for row in rows
                        ],
                        "proof": proof["totals"],
                    },
                    indent=2,
                )
            )
            return code
        self.terminal.print()
        self.terminal.table(
            ("BY", "SIGNAL", "EMITTED", "STORED", ""),
            [
                (row.way, row.signal, row.emitted, row.stored, "" if row.right else "DIFFERENT")
                for row in rows
            ],
        )
        self.terminal.print()
        print_proof(self.terminal, proof, whole=False)
        if wrong:
            self.terminal.print(
                self.terminal.style(
                    "What is stored is not what the agent emitted: see DIFFERENT above.",
                    "red",
                    "bold",
                )
            )
        return code


@contextlib.asynccontextmanager
async def _ended(processes: list[Supervised]) -> AsyncIterator[None]:
    """End these when the block is left, however it is left."""
    try:
        yield
    finally:
        for process in processes:
            await process.stop(grace=30)


def _environment() -> dict[str, str]:
    """Ours, less the settings that would steer the parts from outside."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SPANYARD_", "OTEL_"))} | {
        k: v for k, v in os.environ.items() if k.startswith("SPANYARD_FAULT")
    }


def _example() -> Path:
    for parent in Path(__file__).resolve().parents:
        if (parent / "examples/support-agent/support_agent").is_dir():
            return parent / "examples/support-agent"
    raise SpanyardError(
        "examples/support-agent is not here: run the demo from a checkout of Spanyard"
    )


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return f"./{path.relative_to(Path.cwd())}"
    return str(path)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
