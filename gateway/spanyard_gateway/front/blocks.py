"""ClickHouse's own compression (`compress=1`): LZ4 blocks, each under a CityHash128.

A block is 16 bytes of checksum, then a header of 9 bytes (method 0x82, size with this header, size
unpacked; both little-endian) and the LZ4 data; the checksum covers header and data. Clients
verify it. It's CityHash in its version 1.0.2, which ClickHouse has kept; the tests hold this one
to values that ClickHouse's clients accept.
"""

import struct

import lz4.block  # type: ignore[import-untyped]

METHOD_LZ4 = 0x82
BLOCK_BYTES = 1 << 20
"""Unpacked, as ClickHouse does it: readers allocate that much."""

_MASK = (1 << 64) - 1
_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_K3 = 0xC949D7C7509E6557
_KMUL = 0x9DDFEA08EB382D69


def compressed(data: bytes) -> bytes:
    """The data as blocks; none for no data."""
    return b"".join(
        _block(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES)
    )


def _block(data: bytes) -> bytes:
    packed: bytes = lz4.block.compress(data, store_size=False)
    body = struct.pack("<BII", METHOD_LZ4, len(packed) + 9, len(data)) + packed
    return city_hash_128(body) + body


def unpacked(data: bytes, *, most: int) -> bytes:
    """What blocks hold (`decompress=1`). Raises ValueError for bad ones, and above `most` bytes."""
    parts = []
    at = 0
    total = 0
    while at < len(data):
        if len(data) - at < 25:
            raise ValueError("a compressed block is cut off")
        method, size, plain = struct.unpack_from("<BII", data, at + 16)
        body = data[at + 16 : at + 16 + size]
        if method != METHOD_LZ4 or size < 9 or len(body) != size:
            raise ValueError("a compressed block is damaged, or not LZ4")
        if city_hash_128(body) != data[at : at + 16]:
            raise ValueError("a compressed block has a wrong checksum")
        total += plain
        if total > most:
            raise ValueError(f"the compressed body unpacks to more than {most:,} bytes")
        try:
            part = lz4.block.decompress(body[9:], uncompressed_size=plain)
        except lz4.block.LZ4BlockError as error:
            raise ValueError(f"a compressed block is damaged: {error}") from error
        if len(part) != plain:
            raise ValueError("a compressed block has another size than it says")
        parts.append(part)
        at += 16 + size
    return b"".join(parts)


def city_hash_128(data: bytes) -> bytes:
    """CityHash128 1.0.2 as ClickHouse writes it: low half, high half, little-endian."""
    size = len(data)
    if size >= 16:
        low, high = struct.unpack_from("<QQ", data)
        result = _seeded(data[16:], low ^ _K3, high)
    elif size >= 8:
        (first,) = struct.unpack_from("<Q", data)
        (last,) = struct.unpack_from("<Q", data, size - 8)
        result = _seeded(b"", first ^ (size * _K0 & _MASK), last ^ _K1)
    else:
        result = _seeded(data, _K0, _K1)
    return struct.pack("<QQ", *result)


def _rotated(value: int, by: int) -> int:
    return (value >> by) | (value << (64 - by) & _MASK)


def _mixed(value: int) -> int:
    return value ^ (value >> 47)


def _hash_16(low: int, high: int) -> int:
    a = _mixed((low ^ high) * _KMUL & _MASK)
    b = _mixed((high ^ a) * _KMUL & _MASK)
    return b * _KMUL & _MASK


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _hash_short(data: bytes) -> int:
    size = len(data)
    if size > 8:
        a, b = _word(data, 0), _word(data, size - 8)
        return _hash_16(a, _rotated((b + size) & _MASK, size)) ^ b
    if size >= 4:
        a = int.from_bytes(data[:4], "little")
        return _hash_16(((a << 3) + size) & _MASK, int.from_bytes(data[size - 4 :], "little"))
    if size > 0:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[size - 1] << 2)
        return _mixed((y * _K2 ^ z * _K3) & _MASK) * _K2 & _MASK
    return _K2


def _seeded(data: bytes, low: int, high: int) -> tuple[int, int]:
    return _murmur(data, low, high) if len(data) < 128 else _long(data, low, high)


def _murmur(data: bytes, a: int, b: int) -> tuple[int, int]:
    size = len(data)
    if size <= 16:
        a = _mixed(a * _K1 & _MASK) * _K1 & _MASK
        c = (b * _K1 + _hash_short(data)) & _MASK
        d = _mixed((a + (_word(data, 0) if size >= 8 else c)) & _MASK)
    else:
        c = _hash_16((_word(data, size - 8) + _K1) & _MASK, a)
        d = _hash_16((b + size) & _MASK, (c + _word(data, size - 16)) & _MASK)
        a = (a + d) & _MASK
        for at in range(0, size - 16, 16):
            a = (a ^ _mixed(_word(data, at) * _K1 & _MASK) * _K1) * _K1 & _MASK
            b ^= a
            c = (c ^ _mixed(_word(data, at + 8) * _K1 & _MASK) * _K1) * _K1 & _MASK
            d ^= c
    a = _hash_16(a, c)
    b = _hash_16(d, b)
    return a ^ b, _hash_16(b, a)


def _weak(w: int, x: int, y: int, z: int, a: int, b: int) -> tuple[int, int]:
    a += w
    b = _rotated((b + a + z) & _MASK, 21)
    c = a
    a += x + y
    b += _rotated(a & _MASK, 44)
    return (a + z) & _MASK, (b + c) & _MASK


def _long(data: bytes, x: int, y: int) -> tuple[int, int]:
    size = len(data)
    words = struct.unpack_from(f"<{size // 8}Q", data)
    z = _K1 * size & _MASK
    v0 = (_rotated(y ^ _K1, 49) * _K1 + words[0]) & _MASK
    v1 = (_rotated(v0, 42) * _K1 + words[1]) & _MASK
    w0 = (_rotated((y + z) & _MASK, 35) * _K1 + x) & _MASK
    w1 = _rotated((x + words[11]) & _MASK, 53) * _K1 & _MASK
    rounds = size // 128 * 2
    for at in range(0, rounds * 8, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = words[at : at + 8]
        x = _rotated((x + y + v0 + a2) & _MASK, 37) * _K1 & _MASK ^ w1
        y = _rotated((y + v1 + a6) & _MASK, 42) * _K1 & _MASK ^ v0
        z = _rotated(z ^ w0, 33)
        v0, v1 = _weak(a0, a1, a2, a3, v1 * _K1, x + w0)
        w0, w1 = _weak(a4, a5, a6, a7, z + w1, y)
        x, z = z, x
    y = (y + _rotated(w0, 37) * _K0 + z) & _MASK
    x = (x + _rotated((v0 + z) & _MASK, 49) * _K0) & _MASK
    rest = size - rounds * 64
    for done in range(32, rest + 32, 32):
        at = size - done
        b0, b1, b2, b3 = struct.unpack_from("<QQQQ", data, at)
        y = (_rotated((y - x) & _MASK, 42) * _K0 + v1) & _MASK
        w0 = (w0 + b2) & _MASK
        x = (_rotated(x, 49) * _K0 + w0) & _MASK
        w0 = (w0 + v0) & _MASK
        v0, v1 = _weak(b0, b1, b2, b3, v0, v1)
    x = _hash_16(x, v0)
    y = _hash_16(y, w0)
    return (
        (_hash_16((x + v1) & _MASK, w1) + y) & _MASK,
        _hash_16((x + w1) & _MASK, (y + v1) & _MASK),
    )
