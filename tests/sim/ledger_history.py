"""Histories of the ledger alone: several ingesters that all believe they own the shard.

The promise: one log, in which every attempt is planned and ended at most once; an append that
returned is in it, and everybody who reads it folds the same state.
"""

import asyncio
import random
from collections.abc import Sequence

from spanyard_core.object_names import ledger_key
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Abandon,
    Commit,
    LoadedObject,
    Operation,
    Plan,
    decode_entry,
)
from tests.sim.bucket import Bucket, Weather
from tests.sim.chronicle import Chronicle
from tests.sim.clock import SimClock, WallClock
from tests.sim.faults import Kills
from tests.sim.process import Process


class LedgerHistory:
    """One seed."""

    def __init__(self, seed: int, chronicle: Chronicle) -> None:
        self.rng = random.Random(f"ledger {seed}")
        self.chronicle = chronicle
        self.kills = Kills(random.Random(0), chronicle, ())
        self.wall = WallClock()
        rng = self.rng
        self.weather = Weather(
            random.Random(f"weather {seed}"),
            not_done=rng.choice((0, 0.1)),
            answer_lost=rng.choice((0, 0.1, 0.3)),
            tried_twice=rng.choice((0, 0.1)),
            zombie=rng.choice((0, 0.1)),
            latency=0.05,
            slow=rng.choice((0, 0.1)),
        )
        self.bucket = Bucket(self.wall.time_ns, weather=self.weather, page=4, note=chronicle.note)
        self.returned: set[str] = set()
        self.next_attempt = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._host(name) for name in "abc"[: self.rng.randint(1, 3)]))
        self.weather.calm()
        await asyncio.sleep(120)  # the last zombies land
        self._check(await self._fold())

    async def _host(self, owner: str) -> None:
        for life in range(self.rng.randint(1, 4)):
            process = Process(f"{owner}{life}")
            task = process.start(self._program(process, owner))
            await asyncio.sleep(self.rng.uniform(0.1, 20))
            if task.done():
                task.result()
            self.chronicle.note(f"{process.name} is killed")
            process.kill()
            await asyncio.sleep(self.rng.uniform(0, 2))

    async def _program(self, process: Process, owner: str) -> None:
        ledger = Ledger(
            self.bucket.view(process), SimClock(self.wall, process), self.rng, owner=owner
        )
        while True:
            try:
                await ledger.load()
                break
            except Exception as error:
                self.chronicle.note(f"load: {error}")
                await asyncio.sleep(0.5)
        await asyncio.gather(*(self._worker(ledger) for _ in range(3)))

    async def _worker(self, ledger: Ledger) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0, 2))
            if ledger.state.open and self.rng.random() < 0.5:
                attempt = self.rng.choice(sorted(ledger.state.open))
                end: type[Commit | Abandon] = self.rng.choice((Commit, Abandon))
                await self._end(ledger, attempt, end)
            else:
                self.next_attempt += 1
                await self._plan(ledger, self.next_attempt)

    async def _plan(self, ledger: Ledger, attempt: int) -> None:
        item = LoadedObject(
            key=f"k{attempt}", size=1, sha256="", project="n.p", writer="w", first=1, last=1
        )

        def build(state: LedgerState) -> Sequence[Operation]:
            if attempt in state.open or attempt in state.dead or attempt in state.unsettled:
                return []
            return [Plan(attempt=attempt, table="logs", day="2026-11-21", objects=[item])]

        await ledger.append(build, subject=f"plan {attempt}")
        self.returned.add(f"plan {attempt}")

    async def _end(self, ledger: Ledger, attempt: int, end: type[Commit | Abandon]) -> None:
        def build(state: LedgerState) -> Sequence[Operation]:
            if attempt not in state.open:
                return []
            if end is Commit:
                return [Commit(attempt=attempt)]
            return [Abandon(attempt=attempt, reason="test")]

        await ledger.append(build, subject=f"attempt {attempt}")
        self.returned.add(f"end {attempt}")

    async def _fold(self) -> LedgerState:
        ledger = Ledger(self.bucket.view(), SimClock(self.wall), random.Random(1), owner="checker")
        return await ledger.load()

    def _check(self, state: LedgerState) -> None:
        said: dict[str, int] = {}
        n = 0
        while (key := ledger_key(0, n + 1)) in self.bucket.objects:
            n += 1
            for operation in decode_entry(self.bucket.objects[key].data).operations:
                kind = "plan" if isinstance(operation, Plan) else "end"
                what = f"{kind} {operation.attempt}"  # type: ignore[union-attr]  # only these here
                said[what] = said.get(what, 0) + 1
        assert n == state.n == len(self.bucket.objects), "the log has a hole"
        twice = sorted(what for what, count in said.items() if count > 1)
        assert not twice, f"said twice: {twice}"
        missing = sorted(self.returned - set(said))
        assert not missing, f"append returned, and the log does not say: {missing}"
