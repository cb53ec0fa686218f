"""`spanyard demo`: the whole chain on this machine, on real input.

`spanyard up` builds and runs the support agent, which prints, writes span files and sends OTLP; its
collector spools and stores objects in a folder; the ingester loads them into ClickHouse; the gateway
answers. Each is the component of the cluster. This process only starts `up`, asks the agent
questions, kills `up` when told to, and compares what was emitted with what is stored.
"""

import asyncio
import contextlib
import json
import os
import random
import shlex
import signal
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from spanyard_core.errors import SettingError, SpanyardError
from spanyard_core.serve import Address
from spanyard_gateway.access import is_local_host
from spanyard_local.demo_up import DemoUp
from spanyard_local.guardian import guarded
from spanyard_local.layout import Layout
from spanyard_local.manifests import read_file
from spanyard_local.tally import Row, compare, emitted_counts, stored_counts
from spanyard_local.terminal import Terminal
from spanyard_local.traffic import Traffic
from spanyard_local.verify import print_proof, verdict

PROJECT = "local.support"
DEPLOYMENT, CONTAINER = "local.support-agent", "server"
START_S = 60.0
END_S = 60.0
"""What the guardian gives `up` when the demo is killed: servers have a grace of 30 s."""
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
    browser: bool
    """Open the page, where a person sits before it."""


