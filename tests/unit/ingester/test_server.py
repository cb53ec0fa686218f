"""The ingester's HTTP server, its settings, and its run from start to stop."""

import asyncio
from typing import Any

import aiohttp
import pytest

from spanyard_core.errors import BadRecordError, SettingError
from spanyard_core.serve import serving
from spanyard_ingester.jobs import scope_of_request, selection_of
from spanyard_ingester.server import make_app
from spanyard_ingester.settings import IngesterSettings
from tests.fakes.objects import log_chunk, log_line
from tests.unit.ingester.bench import Bench


async def call(url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a POST, or text of a GET without a body."""
    async with aiohttp.ClientSession(headers=headers) as session:
        if body is None:
            async with session.get(url) as answer:
                return answer.status, await answer.text()
        async with session.post(url, json=body) as answer:
            return answer.status, await answer.json(content_type=None)


async def test_hints_and_quarantine_actions(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 5, instead={2: b"{}\n"}))
    ingester = await bench.started()
    await ingester.drain()
    [name] = bench.bad
    app = make_app(ingester, bench.quarantine(ingester))
    async with serving(app, "127.0.0.1", 0) as address:
        key = await bench.put(log_chunk("v", 1, 5))
        assert await call(f"{address.url}/hints", {"keys": [key, "nonsense"]}) == (
            200,
            {"taken": 1},
        )
        assert (await call(f"{address.url}/hints", {"keys": 5}))[0] == 400
        assert (await call(f"{address.url}/hints", {"keys": ["k"] * 10_001}))[0] == 400
        text = log_line("w", 2).decode()
        status, answer = await call(f"{address.url}/quarantine/{name}/replay", {"text": text})
        assert (status, answer["status"]) == (200, "replayed")
        status, answer = await call(f"{address.url}/quarantine/{name}/replay", {"txt": text})
        assert (status, answer["title"]) == (400, "Bad request")
        status, answer = await call(f"{address.url}/quarantine/nope/replay", {})
        assert (status, answer["detail"]) == (404, "nothing in quarantine has the id 'nope'")
        assert (await call(f"{address.url}/quarantine/{name}/delete", {}))[0] == 200
        status, answer = await call(f"{address.url}/quarantine/{name}/replay", {})
        assert (status, answer["title"]) == (409, "Cannot be replayed")
        assert await call(f"{address.url}/audit", {}) == (200, {"deletedAttempts": 0})
        assert (await call(f"{address.url}/readyz"))[0] == 200
        status, metrics = await call(f"{address.url}/metrics")
        assert "spanyard_ingester_rows_total 4.0" in metrics
        assert "spanyard_ingester_bad_lines_total 1.0" in metrics


@pytest.mark.parametrize(
    "body", [b"\xff", b'{"keys":["\xff"]}', b'{"x":' + b"[" * 90_000 + b"]" * 90_000 + b"}"]
)
async def test_a_body_made_to_confuse_is_the_senders_fault(bench: Bench, body: bytes) -> None:
    ingester = await bench.started()
    app = make_app(ingester, bench.quarantine(ingester))
    async with (
        serving(app, "127.0.0.1", 0) as address,
        aiohttp.ClientSession() as session,
        session.post(f"{address.url}/hints", data=body) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json(content_type=None))["title"] == "Bad request"


async def test_a_token_is_asked_for_everywhere_but_for_health(bench: Bench) -> None:
    ingester = await bench.started()
    app = make_app(ingester, bench.quarantine(ingester), token="secret")
    async with serving(app, "127.0.0.1", 0) as address:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert (await call(f"{address.url}/hints", {"keys": []}, **headers))[0] == 401
        right = {"Authorization": "Bearer secret"}
        assert (await call(f"{address.url}/hints", {"keys": []}, **right))[0] == 200
        for path in ("healthz", "readyz", "metrics"):
            assert (await call(f"{address.url}/{path}"))[0] == 200


def test_a_reachable_address_needs_a_token() -> None:
    with pytest.raises(SettingError, match="set a token"):
        IngesterSettings(storage="-", clickhouse="-", listen="0.0.0.0")
    IngesterSettings(storage="-", clickhouse="-", listen="0.0.0.0", token="x")
    IngesterSettings(storage="-", clickhouse="-", listen="localhost")


@pytest.mark.parametrize(
    ("text", "compact"),
    [
        ("", ""),
        ("2026-11-21", "20261121T000000Z"),
        ("2026-11-21T14:45:01Z", "20261121T144501Z"),
        ("20261121T1445Z", "20261121T144500Z"),
    ],
)
def test_times_of_a_rebuild_are_those_of_names(text: str, compact: str) -> None:
    assert selection_of("", "", text, "").start == compact


def test_what_users_ask_for_is_checked() -> None:
    for words in (("x", "", "", ""), ("", "profiles", "", ""), ("", "", "yesterday", "")):
        with pytest.raises(BadRecordError):
            selection_of(*words)
    for trace, attribute in (("t", {"a": "b"}), ("", {"a": "b", "c": "d"}), ("", {"": "b"})):
        with pytest.raises(BadRecordError):
            scope_of_request("a.b", trace, attribute)
    assert str(scope_of_request("a.b", "", {"user": "42"})) == "an attribute user of a.b"


class TestRun:
    """The eternal tasks, on a clock of their own: the test's seconds are real ones."""

    async def test_it_loads_what_comes_and_stops_when_told(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from spanyard_core.clock import SystemClock
        from spanyard_ingester import running as running_module

        # A stop settles what it can within that; on a machine that stands still it is less.
        monkeypatch.setattr(running_module, "_STOP_WITHIN", 60.0)
        bench.clock = SystemClock()  # type: ignore[assignment]
        ingester = bench.ingester(list_interval=0.05, coalesce=0.01)
        stop = asyncio.Event()
        running = asyncio.ensure_future(ingester.run(stop))
        for number in range(5):
            key = await bench.put(log_chunk(f"w{number}", 1, 5))
            if number % 2:
                ingester.hint([key])
        await bench.put((log_chunk("bad", 1, 5)[0], b"poison"))
        async with asyncio.timeout(120):
            while len(bench.stored()) < 25 or not bench.bad:
                await asyncio.sleep(0.01)
        stop.set()
        async with asyncio.timeout(120):
            await running
        assert not ingester.ledger.state.open
        assert not ingester.ledger.state.unsettled

    async def test_it_stops_also_while_it_waits_for_the_warehouse(self, bench: Bench) -> None:
        from spanyard_core.clock import SystemClock

        bench.clock = SystemClock()  # type: ignore[assignment]
        bench.tables.weather.away = True
        ingester = bench.ingester()
        stop = asyncio.Event()
        running = asyncio.ensure_future(ingester.run(stop))
        async with asyncio.timeout(120):
            while "self-test" not in (ingester.not_ready() or ""):
                await asyncio.sleep(0.01)
            stop.set()
            await running
