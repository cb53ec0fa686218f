"""The client of live streams with a gateway behind TLS that asks who one is."""

import asyncio
import random
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from spanyard_gateway.live.socket import SocketLimits
from spanyard_local.live_client import AwayError, Back, Dropped, Lines, LiveClient, Lost
from tests.fakes.live_gateway import CHANNEL, LiveGateway
from tests.fakes.live_world import World
from tests.unit.gateway.test_tls import make


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """What the gateway shows, signed by nobody else, and its file."""
    crt, key = make(tmp_path, "gateway")
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(crt, key)
    return shown, crt


async def test_tokens_end_again_and_again_and_no_line_is_lost_or_comes_twice(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    shown, crt = certificate
    world = World(random.Random(1))
    world.random_failures = False
    pod = world.new_pod()
    limits = SocketLimits(heartbeat=0.5)
    numbers = iter(range(100))
    held = "none"

    def token(renew: bool) -> str:
        nonlocal held
        if renew:
            held = f"t{next(numbers)}"
            gateway.tokens = {held}
        return held

    found: list[int] = []
    others: list[object] = []

    async def until(holds: Callable[[], bool]) -> None:
        while not holds():
            event = await client.next()
            if isinstance(event, Lines):
                found.extend(item.seq for item in event.items)
            else:
                others.append(event)

    trust = ssl.create_default_context(cafile=crt)
    async with (
        LiveGateway(world, limits, tls=shown, tokens=set()) as gateway,
        LiveClient(gateway.url, token=token, trust=trust) as client,
    ):
        await client.subscribe(CHANNEL, history=100)
        async with asyncio.timeout(120):
            for number in range(3):
                await world.print(pod, 20)
                await until(lambda: found[-1:] == [pod.writers[0].last])
                gateway.tokens = set()  # nobody asks for another until it is noticed
                await world.print(pod, 20)
                await until(lambda n=number: sum(isinstance(e, Back) for e in others) > n)  # type: ignore[misc]
            await until(lambda: found[-1:] == [pod.writers[0].last])
    assert found == list(range(1, 121))
    assert not any(isinstance(event, Dropped) for event in others)
    lost = [event for event in others if isinstance(event, Lost)]
    assert len(lost) == sum(isinstance(event, Back) for event in others)
    assert "the gateway no longer takes the token" in {event.reason for event in lost}
    assert held not in {"none", "t0"}, "one to begin with, and others later"


async def test_a_certificate_that_nobody_vouches_for_or_of_another_host_gets_no_token(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    shown, crt = certificate
    asked: list[bool] = []

    def token(renew: bool) -> str:
        asked.append(renew)
        return "t"

    trust = ssl.create_default_context(cafile=crt)
    async with LiveGateway(World(random.Random(1)), tls=shown, tokens=set()) as gateway:
        other = gateway.url.replace("localhost", "127.0.0.1")
        for url, given in ((gateway.url, None), (other, trust)):
            with pytest.raises(AwayError, match="certificate"):
                async with LiveClient(url, token=token, trust=given):
                    pass
    assert asked == [False, False], "not refused: no other token is asked for"
