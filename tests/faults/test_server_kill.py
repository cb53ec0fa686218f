"""`spanyard-server` is killed, replaced, ended: nothing is lost, and nothing is there twice."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from spanyard_core.storage import open_storage
from tests.fakes.objects import log_chunk
from tests.fakes.ports import own_port
from tests.fakes.processes import Program, fetch, metrics, wait_for

LINES = 50


class Pods:
    """Pods of one volume, one after the other or at once."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._stack = stack
        self._written = 0

    def start(self, name: str) -> tuple[Program, str]:
        port = own_port()
        settings = {"data": self.data, "port": port, "clickhouse-port": 0}
        program = self._stack.enter_context(
            Program(
                "spanyard_local.evaluation",
                [part for key, value in settings.items() for part in (f"--{key}", str(value))],
                log=self.folder / f"{name}.log",
                environ={
                    "SPANYARD_LIST_INTERVAL": "200ms",
                    # A collector of another port and token is no business of the ingester inside.
                    "SPANYARD_TOKEN": "x",
                },
            )
        )
        return program, f"http://127.0.0.1:{port}"

    def write(self, count: int) -> None:
        """Objects of one writer each, as collectors would store them."""
        for _ in range(count):
            self._written += 1
            asyncio.run(self._write(*log_chunk(f"writer-{self._written}", 1, LINES)))

    async def _write(self, key: str, data: bytes) -> None:
        storage = open_storage((self.data / "bucket").as_uri())
        await storage.write(key, data)
        await storage.close()

    @property
    def lines(self) -> int:
        return self._written * LINES


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    with ExitStack() as stack:
        yield Pods(tmp_path, stack)


def ready(address: str) -> bool:
    try:
        return bool(fetch(f"{address}/readyz")[0] == 200)
    except OSError:
        return False


def counted(address: str) -> tuple[int, int]:
    """Rows, and rows that differ."""
    query = "SELECT count() AS a, uniqExact(writer, seq) AS b FROM logs"
    body = json.dumps({"query": query}).encode()
    kind = {"Content-Type": "application/json"}
    status, _, answer = fetch(f"{address}/sql", body=body, headers=kind)
    assert status == 200, answer
    [row] = json.loads(answer)["data"]
    return int(row["a"]), int(row["b"])


@pytest.mark.kill
def test_a_restart_loses_nothing_and_a_second_pod_waits_its_turn(pods: Pods) -> None:
    one, first = pods.start("one")
    wait_for("the first is ready", lambda: ready(first))
    pods.write(10)
    wait_for("lines are loaded", lambda: counted(first)[0] > 0)
    pods.write(20)
    two, second = pods.start("two")

    def waits() -> bool:
        try:
            status, _, text = fetch(f"{second}/readyz")
        except OSError:
            return False
        return status == 503 and b"waiting for its end" in text

    wait_for("the second says why it is not ready", waits)
    assert fetch(f"{second}/healthz")[0] == 200
    one.kill()  # while it loads
    wait_for("the second takes the folder", lambda: ready(second))
    wait_for("everything is loaded", lambda: counted(second)[0] >= pods.lines)
    assert counted(second) == (pods.lines, pods.lines)

    def settled() -> bool:  # the rows are there before the ledger says so
        found = metrics(f"{second}/metrics")
        assert "spanyard_gateway_requests_total" in found
        return found["spanyard_ingester_open_plans"] == 0

    wait_for("no plan is open", settled)

    pods.write(5)
    assert two.stop() == 0
    text = two.text()
    assert text.index("everything under way is stored") < text.rindex("ending")
    _, third = pods.start("three")
    wait_for("the third is ready", lambda: ready(third))
    wait_for("the rest is loaded", lambda: counted(third)[0] >= pods.lines)
    assert counted(third) == (pods.lines, pods.lines)


def test_one_that_waits_can_be_ended_and_a_bad_folder_is_said(pods: Pods) -> None:
    _, first = pods.start("one")
    two, second = pods.start("two")
    wait_for("one of them is ready", lambda: ready(first) or ready(second))
    if ready(second):
        two, _ = pods.start("three")
    wait_for("it waits", lambda: "waiting for its end" in two.text())
    assert two.stop() == 0
    assert "told to end before it had started" in two.text()
    words = ["--data", "/proc/none", "--port", "0"]
    bad = Program("spanyard_local.evaluation", words, log=pods.folder / "bad.log")
    with bad:
        assert bad.process.wait(60) == 2
    assert "data: '/proc/none' cannot be used" in bad.text()
