"""Chunks: a run of one writer's lines as one zstd object, with its facts in front.

The object is a zstd *skippable frame* (RFC 8878, 3.1.2: magic 0x184D2A50…5F, length, any bytes)
that holds the facts as JSON, then ordinary zstd frames of JSON lines. Every zstd reader skips the
first, so `zstdcat`, ClickHouse and DuckDB read the object as it is; objects may be concatenated.
"""

import hashlib
from collections.abc import Iterator

import msgspec
import zstandard

from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import ChunkName
from spanyard_core.records import Signal

FRAME_MAGIC = (0x184D2A5D).to_bytes(4, "little")
MAX_FACTS_BYTES = 64 * 1024
"""A larger frame is not ours."""
MAX_DECODED_BYTES = 256 * 1024 * 1024
"""A chunk is at most 10 MB decoded plus its last line; what says more is a bomb."""
WINDOW_LOG = 17
"""128 KiB: on log lines 15 % less CPU than level 1's own 512 KiB (813 against 690 MB/s), half the
memory, objects 5 % larger."""
RAW_BYTES = 32 * 1024
"""Lines of a new chunk that wait for company before a compressor is made for them."""
HEAD_BYTES = 4096
"""One ranged read of this size gets the facts of every chunk that a collector writes."""


class Source(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Which bytes of which file a chunk holds; a new epoch finds its place by it."""

    fingerprint: str
    from_offset: int
    to_offset: int
    """Bytes of the file (decompressed) that the chunk was made of: from ≤ b < to."""
    pending: list[tuple[int, int]] = []
    """Offset and length of pieces before `to_offset` that are read but not in any record yet
    (CRI partial lines), in order: a new epoch reads them again first."""


class ChunkFacts(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What an object declares of itself."""

    v: int = 1
    signal: Signal
    project: str
    writer: str
    first: int
    last: int
    records: int
    """Lines in the object; last - first + 1 for a chunk without left-out lines."""
    decoded: int
    """Bytes of the JSON lines."""
    time_ns: int
    """Time of the first record, nanoseconds since the epoch."""
    sha256: str
    """Digest of the bytes after the frame, hex."""
    source: Source | None = None

    @property
    def name(self) -> ChunkName:
        """The name that an object with these facts must have."""
        return ChunkName.of(
            self.signal, self.project, self.time_ns, self.writer, self.first, self.last
        )


_facts_decoder = msgspec.json.Decoder(ChunkFacts)


class ChunkWriter:
    """Compresses lines as they come, so that a chunk costs memory only for its compressed bytes.

    A compressor takes 90 to 500 KB. So the first RAW_BYTES wait as they are, because most of many
    writers never come to so many lines, and `rest` gives it back before the chunk is finished.
    """

    __slots__ = (
        *("_compress", "_hash", "_level", "_parts", "_raw", "_raw_bytes", "_size"),
        *("decoded", "records"),
    )

    def __init__(self, level: int = 1) -> None:
        self._level = level
        self._compress: zstandard.ZstdCompressionObj | None = None
        self._raw: list[bytes] = []
        self._raw_bytes = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._hash = hashlib.sha256()
        self.decoded = 0
        self.records = 0

    @property
    def compresses(self) -> bool:
        """Whether it has a compressor now."""
        return self._compress is not None

    @property
    def held(self) -> int:
        """Bytes in memory: compressed ones, and lines that wait to be."""
        return self._size + self._raw_bytes

    def add(self, lines: bytes | bytearray | memoryview, records: int) -> None:
        """Append `records` whole lines, each ending in a newline."""
        self.decoded += len(lines)
        self.records += records
        if self._compress is None and self._raw_bytes + len(lines) <= RAW_BYTES:
            self._raw.append(bytes(lines))
            self._raw_bytes += len(lines)
        else:
            self._keep(self._compressor().compress(lines))

    def rest(self) -> None:
        """End the zstd frame and give its compressor back; lines that follow begin another."""
        if self._compress is not None:
            self._keep(self._compress.flush())
            self._compress = None

    def _compressor(self) -> "zstandard.ZstdCompressionObj":
        if self._compress is None:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                self._level, window_log=WINDOW_LOG, write_checksum=True
            )
            self._compress = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            for lines in self._raw:
                self._keep(self._compress.compress(lines))
            self._raw.clear()
            self._raw_bytes = 0
        return self._compress

    def so_far(self) -> list[bytes]:
        """The zstd frames as far as they have come, with all lines added until now.

        Costs a few bytes of compression: what waits for more input is written out.
        """
        if self._compress is not None or self._raw:
            self._keep(self._compressor().flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        return list(self._parts)

    def _keep(self, data: bytes) -> None:
        if data:
            self._hash.update(data)
            self._parts.append(data)
            self._size += len(data)

    def finish(
        self,
        *,
        signal: Signal,
        project: str,
        writer: str,
        first: int,
        last: int,
        time_ns: int,
        source: Source | None = None,
    ) -> tuple[ChunkFacts, list[bytes]]:
        """The chunk's facts and the object's bytes in parts. The writer is used up."""
        if self._raw or not self._parts:
            self._compressor()
        self.rest()
        facts = ChunkFacts(
            signal=signal,
            project=project,
            writer=writer,
            first=first,
            last=last,
            records=self.records,
            decoded=self.decoded,
            time_ns=time_ns,
            sha256=self._hash.hexdigest(),
            source=source,
        )
        return facts, [encode_facts(facts), *self._parts]


def encode_facts(facts: ChunkFacts) -> bytes:
    """The skippable frame."""
    payload = msgspec.json.encode(facts)
    return FRAME_MAGIC + len(payload).to_bytes(4, "little") + payload


def decode_facts(head: bytes) -> tuple[ChunkFacts, int]:
    """Facts in the first bytes of an object, and where its zstd frames begin.

    Raises BadRecordError: not a chunk, cut short (ask for more bytes), or nonsense inside.
    """
    if len(head) < 8 or head[:4] != FRAME_MAGIC:
        raise BadRecordError("the object does not begin with the frame that declares its writer")
    size = int.from_bytes(head[4:8], "little")
    if size > MAX_FACTS_BYTES:
        raise BadRecordError(
            f"the object's first frame has {size} bytes; {MAX_FACTS_BYTES} is most"
        )
    if len(head) < 8 + size:
        raise BadRecordError("the object's first frame is cut short")
    try:
        facts = _facts_decoder.decode(head[8 : 8 + size])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f"the object's first frame is not readable: {error}") from error
    if facts.v != 1:
        raise BadRecordError(f"the object has format {facts.v}; this version reads format 1")
    return facts, 8 + size


