"""The stored part of live streams over the real engine; `/ws` as it stands in the application."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from spanyard_gateway.live.channels import Filter
from spanyard_gateway.live.inlet import Reached
from spanyard_gateway.live.records import LiveSignal
from spanyard_gateway.live.stored import Target
from spanyard_gateway.live.upstream import LivePod
from spanyard_gateway.queries.live import ClickHouseStored
from spanyard_gateway.reader import Reader
from spanyard_gateway.settings import GatewaySettings
from tests.fakes.gateway_api import Filled, filled, running_gateway
from tests.fakes.gateway_records import PROJECT, TRACE, load_all

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]
SERVER, SPANS = "uid/server/0@e", "uid/spans@e"
TARGET = Target("local", "support")
SETTINGS = GatewaySettings(storage="file:///nowhere", clickhouse="chdb:///nowhere")
BOTH: tuple[LiveSignal, ...] = ("logs", "spans")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Filled]:
    folder: Path = tmp_path_factory.mktemp("live")
    async with filled(folder) as (db, storage):
        await load_all(db, folder)
        yield db, storage


@pytest.fixture
def stored(loaded: Filled) -> ClickHouseStored:
    return ClickHouseStored(Reader(SETTINGS, loaded[0]))


async def test_how_far_writers_are_stored_and_which_have_ended(stored: ClickHouseStored) -> None:
    all_of_it = {SERVER: Reached("logs", 50), SPANS: Reached("spans", 6)}
    pod = LivePod("uid", "agent-0", "local", "support")
    assert await stored.reached(pod) == all_of_it
    assert await stored.last_of(TARGET, BOTH, [SERVER, SPANS, "none"]) == all_of_it
    assert await stored.last_of(TARGET, ("logs",), [SERVER, SPANS]) == {SERVER: Reached("logs", 50)}
    other = Target("local", "other")
    assert await stored.last_of(other, BOTH, [SERVER, SPANS]) == {}, (
        "what clients name is not theirs"
    )
    assert await stored.last_of(TARGET, BOTH, []) == await stored.ends_of([]) == {}
    assert await stored.ends_of([SERVER, SPANS, "none"]) == {SERVER: 52}
    assert await stored.begun_since(TARGET, BOTH, 0) == all_of_it
    assert await stored.begun_since(other, BOTH, 0) == {}


@pytest.mark.parametrize(
    "other",
    [
        Target("other", "support"),
        Target("local", "other"),
        Target("local", "support", deployment="other"),
        Target("local", "support", build="local.other"),
        Target("local", "support", uid="made-again"),
    ],
    ids=["namespace", "project", "deployment", "build", "uid"],
)
async def test_nothing_is_told_of_what_another_wrote(
    stored: ClickHouseStored, other: Target
) -> None:
    assert await stored.newest(other, BOTH, Filter(), 100, {}) == []
    assert await stored.last_of(other, BOTH, [SERVER, SPANS]) == {}
    assert await stored.begun_since(other, BOTH, 0) == {}


async def test_a_run_of_numbers_comes_in_order_and_without_what_is_known(
    stored: ClickHouseStored,
) -> None:
    [block] = await stored.between(SERVER, "logs", 10, 21)
    assert (block.first, block.last, block.signal) == (11, 20, "logs")
    assert [record.seq for record in block.records] == list(range(11, 21))
    assert await stored.between(SERVER, "logs", 50, None) == []
    assert [b.last for b in await stored.between(SPANS, "spans", 0, None)] == [6]


async def test_the_newest_are_chosen_by_filter_trace_and_what_is_known_already(
    stored: ClickHouseStored,
) -> None:
    rows = await stored.newest(TARGET, ("logs",), Filter(), 5, {})
    assert sorted(row.record.seq for row in rows) == [46, 47, 48, 49, 50]
    rows = await stored.newest(TARGET, ("logs",), Filter(), 5, {SERVER: 20})
    assert sorted(row.record.seq for row in rows) == [15, 16, 17, 18, 19]
    errors = await stored.newest(TARGET, ("logs",), Filter(level=["error"]), 100, {})
    assert {getattr(row.record, "level", "") for row in errors} == {"error"}
    of_trace = await stored.newest(Target("local", "support", trace=TRACE), BOTH, Filter(), 100, {})
    assert {row.record.trace_id for row in of_trace} == {TRACE}
    assert {row.writer for row in of_trace} == {SERVER, SPANS}


async def test_pages_of_other_sites_get_no_socket_and_ours_does(
    loaded: Filled,
) -> None:
    async with running_gateway(*loaded) as api:
        for origin in ("http://evil.example", "null", "file://"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await api.session.ws_connect("/ws", headers={"Origin": origin})
            assert refused.value.status == 403
        for token in ("token=t", "access_token=t", "authorization=Bearer%20t"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await api.session.ws_connect(f"/ws?{token}")
            assert refused.value.status == 400
        async with api.session.ws_connect("/ws") as socket:
            await socket.send_json(
                {"type": "subscribe", "id": "a", "channel": f"project:{PROJECT}", "history": 3}
            )
            shown = []
            while (message := await socket.receive_json(timeout=60))["type"] != "live":
                shown += message.get("items", [])
            assert len(shown) == 3
            assert set(message["resume"]["seen"]) <= {SERVER, SPANS}