class Demo:
    """One run."""

    def __init__(self, options: DemoOptions, terminal: Terminal) -> None:
        self.options = options
        self.layout = Layout(options.data.resolve())
        self.terminal = terminal
        self._example = _example()
        self._rng = random.Random(options.seed)
        self._reports = self.layout.root / "emitted"
        self._earlier: set[tuple[str, int]] = set()

    def run(self) -> int:
        """Run to the end; returns the exit code of the proof."""
        if not is_local_host(Address(self.options.host, 0).url.removeprefix("http://")):
            raise SettingError(
                f"host: {self.options.host!r} is not an address of this machine alone, and there is "
                "no authentication yet; use 127.0.0.1, ::1 or localhost"
            )
        self.layout.make()
        self._reports.mkdir(exist_ok=True)
        self._earlier = self._files()
        return asyncio.run(self._main())

    async def _main(self) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        with guarded(grace=END_S) as guardian:
            log = self.layout.root / "demo.log"
            log.write_bytes(b"")
            up = DemoUp(self._words(), DEPLOYMENT, guardian, log)
            async with aiohttp.ClientSession() as session:
                try:
                    await self._run(up, session, stop)
                finally:
                    await up.stop()
        return self._tell(up)

    def _words(self) -> list[str]:
        """Arguments of `up`: the example's own YAML, with a wish to be told what was emitted."""
        documents = []
        for document in read_file(self._example / "spanyard.yaml").documents:
            manifest: Any = json.loads(json.dumps(document.manifest))
            if manifest["kind"] == "Deployment":
                # `$$` is the process: each run of the agent writes a file of its own.
                place = f"{shlex.quote(str(self._reports))}/$$.json"
                told = f"SUPPORT_AGENT_EMITTED={place} SUPPORT_AGENT_SEED={self.options.seed}"
                manifest["spec"]["command"] = f"env {told} {manifest['spec']['command']}"
            documents.append(json.dumps(manifest, indent=1))
        file = self.layout.root / "demo.yaml"
        file.write_text("\n---\n".join(documents))
        return [
            *("-f", str(file), "--data", str(self.layout.root), "--no-watch", "--quiet"),
            *("--host", self.options.host, "--port", str(self.options.port)),
            *("--clickhouse-port", "0"),
        ]

    async def _run(self, up: DemoUp, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        self._say("starting ClickHouse, ingester, gateway, collector and the support agent …")
        await self._start(up, stop)
        if stop.is_set():
            return
        traffic = Traffic(session, up.endpoint, self.options.seed)
        if not await traffic.healthy(START_S):
            raise SpanyardError(f"the support agent does not answer at {up.endpoint}")
        self._hello(up)
        await self._traffic(up, session, traffic, stop)
        self._say("ending the agent; its collector stores what is left …")

    async def _start(self, up: DemoUp, stop: asyncio.Event) -> None:
        await up.start()
        stopped = asyncio.create_task(stop.wait(), name="stop")
        serving = asyncio.create_task(up.until(lambda: up.endpoint), name="start of the agent")
        try:
            await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            for task in (stopped, serving):
                task.cancel()
            await asyncio.gather(stopped, serving, return_exceptions=True)

    # --- what happens ----------------------------------------------------------------------

    async def _traffic(
        self, up: DemoUp, session: aiohttp.ClientSession, traffic: Traffic, stop: asyncio.Event
    ) -> None:
        every = 1 / self.options.rate
        parts = self.options.kills + 1
        kill_at = {self.options.requests * k // parts for k in range(1, parts)}
        asking: set[asyncio.Task[None]] = set()
        watching = asyncio.create_task(self._watch(up, session, traffic), name="live counts")
        try:
            while not stop.is_set() and not (
                self.options.once and traffic.asked >= self.options.requests
            ):
                if traffic.asked % 50 == 20:
                    asking.add(asyncio.create_task(traffic.burst(BURST_LINES)))
                asking.add(asyncio.create_task(traffic.ask()))
                asking = {task for task in asking if not task.done()}
                if traffic.asked in kill_at:
                    await self._kill(up, traffic, stop)
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

    async def _kill(self, up: DemoUp, traffic: Traffic, stop: asyncio.Event) -> None:
        """Everything at once: collector, ingester, gateway and ClickHouse are one process here."""
        self._say(f"kill -9 {up.pid}: collector, ingester, gateway and ClickHouse")
        await asyncio.sleep(self._rng.uniform(0, 0.5))
        await up.kill()
        self._say("starting again, going on with what is there …")
        await self._start(up, stop)
        traffic.move(up.endpoint)

    async def _watch(self, up: DemoUp, session: aiohttp.ClientSession, traffic: Traffic) -> None:
        timeout = aiohttp.ClientTimeout(total=10)
        while True:
            await asyncio.sleep(1 if self.terminal.live else 5)
            try:
                async with session.get(f"{up.gateway}/proof", timeout=timeout) as response:
                    response.raise_for_status()
                    totals = stored_counts(await response.json(), CONTAINER, up.pods)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                continue  # killed just now; soon it is back
            by_signal: dict[str, int] = {}
            for (_, signal_name), n in totals.items():
                by_signal[signal_name] = by_signal.get(signal_name, 0) + n
            stored = ", ".join(f"{n:,} {name}" for name, n in by_signal.items())
            if self.options.output == "table":
                self.terminal.status(
                    f"{traffic.asked:,} questions asked · stored: {stored or 'nothing yet'}"
                )

    def _files(self) -> set[tuple[str, int]]:
        return {(f.name, f.stat().st_mtime_ns) for f in self._reports.glob("*.json")}

    def _emitted(self) -> list[Mapping[str, Any]]:
        """What each run of the agent said at its end."""
        names = sorted(name for name, _ in self._files() - self._earlier)
        return [json.loads((self._reports / name).read_text()) for name in names]

    # --- what is said ----------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.options.output == "table":
            self.terminal.print(self.terminal.style(text, "dim"))

    def _hello(self, up: DemoUp) -> None:
        if self.options.output != "table":
            return
        bold = self.terminal.style
        if self.options.port and not up.gateway.endswith(f":{self.options.port}"):
            self._say(f"port {self.options.port} is taken; the gateway listens on {up.gateway}")
        self.terminal.print(f"{bold('page', 'bold')}     {up.gateway}   (API: /openapi.json)")
        self.terminal.print(f"{bold('agent', 'bold')}    {up.endpoint}   POST /ask")
        self.terminal.print(f"{bold('data', 'bold')}     {self.layout.short(self.layout.root)}")
        if self.options.once:
            return
        if self.options.browser and self.terminal.live and _has_display():
            webbrowser.open(up.gateway)
        self.terminal.print()
        self.terminal.print("In another terminal, try")
        for line in (
            f"curl '{up.gateway}/projects/{PROJECT}/traces?status=error&limit=3'",
            f"curl '{up.gateway}/projects/{PROJECT}/logs?level=error&from=5m'",
            f"spanyard verify --server {up.gateway}",
        ):
            self.terminal.print(f"  {line}")
        self.terminal.print("Ctrl-C ends it in order: everything is stored and checked.")
        self.terminal.print()

    def _rows(self, up: DemoUp, proof: Mapping[str, Any]) -> list[Row]:
        lines = sum(n for uid, n in up.lines.items() if uid in up.pods)
        return compare(
            emitted_counts(self._emitted(), lines),
            stored_counts(proof, CONTAINER, up.pods),
            lenient_otlp=self.options.kills > 0,
        )

    def _tell(self, up: DemoUp) -> int:
        if up.proof is None:
            raise SpanyardError(f"spanyard up ended without a proof; it said: {up.last_words()}")
        proof, rows = up.proof, self._rows(up, up.proof)
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
        if not rows:
            print_proof(self.terminal, proof, whole=False)
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


def _has_display() -> bool:
    """Whether a browser would have a window of its own; one in text would take the terminal."""
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in names)


def _example() -> Path:
    for parent in Path(__file__).resolve().parents:
        if (parent / "examples/support-agent/support_agent").is_dir():
            return parent / "examples/support-agent"
    raise SpanyardError(
        "examples/support-agent is not here: run the demo from a checkout of Spanyard"
    )