def check_chunk(data: bytes) -> ChunkFacts:
    """Facts of a whole object whose payload has the declared digest. Raises BadRecordError."""
    facts, at = decode_facts(data)
    digest = hashlib.sha256(memoryview(data)[at:]).hexdigest()
    if digest != facts.sha256:
        raise BadRecordError(
            f"the object's bytes have the digest {digest[:12]}…, it declares {facts.sha256[:12]}…: "
            "cut short or changed"
        )
    return facts


_INPUT_STEP = 256
"""Compressed bytes per step: an RLE block makes 128 KiB of 4 bytes, so a step makes ≤ 8 MiB."""


def decoded_blocks(data: bytes, *, limit: int = MAX_DECODED_BYTES) -> Iterator[bytes]:
    """The JSON bytes of an object in blocks of at most 8 MiB, `limit` bytes in all.

    Never allocates for what a header claims. Raises BadRecordError when a frame is cut short or
    damaged or all of it unpacks to more than `limit`. For scanning, not for the fast path.
    """
    view = memoryview(data)
    factory = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    total = at = 0
    try:
        while at < len(view):
            frame = factory.decompressobj()
            while not frame.eof:
                if at >= len(view):
                    raise BadRecordError("the object's last frame is cut short")
                piece = frame.decompress(view[at : at + _INPUT_STEP])
                at = min(at + _INPUT_STEP, len(view)) - len(frame.unused_data)
                total += len(piece)
                if total > limit:
                    raise BadRecordError(f"the object unpacks to more than {limit} bytes")
                if piece:
                    yield piece
    except zstandard.ZstdError as error:
        raise BadRecordError(f"the object cannot be unpacked: {error}") from error
