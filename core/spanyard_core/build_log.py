"""The log of a build in storage: its parts while it runs, `build.log` at its end (B4, B5).

Every chunk of a step's output is also put as `builds/{build}/log/{container}-{writer
hash}-{first}-{last}.jsonl.zst`, same bytes, by the collector and before the chunk itself. So the
log is there during the build, and is read from storage alone. Whoever sees the build's end calls
`finish_build_log`, again after an interruption: one text object takes the place of the parts.
"""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spanyard_core.chunks import decode_facts, decoded_blocks
from spanyard_core.errors import BadRecordError, ObjectNotFoundError
from spanyard_core.object_names import check_project, writer_hash
from spanyard_core.storage import Storage

MAX_TEXT_BYTES = 64 << 20
"""A log beyond this is cut, after the part that goes beyond it, and says so; the whole is in storage."""
_CUT_OFF = (
    b"[spanyard: this attempt was interrupted here, and its last lines may be missing; "
    b"the next one begins]\n"
)
"""Every attempt has a pod of its own, and there is a next one only where none came to its end."""
_PART = re.compile(
    r"builds/[^/]+/log/(?P<container>[a-z0-9-]+)-(?P<writer>[0-9a-f]{20})"
    r"-(?P<first>\d+)-(?P<last>\d+)\.jsonl\.zst"
)
_OUTPUT_WRITER = re.compile(r"[^/@]+/(?P<container>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)/\d+@[^/]+")
"""A run of a container, `{pod uid}/{container}/{restart}@{epoch}`; not a span file, not OTLP."""


class _Line(msgspec.Struct):
    message: str = ""
    timestamp: str = ""
    seq: int = 0
    marks: Sequence[str] = ()

    @property
    def text(self) -> str:
        """With its newline, unless the line goes on in the next record."""
        goes_on = "split" in self.marks and "split-end" not in self.marks
        return self.message if goes_on else f"{self.message}\n"


_decoder = msgspec.json.Decoder(_Line)


@dataclass(frozen=True)
class BuildText:
    """What `read_build_log` found."""

    text: str
    complete: bool
    truncated: bool


@dataclass(frozen=True)
class FinishedLog:
    """What `finish_build_log` did."""

    lines: int
    size: int
    """Bytes of the text."""
    damaged: Sequence[str] = ()
    """Keys of parts that could not be read; they are kept, and the text has a line for each."""


def log_key(build: str) -> str:
    """Key of the log of a build that has ended; `build` is an id."""
    return f"builds/{check_project(build)}/build.log"


def part_key(build: str, chunk: bytes) -> str | None:
    """Key of the part for a chunk's bytes, or None when it is no output of a container.

    Raises BadRecordError for what is no chunk.
    """
    facts, _ = decode_facts(chunk)
    match = _OUTPUT_WRITER.fullmatch(facts.writer) if facts.signal == "logs" else None
    if match is None:
        return None
    name = f"{match['container']}-{writer_hash(facts.writer)}-{facts.first}-{facts.last}"
    return f"builds/{check_project(build)}/log/{name}.jsonl.zst"


# --- reading ---------------------------------------------------------------------------------


async def read_build_log(storage: Storage, build: str) -> BuildText:
    """The log of a build. Raises ObjectNotFoundError when it left nothing, StorageError."""
    with contextlib.suppress(ObjectNotFoundError):
        return await _whole(storage, build)
    found = await _from_parts(storage, build)
    # The build may have ended meanwhile: then some of its parts, or all, were gone already.
    with contextlib.suppress(ObjectNotFoundError):
        return await _whole(storage, build)
    if found is None:
        raise ObjectNotFoundError(f"build {build!r} left no log in storage")
    return found


async def _whole(storage: Storage, build: str) -> BuildText:
    raw = await storage.read(f"builds/{build}/build.log", length=MAX_TEXT_BYTES + 1)
    cut = len(raw) > MAX_TEXT_BYTES
    return BuildText(raw[:MAX_TEXT_BYTES].decode("utf-8", "replace"), complete=True, truncated=cut)


async def _from_parts(storage: Storage, build: str) -> BuildText | None:
    """None when there are no parts, or one went away."""
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
            return None
        try:
            text = b"".join(decoded_blocks(data, limit=MAX_TEXT_BYTES))
        except BadRecordError:
            truncated = True  # one damaged part must not hide the others
            continue
        for raw in text.splitlines():
            try:
                line = _decoder.decode(raw)
            except msgspec.DecodeError:
                truncated = True
                continue
            size += len(line.message.encode("utf-8", "replace")) + 1
            # Steps follow each other: by time, and within a container by number.
            lines.append((line.timestamp, match["container"], line.seq, line.text))
        if size > MAX_TEXT_BYTES:
            truncated = True
            break
    if not parts:
        return None
    lines.sort()
    return BuildText("".join(line[3] for line in lines), complete=False, truncated=truncated)


@dataclass(frozen=True, order=True)
class _Part:
    container: str
    writer: str
    first: int
    last: int
    key: str


