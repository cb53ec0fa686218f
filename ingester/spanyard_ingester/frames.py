"""How much a zstd object can unpack to, without unpacking it (RFC 8878, section 3.1).

A block's header says how many bytes follow; an RLE or raw block also says what it makes of them,
and a compressed one makes at most 128 KiB. So walking over the headers (80 of them in 10 MB)
bounds the whole, finds a frame that was cut short, and costs microseconds: a bomb never gets as
far as the engine.
"""

from spanyard_core.errors import BadRecordError

_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK_MOST = 128 * 1024
_WINDOW_MOST = 8 * 1024 * 1024
"""What the RFC asks every decoder to support; levels up to 19 stay within. A frame that asks for
more makes its reader allocate that much."""


def decoded_bound(data: bytes | memoryview) -> int:
    """The most bytes that all frames of `data` together can unpack to.

    Raises BadRecordError when it is not a sequence of whole zstd frames.
    """
    view = memoryview(data)
    bound = at = 0
    while at < len(view):
        magic = bytes(view[at : at + 4])
        if len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:
            at += 8 + int.from_bytes(view[at + 4 : at + 8], "little")
            if at > len(view):
                raise BadRecordError("the object's last frame is cut short")
        elif magic == _MAGIC:
            at, size = _frame(view, at + 4)
            bound += size
        else:
            raise BadRecordError(
                f"the object holds something that is no zstd frame, at byte {at} of {len(view)}"
            )
    return bound


def _frame(view: memoryview, at: int) -> tuple[int, int]:
    """The end of the frame whose header begins at `at`, and the most that it unpacks to."""
    try:
        descriptor = view[at]
        at += 1
        block_most = _BLOCK_MOST
        single = bool(descriptor & 0x20)
        if not single:
            exponent, mantissa = divmod(view[at], 8)
            window = (1 << (10 + exponent)) * (8 + mantissa) // 8
            if window > _WINDOW_MOST:
                raise BadRecordError(
                    f"the object asks its reader for a window of {window} bytes; "
                    f"{_WINDOW_MOST} is most"
                )
            block_most = min(window, block_most)
            at += 1
        if descriptor & 0x03:
            raise BadRecordError("the object needs a zstd dictionary, which Spanyard never uses")
        at += (1 if single else 0, 2, 4, 8)[descriptor >> 6]
        bound = 0
        last = False
        while not last:
            header = int.from_bytes(view[at : at + 3], "little")
            view[at + 2]  # raises at the end
            at += 3
            last = bool(header & 1)
            kind, size = header >> 1 & 3, header >> 3
            if size > _BLOCK_MOST or kind == 3:
                raise BadRecordError("the object has a damaged zstd block")
            bound += block_most if kind == 2 else size
            at += 1 if kind == 1 else size
        at += 4 if descriptor & 0x04 else 0
    except IndexError:
        raise BadRecordError("the object's last frame is cut short") from None
    if at > len(view):
        raise BadRecordError("the object's last frame is cut short")
    return at, bound
