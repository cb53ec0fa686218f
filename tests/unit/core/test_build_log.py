"""The log of a build from its parts: damaged ones, and parts that become one object meanwhile."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core import build_log
from spanyard_core.build_log import (
    begin_build_log,
    finish_build_log,
    log_key,
    part_key,
    read_build_log,
    read_tail,
)
from spanyard_core.chunks import ChunkWriter
from spanyard_core.errors import ObjectExistsError, ObjectNotFoundError, StorageError
from spanyard_core.records import LogLine
from spanyard_core.storage import ObjectInfo, Storage, open_storage
from spanyard_sidecar.build_parts import BuildParts
from tests.fakes.gateway_api import chunk


def part(first: int, *messages: str) -> tuple[str, bytes]:
    lines: list[Any] = [
        LogLine(project="local.b", writer="u/builder/0@e", seq=first + i, build="local.b",
                timestamp=f"2026-11-21T14:45:{first + i:02d}.000000000Z", level="info", message=text)
        for i, text in enumerate(messages)
    ]  # fmt: skip
    name = f"builder-{'0' * 20}-{first}-{first + len(messages) - 1}.jsonl.zst"
    return f"builds/local.b/log/{name}", chunk("logs", lines)[1]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}")


async def test_a_damaged_part_or_line_does_not_hide_the_others(storage: Storage) -> None:
    await storage.write(*part(1, "one", "two"))
    key, data = part(3, "three")
    await storage.write(key, data[:-4])
    import zstandard

    broken = zstandard.compress(b'{"message": "four", "seq": 4}\n{"mess\n[]\n')
    await storage.write(f"builds/local.b/log/builder-{'0' * 20}-4-6.jsonl.zst", broken)
    log = await read_build_log(storage, "local.b")
    assert (log.complete, log.truncated, log.text) == (False, True, "four\none\ntwo\n")
    await storage.close()


async def test_parts_that_become_one_object_while_they_are_read_are_read_as_that(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.write(*part(1, "one"))
    read = type(storage).read

    async def gone(self: Any, key: str, **more: Any) -> bytes:
        if "/log/" in key:
            await self.write("builds/local.b/build.log", b"one\ntwo\n")
            raise ObjectNotFoundError(key)
        return await read(self, key, **more)

    monkeypatch.setattr(type(storage), "read", gone)
    log = await read_build_log(storage, "local.b")
    assert (log.complete, log.text) == (True, "one\ntwo\n")
    await storage.close()


@pytest.mark.parametrize("calls", range(10))
async def test_a_build_that_ends_before_its_parts_are_listed_has_all_its_lines(
    storage: Storage, calls: int
) -> None:
    await put(storage, run_of("fetch", 10, 1, "one"))
    await put(storage, run_of("build", 20, 1, "two"))
    log = await read_build_log(Ending(storage, calls), "local.b")
    assert log.text == "one\ntwo\n"
    assert log.complete == await storage.exists(log_key("local.b"))
    await storage.close()


async def test_a_log_beyond_the_limit_is_cut_and_says_so(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_log, "MAX_TEXT_BYTES", 4_500)
    for first in range(1, 60, 10):
        await storage.write(*part(first, *["x" * 99] * 10))
    log = await read_build_log(storage, "local.b")
    assert (log.truncated, len(log.text)) == (True, 5_000)
    with pytest.raises(ObjectNotFoundError):
        await read_build_log(storage, "local.none")
    await storage.close()


def run_of(
    container: str, second: int, first: int, *messages: str, marks: Any = (), pod: str = "u"
) -> bytes:
    """A chunk of the output of a container that began at `second`."""
    lines: list[Any] = [
        LogLine(project="local.b", writer=f"{pod}/{container}/0@e", seq=first + i, build="local.b",
                timestamp=f"2026-11-21T14:45:{second:02d}.00000000{i}Z", level="info",
                message=text, marks=list(marks))
        for i, text in enumerate(messages)
    ]  # fmt: skip
    writer = ChunkWriter()
    writer.add(msgspec.json.Encoder().encode_lines(lines), len(lines))
    _, parts = writer.finish(
        signal="logs",
        project="local.b",
        writer=lines[0].writer,
        first=first,
        last=lines[-1].seq,
        time_ns=second * 10**9,
    )
    return b"".join(parts)


async def put(storage: Storage, data: bytes) -> None:
    await storage.write(part_key("local.b", data) or "none", data)


async def keys(storage: Storage) -> list[str]:
    return [info.key async for info in storage.list("")]


class TestTheTail:
    async def test_it_is_of_the_newest_run_of_the_container(self, storage: Storage) -> None:
        await put(storage, run_of("build", 20, 1, *[f"line {n}" for n in range(1, 9)]))
        await put(storage, run_of("build", 20, 9, "half of ", marks=["split"]))
        await put(storage, run_of("build", 20, 10, "a line", marks=["split", "split-end"]))
        await put(storage, run_of("install", 30, 1, "another step"))
        tail = await read_tail(storage, "local.b", "build", lines=3)
        assert tail == ["line 7", "line 8", "half of a line"]
        assert await read_tail(storage, "local.b", "build", pod="u", lines=1) == tail[-1:]
        await storage.close()

    async def test_there_is_none_without_output_of_that_pod(self, storage: Storage) -> None:
        await put(storage, run_of("build", 20, 1, "of an earlier attempt"))
        assert await read_tail(storage, "local.b", "build", pod="another") == []
        assert await read_tail(storage, "local.b", "install") == []
        await storage.close()


class TestTheEnd:
    async def test_parts_become_one_text_in_the_order_of_the_steps(self, storage: Storage) -> None:
        await put(storage, run_of("publish", 30, 1, "packed"))
        await put(storage, run_of("build", 20, 9, *[f"line {n}" for n in range(9, 12)]))
        await put(storage, run_of("build", 20, 1, *[f"line {n}" for n in range(1, 9)]))
        await put(storage, run_of("build", 20, 12, "half of ", marks=["split"]))
        await put(storage, run_of("build", 20, 13, "a line", marks=["split", "split-end"]))
        await put(storage, run_of("fetch", 10, 1, "copied"))
        wanted = "copied\n" + "".join(f"line {n}\n" for n in range(1, 12))
        wanted += "half of a line\npacked\n"
        assert (await read_build_log(storage, "local.b")).complete is False
        done = await finish_build_log(storage, "local.b")
        assert (done.lines, done.size, list(done.damaged)) == (15, len(wanted), [])
        assert await keys(storage) == [log_key("local.b")]
        found = await read_build_log(storage, "local.b")
        assert (found.text, found.complete) == (wanted, True)
        await storage.close()

    async def test_interrupted_after_any_call_of_storage_it_is_done_by_the_next(
        self, tmp_path: Path
    ) -> None:
        wanted, calls = "one\ntwo\nthree\n", 0
        while True:
            storage = open_storage(f"file://{tmp_path}/{calls}")
            await put(storage, run_of("fetch", 10, 1, "one"))
            await put(storage, run_of("build", 20, 1, "two"))
            await put(storage, run_of("build", 20, 2, "three"))
            limping = Limping(storage, calls)
            try:
                await finish_build_log(limping, "local.b")
                done = True
            except StorageError:
                done = False
            await finish_build_log(storage, "local.b")
            assert (await read_build_log(storage, "local.b")).text == wanted
            assert await keys(storage) == [log_key("local.b")]
            await storage.close()
            if done:
                break
            calls += 1
        assert calls >= 9

    async def test_a_line_that_two_parts_hold_is_there_once(self, storage: Storage) -> None:
        await put(storage, run_of("build", 20, 1, "one", "two"))
        await put(storage, run_of("build", 20, 1, "one", "two", "three"))
        await put(storage, run_of("build", 20, 3, "three", "four"))
        await finish_build_log(storage, "local.b")
        assert (await read_build_log(storage, "local.b")).text == "one\ntwo\nthree\nfour\n"
        await storage.close()

    async def test_where_an_attempt_was_interrupted_the_text_says_that_something_may_be_missing(
        self, storage: Storage
    ) -> None:
        for second, container, pod in (
            (10, "fetch", "a"), (20, "build", "a"), (30, "fetch", "b"), (40, "fetch", "c"),
            (50, "build", "c"),
        ):  # fmt: skip
            await put(storage, run_of(container, second, 1, f"{container} of {pod}", pod=pod))
        await finish_build_log(storage, "local.b", open_tail="and its end")
        lines = (await read_build_log(storage, "local.b")).text.splitlines()
        told = [line.split(",")[0] for line in lines]
        cut = "[spanyard: this attempt was interrupted here"
        assert told == ["fetch of a", "build of a", cut, "fetch of b", cut, "fetch of c",
                        "build of c", "[spanyard: and its end]"]  # fmt: skip
        await storage.close()

    async def test_a_damaged_part_is_told_in_the_text_and_kept(self, storage: Storage) -> None:
        await put(storage, run_of("build", 20, 1, "one"))
        data = run_of("build", 20, 2, "two")
        await storage.write(part_key("local.b", data) or "", data[:-4])
        done = await finish_build_log(storage, "local.b")
        assert len(done.damaged) == 1
        text = (await read_build_log(storage, "local.b")).text
        assert text.startswith(
            "one\ntwo\n[spanyard: a part of the log cannot be read: builds/local.b/"
        )
        assert done.damaged[0] in await keys(storage)
        await storage.close()

    async def test_a_build_that_starts_again_has_the_log_of_its_new_run(
        self, storage: Storage
    ) -> None:
        await put(storage, run_of("build", 20, 1, "of an interrupted attempt"))
        await begin_build_log(storage, "local.b")
        assert (await read_build_log(storage, "local.b")).text == "of an interrupted attempt\n"
        await finish_build_log(storage, "local.b")
        await put(storage, run_of("build", 25, 2, "left by a finish that was interrupted"))
        await begin_build_log(storage, "local.b")
        assert await keys(storage) == []
        await storage.close()

    async def test_a_build_that_never_ran_has_nothing_of_another_by_its_name(
        self, storage: Storage
    ) -> None:
        await put(storage, run_of("build", 20, 1, "of a build that was deleted since"))
        await begin_build_log(storage, "local.b", first=True)
        assert await keys(storage) == []
        await storage.close()


class TestParts:
    async def test_a_chunk_of_output_is_stored_as_part_first_and_again_without_harm(
        self, storage: Storage
    ) -> None:
        parts = BuildParts(storage, "local.b")
        name, data = chunk("logs", [LogLine(project="local.b", writer="u/build/0@e", seq=1,
                                            timestamp="2026-11-21T14:45:00Z", level="info",
                                            message="x")])  # fmt: skip
        limping = BuildParts(Limping(storage, 1), "local.b")
        with pytest.raises(StorageError):
            await limping.write(name, data, if_absent=True)
        assert await keys(storage) == [part_key("local.b", data)]
        await parts.write(name, data, if_absent=True)
        with pytest.raises(ObjectExistsError):
            await parts.write(name, data, if_absent=True)
        assert await parts.digest(part_key("local.b", data) or "") == await parts.digest(name)
        await parts.close()

    def test_span_files_and_otlp_are_no_output(self) -> None:
        for writer in ("u/logs/12-ab@e", "u/otlp/logs@e", "u/build/0@e/meta"):
            line = LogLine(project="local.b", writer=writer, seq=1, level="info", message="x",
                           timestamp="2026-11-21T14:45:00Z")  # fmt: skip
            assert part_key("local.b", chunk("logs", [line])[1]) is None


class Limping:
    """Takes `calls` calls and then none."""

    def __init__(self, inner: Storage, calls: int) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name == "local_path":
            return found
        if self._calls <= 0:
            raise StorageError("it is away")
        self._calls -= 1
        return found


class Ending:
    """A build that ends just before its parts are listed, as far as so many calls reach."""

    def __init__(self, inner: Storage, calls: int) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        with contextlib.suppress(StorageError):
            await finish_build_log(Limping(self._inner, self._calls), "local.b")
        async for info in self._inner.list(prefix, after=after):
            yield info
