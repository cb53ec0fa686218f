"""What an attack by SQL would touch: a secret, a listener, a folder, tables."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from spanyard_core.clickhouse import Database
from spanyard_core.errors import SpanyardError
from spanyard_gateway.sql import read_only
from tests.fakes.engine import migrated_database

SECRET = "the-secret-of-this-machine"


@dataclass
class Bait:
    """What an attack would touch."""

    database: Database
    secret: Path
    folder: Path
    port: int
    visitors: list[str]

    async def ask(self, query: str, **options: object) -> bytes:
        result = await read_only(self.database, query, format="TabSeparated", **options)  # type: ignore[arg-type]
        return result.data

    async def attack(self, query: str) -> bool:
        """Whether the statement ran. Fails if it told the secret."""
        try:
            told, ran = await self.ask(query), True
        except SpanyardError as error:
            told, ran = str(error).encode(), False
        assert SECRET.encode() not in told, query
        return ran

    async def check(self) -> None:
        """Nobody called, nothing was written, nothing was changed."""
        assert self.visitors == []
        assert sorted(path.name for path in self.folder.iterdir()) == []
        [row] = await self.database.rows("SELECT count() AS n FROM logs")
        assert row["n"] == 0
        tables = await self.database.rows("SHOW TABLES")
        assert "bait_table" not in {row["name"] for row in tables}


@asynccontextmanager
async def baited(tmp_path: Path) -> AsyncIterator[Bait]:
    secret, folder = tmp_path / "secret.txt", tmp_path / "written"
    secret.write_text(SECRET)
    folder.mkdir()
    visitors: list[str] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append("somebody")
        writer.close()

    listener = await asyncio.start_server(visited, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, migrated_database(pool=2) as opened:
        made = Bait(opened, secret, folder, port, visitors)
        yield made
        await made.check()
