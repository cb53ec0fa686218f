"""The log of a build from its parts: damaged ones, and parts that become one object meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from spanyard_core.errors import ObjectNotFoundError
from spanyard_core.records import LogLine
from spanyard_core.storage import Storage, open_storage
from spanyard_gateway import build_logs
from spanyard_gateway.build_logs import read_build_log
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


async def test_a_log_beyond_the_limit_is_cut_and_says_so(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_logs, "MAX_TEXT_BYTES", 4_500)
    for first in range(1, 60, 10):
        await storage.write(*part(first, *["x" * 99] * 10))
    log = await read_build_log(storage, "local.b")
    assert (log.truncated, len(log.text)) == (True, 5_000)
    with pytest.raises(ObjectNotFoundError):
        await read_build_log(storage, "local.none")
    await storage.close()
