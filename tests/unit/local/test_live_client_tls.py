"""The client of live streams with a gateway behind TLS that asks who one is."""

import asyncio
import random
import ssl
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
    limits = SocketLimits(heartbeat=0.1)
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
    trust = ssl.create_default_context(cafile=crt)
    async with (
        LiveGateway(world, limits, tls=shown, tokens=set()) as gateway,
        LiveClient(gateway.url, token=token, trust=trust) as client,
    ):
        await client.subscribe(CHANNEL, history=10)
        async with asyncio.timeout(60):
            while len(found) < 200:
                event = await client.next(0.05)
                if isinstance(event, Lines):
                    found += [item.seq for item in event.items]
                elif event is not None:
                    others.append(event)
                if event is None and pod.writers[0].last < 200:
                    await world.print(pod, 20)
                    if pod.writers[0].last % 60 == 0:
                        gateway.tokens = set()
    assert found == list(range(1, 201))
    assert not any(isinstance(event, Dropped) for event in others)
    lost = [event for event in others if isinstance(event, Lost)]
    assert len(lost) == sum(isinstance(event, Back) for event in others) >= 1
    assert {event.reason for event in lost} == {"the gateway no longer takes the token"}
    assert held == f"t{len(lost)}", "a token for each that ended, and none else"


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
