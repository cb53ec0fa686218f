"""Bodies: gzip within bounds, and room for many at once."""

import asyncio
import gzip
import random
import zlib

import pytest

from spanyard_sidecar.otlp.bodies import (
    BadEncodingError,
    BodyTooLargeError,
    Busy,
    Room,
    gunzip,
)


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_gzip_comes_back(size: int) -> None:
    data = random.Random(size).randbytes(size)
    packed = gzip.compress(data)
    assert gunzip(packed, 4_000_000) == data
    assert gunzip(packed + gzip.compress(b"more"), 4_000_000) == data + b"more"


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    bomb = gzip.compress(bytes(40_000_000), 9)
    assert len(bomb) < 50_000
    with pytest.raises(BodyTooLargeError, match="more than 1000000 bytes"):
        gunzip(bomb, 1_000_000)


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b", b"\x1f\x8bnonsense", gzip.compress(b"x" * 1000)[:-9], b"plain"],
    ids=["magic", "nonsense", "cut", "plain"],
)
def test_gzip_that_is_none_or_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(BadEncodingError):
        gunzip(data, 1_000_000)


def test_a_wrong_checksum_is_refused() -> None:
    data = bytearray(gzip.compress(b"hello"))
    data[-5] ^= 1
    with pytest.raises(BadEncodingError):
        gunzip(bytes(data), 1_000_000)
    assert zlib.decompress(gzip.compress(b"hello"), 31) == b"hello"


async def test_room_is_given_in_order_and_comes_back() -> None:
    room = Room(100)
    await room.take(60, timeout=1)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await room.take(size, timeout=60)
        order.append(name)

    large = asyncio.create_task(take("large", 90))
    await asyncio.sleep(0)
    small = asyncio.create_task(take("small", 10))
    await asyncio.sleep(0)
    assert order == []  # the small one does not overtake, or the large one might starve
    room.give(60)
    await asyncio.gather(large, small)
    assert order == ["large", "small"]
    assert room.free == 0


async def test_who_waits_too_long_is_told_and_leaves_no_trace() -> None:
    room = Room(100, most_waiting=1)
    await room.take(100, timeout=1)
    waits = asyncio.create_task(room.take(1, timeout=0.01))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await room.take(1, timeout=60)  # the queue is full
    with pytest.raises(Busy):
        await waits
    room.give(100)
    assert room.free == 100
    await room.take(100, timeout=1)


async def test_a_cancelled_wait_gives_its_place_to_the_next() -> None:
    room = Room(100)
    await room.take(50, timeout=1)
    first = asyncio.create_task(room.take(80, timeout=60))
    await asyncio.sleep(0)
    second = asyncio.create_task(room.take(50, timeout=60))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert room.free == 0
    assert first.cancelled()


async def test_growing_never_waits() -> None:
    room = Room(100)
    await room.take(60, timeout=1)
    assert room.grow(40)
    assert not room.grow(1)
    with pytest.raises(ValueError, match="can never be there"):
        await room.take(101, timeout=1)
