"""Exports of a project's records."""

import asyncio
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from aiohttp import web

from spanyard_gateway.auth.rights import READ, InPath
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.params import Query
from spanyard_gateway.queries.export import PARAMS, Export, export_of, json_lines
from spanyard_gateway.routes.common import PROJECT_PATH, project_of
from spanyard_gateway.state import READER, SETTINGS

TIMES_LONGER = 20
"""An export may take this many times as long as a query for a page."""
_BLOCK = 1 << 20
_LINES = 2_000
_MEDIA = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


async def _export(request: web.Request, query: Query) -> Any:
    export = export_of(project_of(request), query)
    reader, settings = request.app[READER], request.app[SETTINGS]
    total = await export.count(reader.rows)
    with tempfile.TemporaryDirectory(prefix="spanyard-export-") as folder:
        path = Path(folder) / f"export.{export.form}"
        await export.write(
            reader.database,
            path,
            seconds=settings.query_timeout * TIMES_LONGER,
            memory=settings.query_memory,
        )
        return await _send(request, export, path, total)


async def _send(request: web.Request, export: Export, path: Path, total: int) -> web.StreamResponse:
    name = f"{project_of(request)}-{export.signal}.{export.form}"
    response = web.StreamResponse(
        headers={
            "Content-Type": _MEDIA[export.form],
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Spanyard-Rows": str(total),
        }
    )
    if not await asyncio.to_thread(path.exists):
        path.touch()  # the engine writes no file of JSON lines when there is no row
    with await asyncio.to_thread(path.open, "rb") as file:
        if export.form == "parquet":
            response.content_length = path.stat().st_size
        await response.prepare(request)
        lines = json_lines(file, export.signal)
        while block := await asyncio.to_thread(_block, export.form, file, lines):
            await response.write(block)
    await response.write_eof()
    return response


def _block(form: str, file: IO[bytes], lines: Iterator[bytes]) -> bytes:
    return file.read(_BLOCK) if form == "parquet" else b"".join(islice(lines, _LINES))


ENDPOINTS = [
    Endpoint(
        "GET",
        "/projects/{id}/export",
        "Records as a file",
        bytes,
        _export,
        "projects",
        description="JSON lines as collectors write them, or Parquet with the same names; of spans "
        "and traces those that have ended. `X-Spanyard-Rows` says how many there were when it began.",
        params=PARAMS,
        attributes=True,
        path_params=PROJECT_PATH,
        check=InPath((READ,)),
        media_types=tuple(_MEDIA.values()),
    ),
]
