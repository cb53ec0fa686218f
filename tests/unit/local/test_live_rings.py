"""Live records of pods in this process: straight from their rings."""

import asyncio

import pytest

from spanyard_gateway.live.records import Block
from spanyard_gateway.live.upstream import UpstreamError
from spanyard_local.live import LocalLive
from spanyard_local.podapi import PodIdentity
from spanyard_sidecar.ring import Ring

ME = PodIdentity(
    namespace="local", pod="web-1-abcde", uid="u1", project="local.support", deployment="web"
)
WRITER = "u1/app/0@e"


def line(seq: int) -> bytes:
    return b'{"type":"log","seq":%d,"timestamp":"","level":"info","message":"m"}\n' % seq


async def test_who_stops_listening_leaves_nothing_behind() -> None:
    live, ring, heard = LocalLive(linger=0.0), Ring(), list[int]()
    live.opened(ME, ring)
    (pod,) = await live.pods("local")

    async def listen() -> None:
        async with live.listen(pod, {}) as events:
            async for event in events:
                if isinstance(event, Block):
                    heard.append(event.last)

    before = asyncio.all_tasks()
    leaving, staying = asyncio.create_task(listen()), asyncio.create_task(listen())
    async with asyncio.timeout(30):
        while live.connections < 2:
            await asyncio.sleep(0.01)
        ring.publish("app", WRITER, 1, line(1))
        while len(heard) < 2:
            await asyncio.sleep(0.01)
    assert heard == [1, 1]
    assert asyncio.all_tasks() - before == {leaving, staying}, "a block costs no task"
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert asyncio.all_tasks() - before == {staying}
    assert (live.connections, ring.subscribers) == (1, 1)
    # What waits at the end is given before it.
    ring.publish("app", WRITER, 2, line(2))
    live.closed(ME)
    with pytest.raises(UpstreamError, match="has ended"):
        await staying
    assert heard == [1, 1, 2]
    assert (live.connections, ring.subscribers) == (0, 0)
