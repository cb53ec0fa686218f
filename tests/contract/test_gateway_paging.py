"""Pages while records go on being stored: what was there at the first page is on one page, once."""

import itertools
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from spanyard_core.clickhouse import Database
from spanyard_core.clock import rfc3339
from spanyard_core.records import AnyLine, LogLine, Signal, SpanLine
from tests.fakes.gateway_api import Api, filled, load, running_gateway

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
_attempts = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Api, Database, Path]]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with filled(folder) as (db, storage), running_gateway(db, storage) as api:
        yield api, db, folder


class Growing:
    """A project that gets more records of one signal whenever it is told to."""

    def __init__(self, running: tuple[Api, Database, Path], signal: Signal, seed: int) -> None:
        self.api, self._db, self._folder = running
        self._signal = signal
        self.project = f"local.{signal}-{seed}"
        self._rng = random.Random(seed)
        self._now = time.time_ns()
        self.ids: list[str] = []

    async def more(self, count: int) -> None:
        attempt = next(_attempts)
        await load(
            self._db, self._folder, attempt, self._signal,
            [self._line(f"w{attempt}", seq) for seq in range(1, count + 1)],
        )  # fmt: skip

    def _line(self, writer: str, seq: int) -> AnyLine:
        # Ten minutes of which each holds several records of the same nanosecond.
        at = rfc3339(self._now - self._rng.randrange(10) * 60 * 10**9)
        identity: dict[str, Any] = {"project": self.project, "writer": writer, "seq": seq}
        if self._signal == "logs":
            self.ids.append(f"{writer}#{seq}")
            return LogLine(**identity, level="info", timestamp=at, message="m")
        known = self._rng.random() < 0.4 and self.ids
        trace = self._rng.choice(self.ids) if known else f"{self._rng.getrandbits(128):032x}"
        if not known:
            self.ids.append(trace)
        # More roots of a trace that is known begin later than it.
        start = rfc3339(self._now + self._rng.randrange(9)) if known else at
        return SpanLine(
            **identity, id=f"{self._rng.getrandbits(64):016x}", trace_id=trace, name="s",
            start_time=start, end_time=None if self._rng.random() < 0.3 else start,
            recorded_at=at,
        )  # fmt: skip


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(("signal", "path", "key"), [
    ("logs", "logs", "recordId"), ("spans", "spans", "recordId"), ("spans", "traces", "id"),
])  # fmt: skip
async def test_nothing_is_skipped_or_repeated_while_more_is_stored(
    running: tuple[Api, Database, Path], signal: Signal, path: str, key: str, order: str
) -> None:
    for seed in range(2):
        growing = Growing(running, signal, seed * 10 + (order == "asc") + 100 * (path == "traces"))
        await growing.more(40)
        url = f"/projects/{growing.project}/{path}"
        there = [i[key] for i in (await growing.api.get(url, limit="1000"))["items"]]
        assert len(there) == len(set(there)) >= 15
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await growing.api.get(url, limit="7", order=order, **{"from": "15m"}, **cursor)
            seen += [i[key] for i in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = {"cursor": page["nextCursor"]}
            if len(growing.ids) < 70:
                await growing.more(4)
        assert len(seen) == len(set(seen))
        assert set(there) <= set(seen)