async def read_tail(
    storage: Storage, build: str, container: str, *, pod: str = "", lines: int = 20
) -> list[str]:
    """The last lines of a container's newest run, of what is stored as parts; empty without any.

    `pod`, a uid: of this pod alone. Reads one part, or a few when the last ones are short. Raises
    StorageError.
    """
    parts = [part for part in await _parts(storage, build) if part.container == container]
    runs = await _in_order(storage, parts)
    if not runs or (pod and runs[-1][0] != pod):
        return []
    text = ""
    for part in reversed(runs[-1][1]):
        more, *_ = await asyncio.to_thread(_text, await storage.read(part.key), 0)
        text = more.decode("utf-8") + text
        if text.count("\n") > lines:
            break
    return text.removesuffix("\n").split("\n")[-lines:] if text else []


# --- the end ---------------------------------------------------------------------------------


async def begin_build_log(storage: Storage, build: str, *, first: bool = False) -> None:
    """A build that ended starts again: its log is that of the new run. Repeatable.

    Parts of a run that was interrupted before `finish_build_log` stay: they belong to the log.
    `first`: it never ran, so whatever is there is of another build that had its name.
    """
    key = log_key(build)
    if first or await storage.exists(key):
        await _delete(storage, await _parts(storage, build))
        with contextlib.suppress(ObjectNotFoundError):
            await storage.delete(key)


async def finish_build_log(storage: Storage, build: str, *, open_tail: str = "") -> FinishedLog:
    """Make one readable object of the parts, then delete them. Repeatable at any point.

    Call it when all collectors of the build's pods have stored everything: a part that comes later
    is not in it. Where a collector went away before that, `open_tail` says so in a last line. Holds
    one part in memory. Raises StorageError, OSError (the temporary file).
    """
    key = log_key(build)
    parts = await _parts(storage, build)
    if await storage.exists(key):  # an earlier call came so far
        await _delete(storage, parts)
        return FinishedLog(0, 0)
    lines = 0
    damaged: list[str] = []
    with tempfile.NamedTemporaryFile(prefix="spanyard-build-log-") as file:
        before = ""
        for pod, writer in await _in_order(storage, parts):
            if before and pod and pod != before:
                await asyncio.to_thread(file.write, _CUT_OFF)
            before = pod or before
            seen = 0
            for part in writer:
                data = await storage.read(part.key)
                text, added, seen, whole = await asyncio.to_thread(_text, data, seen)
                if not whole:
                    damaged.append(part.key)
                    text += f"[spanyard: a part of the log cannot be read: {part.key}]\n".encode()
                lines += added
                await asyncio.to_thread(file.write, text)
        if open_tail:
            await asyncio.to_thread(file.write, f"[spanyard: {open_tail}]\n".encode())
        file.flush()
        size = file.tell()
        await storage.write_file(key, Path(file.name))
    await _delete(storage, [part for part in parts if part.key not in damaged])
    return FinishedLog(lines, size, damaged)


async def _parts(storage: Storage, build: str) -> list[_Part]:
    return [
        _Part(match["container"], match["writer"], int(match["first"]), int(match["last"]), info.key)
        async for info in storage.list(f"builds/{check_project(build)}/log/")
        if (match := _PART.fullmatch(info.key))
    ]  # fmt: skip


async def _in_order(storage: Storage, parts: Sequence[_Part]) -> list[tuple[str, list[_Part]]]:
    """Parts by writer, in the order of their numbers; writers by their first record's time, each
    with the uid of its pod (empty where its first part cannot be read).

    Steps of a build follow each other, and so do its attempts: no two write at a time.
    """
    writers: dict[tuple[str, str], list[_Part]] = {}
    for part in sorted(parts):
        writers.setdefault((part.container, part.writer), []).append(part)
    began: list[tuple[int, str, list[_Part]]] = []
    for group in writers.values():
        try:
            facts, _ = decode_facts(await storage.read(group[0].key, length=4096))
            began.append((facts.time_ns, facts.writer.partition("/")[0], group))
        except BadRecordError:
            began.append((0, "", group))
    began.sort(key=lambda one: (one[0], one[2][0]))
    return [(pod, group) for _, pod, group in began]


def _text(data: bytes, seen: int) -> tuple[bytes, int, int, bool]:
    """The text of a part after the number `seen`, its lines, its last number, and whether all of it
    could be read."""
    made: list[str] = []
    whole = True
    for raw in _raw_lines(data):
        if raw is None:
            whole = False
            continue
        try:
            line = _decoder.decode(raw)
        except msgspec.DecodeError:
            whole = False
            continue
        if line.seq > seen:
            seen = line.seq
            made.append(line.text)
    return "".join(made).encode("utf-8", "replace"), len(made), seen, whole


def _raw_lines(data: bytes) -> Iterator[bytes | None]:
    rest = b""
    try:
        for block in decoded_blocks(data):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
    except BadRecordError:
        yield None
        return
    if rest:
        yield rest


async def _delete(storage: Storage, parts: Sequence[_Part]) -> None:
    for part in parts:
        await storage.delete(part.key)
