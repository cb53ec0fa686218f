"""The log of a build, from storage alone: its final object, or its parts so far (B4, B5)."""

import re
from dataclasses import dataclass

import msgspec

from spanyard_core.chunks import decoded_blocks
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.storage import Storage

MAX_TEXT_BYTES = 64 << 20
"""A log beyond this is cut, after the part that goes beyond it, and says so; the whole is in storage."""
_PART = re.compile(
    r"builds/[^/]+/log/(?P<container>[a-z0-9-]+)-(?P<writer>[0-9a-f]{20})"
    r"-(?P<first>\d+)-(?P<last>\d+)\.jsonl\.zst"
)


class _Line(msgspec.Struct):
    message: str = ""
    timestamp: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class BuildText:
    """What `read_build_log` found."""

    text: str
    complete: bool
    truncated: bool


async def read_build_log(storage: Storage, build: str) -> BuildText:
    """The log of a build. Raises ObjectNotFoundError when it left nothing, StorageError."""
    try:
        return await _whole(storage, build)
    except ObjectNotFoundError:
        return await _from_parts(storage, build)


async def _whole(storage: Storage, build: str) -> BuildText:
    raw = await storage.read(f"builds/{build}/build.log", length=MAX_TEXT_BYTES + 1)
    cut = len(raw) > MAX_TEXT_BYTES
    return BuildText(raw[:MAX_TEXT_BYTES].decode("utf-8", "replace"), complete=True, truncated=cut)


async def _from_parts(storage: Storage, build: str) -> BuildText:
    decoder = msgspec.json.Decoder(_Line)
    lines: list[tuple[str, str, int, str]] = []
    size = parts = 0
    truncated = False
    async for info in storage.list(f"builds/{build}/log/"):
        match = _PART.fullmatch(info.key)
        if match is None:
            continue
        parts += 1
        try:
            data = await storage.read(info.key)
        except ObjectNotFoundError:
            # The build has ended meanwhile, and its parts became one object.
            return await _whole(storage, build)
        try:
            text = b"".join(decoded_blocks(data, limit=MAX_TEXT_BYTES))
        except BadRecordError:
            truncated = True  # one damaged part must not hide the others
            continue
        for raw in text.splitlines():
            try:
                line = decoder.decode(raw)
            except msgspec.DecodeError:
                truncated = True
                continue
            size += len(line.message.encode("utf-8", "replace")) + 1
            # Steps follow each other: by time, and within a container by number.
            lines.append((line.timestamp, match["container"], line.seq, line.message))
        if size > MAX_TEXT_BYTES:
            truncated = True
            break
    if not parts:
        raise ObjectNotFoundError(f"build {build!r} left no log in storage")
    lines.sort()
    return BuildText("".join(f"{line[3]}\n" for line in lines), complete=False, truncated=truncated)
