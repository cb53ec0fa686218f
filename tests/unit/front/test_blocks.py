"""ClickHouse's compressed blocks."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanyard_gateway.front.blocks import BLOCK_BYTES, city_hash_128, compressed, unpacked

KNOWN = {
    0: "2b9ac064fc9df03d291ee592c340b53c",
    3: "cbcf8690335ba94edd83b448daed6809",
    5: "7805d5a9af27d8276f508f25ab96b050",
    11: "d5f221f57940d47da3940dfb28ba7dfa",
    15: "17a8babaf22094483918a027aa7c8e4d",
    16: "c05a00671f266ec7fe4c21f11acbcb77",
    25: "25e749eb9f3893031da9cf8206a754e5",
    40: "1e07e8babaec645e9fa35c3fa9c13d8b",
    127: "db20435b4b489ade65bdbace77b74831",
    128: "20b96cfcc58c2a15e011605f4c837cd4",
    143: "622f261bc05c99bda70ff5ec2fe026e1",
    144: "2fbff8cc70b976c0545a1b0d663059fd",
    300: "e4485da705576b1413c505c1c47dc811",
    1199: "433efee31ba9a86b6769748d645878d2",
}
"""Of the bytes below; a Go implementation gave the same for all sizes up to 1,199."""


@pytest.mark.parametrize("size", KNOWN)
def test_the_checksum_is_the_one_that_clients_compute(size: int) -> None:
    data = bytes((i * i * 31 + i * 7 + size) & 255 for i in range(size))
    assert city_hash_128(data).hex() == KNOWN[size]


@given(st.binary(max_size=2_000))
def test_blocks_hold_what_was_put_in(data: bytes) -> None:
    assert unpacked(compressed(data), most=10_000) == data


def test_large_data_is_cut_into_blocks() -> None:
    data = os.urandom(1_000) * 3_000
    packed = compressed(data)
    assert int.from_bytes(packed[21:25], "little") == BLOCK_BYTES
    assert unpacked(packed, most=len(data)) == data


def test_a_body_that_unpacks_to_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 999"):
        unpacked(compressed(bytes(1_000)), most=999)


@pytest.mark.parametrize("at", [0, 16, 17, 21, 30])
def test_damage_is_seen(at: int) -> None:
    packed = bytearray(compressed(b"hello hello hello hello"))
    packed[at] ^= 1
    with pytest.raises(ValueError, match="compressed b"):
        unpacked(bytes(packed), most=1_000)


@pytest.mark.parametrize("size", [1, 24, 26])
def test_a_cut_block_is_seen(size: int) -> None:
    with pytest.raises(ValueError, match="compressed block"):
        unpacked(compressed(b"hello")[:size], most=1_000)
