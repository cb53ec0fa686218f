"""docs/clickhouse-front.md: its commands, run as they stand, with curl."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from spanyard_gateway.sql import SqlLimits
from spanyard_gateway.sql.gate import WAITING
from tests.e2e.blocks import blocks_of, looks_like
from tests.fakes.front import TOKEN, running_front

pytestmark = pytest.mark.engine

NAME = "docs/clickhouse-front.md"
PAGE = (Path(__file__).parents[2] / NAME).read_text("utf-8")


async def test_the_commands_show_what_the_page_shows(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed; on Debian and Ubuntu: apt-get install curl")
    file = tmp_path / "token"
    file.write_text(TOKEN)
    commands = [command for block in blocks_of(NAME, PAGE) for command in block.commands]
    assert len(commands) > 3
    async with running_front() as front:
        here = f"127.0.0.1:{front.port}"
        script = ["set -eu", *(c.text.replace("127.0.0.1:8123", here) for c in commands)]
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", "\n".join(script),
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "TOKEN_FILE": str(file)},
        )  # fmt: skip
        output, _ = await process.communicate()
    assert process.returncode == 0
    shown = [line for command in commands for line in command.shown]
    assert looks_like(shown, output.decode()), output.decode()


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    limits = SqlLimits()
    for shown in (
        f"| time | {limits.seconds:g} s |",
        f"| memory | {limits.memory_bytes // 10**9} GB |",
        f"| answer | {limits.result_bytes // 10**6} MB, {limits.result_rows:,} rows |",
        f"| statement | {limits.statement_bytes:,} bytes |",
        f"and {WAITING} may wait",
    ):
        assert shown in PAGE
