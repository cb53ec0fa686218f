"""Receipts: which requests were acknowledged lately, so that a resend is not stored twice.

A client that does not see our answer sends again, up to minutes later. A request is known by a
digest of its signal and its body after decompression (gzip differs per attempt). Kept for 15
minutes by a clock that never jumps; frames of the log carry them over restarts.
"""

from collections import deque
from hashlib import sha256

import msgspec

from spanyard_core.clock import Clock

KEEP_SECONDS = 15 * 60.0
MOST = 50_000
"""Receipts kept at most, about 5 MB: 55 requests a second for 15 minutes. Beyond, the oldest are
forgotten early, which is counted."""
MOST_TEXTS = 1_000
"""Answers with a message of their own, kept verbatim."""
_SPAN = 30.0
"""Receipts are forgotten in lots of this many seconds."""

DIGEST_BYTES = 16


def digest_of(signal: str, body: bytes) -> bytes:
    """What a request is known by: 128 bits of sha256."""
    return sha256(signal.encode() + b"\n" + body).digest()[:DIGEST_BYTES]


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One acknowledged request."""

    digest: bytes
    wall_ns: int
    refused: int = 0
    message: str = ""


_receipts = msgspec.msgpack.Decoder(list[Receipt])


def decode_receipts(payload: bytes) -> list[Receipt]:
    """The receipts of an opening frame. Raises msgspec.DecodeError."""
    return _receipts.decode(payload)


class _Lot:
    __slots__ = ("digests", "end", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.end = start
        self.digests: set[bytes] = set()


class Receipts:
    """The receipts of the last 15 minutes."""

    def __init__(self, clock: Clock, *, keep: float = KEEP_SECONDS, most: int = MOST) -> None:
        self._clock = clock
        self._keep = keep
        self._most = most
        self._lots: deque[_Lot] = deque()
        self._texts: dict[bytes, tuple[int, str]] = {}
        self._count = 0
        self.forgotten_early = 0
        """Receipts that went before their time, for want of room."""

    def __len__(self) -> int:
        return self._count

    def find(self, digest: bytes) -> Receipt | None:
        """The receipt of a request, None when it is not known (any more)."""
        self._forget()
        for lot in reversed(self._lots):
            if digest in lot.digests:
                refused, message = self._texts.get(digest, (0, ""))
                return Receipt(digest, 0, refused, message)
        return None

    def add(self, digest: bytes, refused: int = 0, message: str = "", *, age: float = 0.0) -> None:
        """Remember a request that was made durable `age` seconds ago (0…keep)."""
        at = self._clock.monotonic() - age
        lot = self._lot(at)
        if digest in lot.digests:
            return
        lot.digests.add(digest)
        lot.end = max(lot.end, at)
        self._count += 1
        if refused or message:
            self._texts[digest] = (refused, message)
            if len(self._texts) > MOST_TEXTS:
                del self._texts[next(iter(self._texts))]
        self._forget()
        while self._count > self._most and len(self._lots) > 1:
            self.forgotten_early += self._drop_lot()

    def restore(self, receipt: Receipt) -> None:
        """Take over a receipt from the log, for 15 minutes more at most."""
        age = (self._clock.time_ns() - receipt.wall_ns) / 1e9
        # By the wall clock it may be too old, or of the future, because that was set in between:
        # then nobody knows, and a resend may still come.
        known = 0 <= age < self._keep
        self.add(receipt.digest, receipt.refused, receipt.message, age=age if known else 0.0)

    def encoded(self) -> bytes:
        """All of them, for an opening frame."""
        self._forget()
        now_ns, now = self._clock.time_ns(), self._clock.monotonic()
        return msgspec.msgpack.encode(
            [
                Receipt(digest, now_ns - int((now - lot.end) * 1e9), *self._texts.get(digest, ()))
                for lot in self._lots
                for digest in lot.digests
            ]
        )

    def _lot(self, at: float) -> _Lot:
        for lot in reversed(self._lots):
            if lot.start <= at < lot.start + _SPAN and len(lot.digests) <= self._most // 16:
                return lot
            if lot.start <= at:
                break
        made = _Lot(at)
        if not self._lots or self._lots[-1].start <= at:
            self._lots.append(made)
        else:  # restored in another order than made
            self._lots = deque(sorted([*self._lots, made], key=lambda lot: lot.start))
        return made

    def _forget(self) -> None:
        horizon = self._clock.monotonic() - self._keep
        while self._lots and self._lots[0].end < horizon:
            self._drop_lot()

    def _drop_lot(self) -> int:
        lot = self._lots.popleft()
        self._count -= len(lot.digests)
        if self._texts:
            for digest in lot.digests:
                self._texts.pop(digest, None)
        return len(lot.digests)
