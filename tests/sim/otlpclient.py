"""A program with an OpenTelemetry SDK: it sends, and sends the same body again until it is told."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from tests.sim.chronicle import Chronicle
from tests.sim.clock import WallClock
from tests.sim.oracle import Oracle, Written

Send = Callable[[str, bytes], Awaitable[int]]
"""Signal and body to status. Raises ConnectionError when the collector is not there."""

SIGNAL = {"traces": "spans", "logs": "logs", "metrics": "metrics"}


class OtlpClient:
    """One exporter."""

    def __init__(
        self,
        send: Send,
        oracle: Oracle,
        wall: WallClock,
        rng: random.Random,
        chronicle: Chronicle,
        *,
        pod_uid: str,
        pause: float = 1.0,
        lost: float = 0.05,
    ) -> None:
        """`lost` is the share of answers that do not come back."""
        self._send, self._oracle, self._wall, self._rng = send, oracle, wall, rng
        self._note = chronicle.note
        self._pod_uid, self._pause, self._lost = pod_uid, pause, lost
        self.waiting: list[Written] = []
        """Records of the request that is under way."""

    async def run(self) -> None:
        """Export until cancelled."""
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self._pause))
            signal = self._rng.choice(("traces", "logs", "metrics"))
            count = self._rng.randint(1, 6)
            records, body = self._request(signal, count)
            self.waiting = records
            if await self._export(signal, body):
                for record in records:
                    record.owed, record.note = True, ""
            self.waiting = []

    async def _export(self, signal: str, body: bytes) -> bool:
        delay = 0.5
        for _ in range(self._rng.choice((1, 3, 8))):
            try:
                async with asyncio.timeout(self._rng.choice((0.05, 1, 10))):
                    status = await self._send(signal, body)
                    if self._rng.random() < self._lost:
                        raise ConnectionResetError("the answer is lost")
            except (ConnectionError, TimeoutError) as error:
                self._note(f"OTLP {signal}: {type(error).__name__}, will send again")
            else:
                if status == 200:
                    return True
                if status not in {429, 503}:
                    raise AssertionError(f"a good OTLP request got status {status}")
            await asyncio.sleep(self._rng.uniform(0, 2 * delay))
            delay = min(5.0, delay * 2)
        self._note(f"OTLP {signal}: given up")
        return False

    def _request(self, signal: str, count: int) -> tuple[list[Written], bytes]:
        track = self._oracle.track(
            f"{self._pod_uid}/{SIGNAL[signal]}",
            SIGNAL[signal],  # type: ignore[arg-type]  # one of the three
            ordered=False,
        )
        now = self._wall.time_ns()
        records = []
        for _ in range(count):
            record = track.add(self._oracle.text(f"otlp-{signal}"), 0, now)
            record.owed, record.note = False, "not acknowledged"
            records.append(record)
        texts = [record.text for record in records]
        return records, json.dumps(_BODIES[signal](texts, now, self._rng)).encode()


def _logs(texts: list[str], now: int, rng: random.Random) -> object:
    records = [
        {"timeUnixNano": str(now), "severityNumber": 9, "body": {"stringValue": text}}
        for text in texts
    ]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}


def _traces(texts: list[str], now: int, rng: random.Random) -> object:
    spans = [
        {
            "traceId": f"{rng.getrandbits(4) + 1:032x}",
            "spanId": f"{rng.getrandbits(63) + 1:016x}",
            "name": text,
            "kind": 1,
            "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now + 5),
        }
        for text in texts
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def _metrics(texts: list[str], now: int, rng: random.Random) -> object:
    metrics = [
        {
            "name": text,
            "gauge": {"dataPoints": [{"timeUnixNano": str(now), "asDouble": rng.random()}]},
        }
        for text in texts
    ]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}


_BODIES: dict[str, Callable[[list[str], int, random.Random], object]] = {
    "logs": _logs,
    "traces": _traces,
    "metrics": _metrics,
}
