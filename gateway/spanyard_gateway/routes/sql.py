"""SQL by reading alone: what `spanyard sql` asks."""

from typing import Any

import msgspec
from aiohttp import web

from spanyard_core.errors import BadRecordError, DatabaseError, DatabaseUnavailableError
from spanyard_core.serve import problem
from spanyard_gateway.auth.rights import READ, Everywhere
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.params import Query
from spanyard_gateway.sql import SqlLimits, SqlRefusedError, read_only
from spanyard_gateway.state import READER, SETTINGS


class Statement(msgspec.Struct, forbid_unknown_fields=True):
    """One statement that only reads: SELECT, WITH, SHOW, DESCRIBE, EXISTS or EXPLAIN."""

    query: str
    params: dict[str, str] = {}
    """Values for `{name:Type}` in the query."""
    format: str = "JSON"
    """A format of ClickHouse; one in the query itself wins."""


async def _sql(request: web.Request, query: Query) -> Any:
    try:
        asked = msgspec.json.decode(await request.read(), type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f'the body is not {{"query": "SELECT …"}}: {error}') from error
    settings = request.app[SETTINGS]
    limits = SqlLimits(seconds=settings.query_timeout, memory_bytes=settings.query_memory)
    try:
        result = await read_only(
            request.app[READER].database,
            asked.query,
            params=asked.params,
            format=asked.format,
            limits=limits,
        )
    except SqlRefusedError as error:
        return problem(400, "Refused", str(error))
    except DatabaseUnavailableError:
        raise
    except DatabaseError as error:
        return problem(400, "ClickHouse refuses", str(error), code=error.code)
    return web.Response(
        body=result.data,
        headers={
            "Content-Type": result.content_type,
            "X-ClickHouse-Format": result.form,
            "X-Spanyard-Rows-Read": str(result.rows_read),
            "X-Spanyard-Elapsed-Ns": str(result.elapsed_ns),
        },
    )


ENDPOINTS = [
    Endpoint(
        "POST",
        "/sql",
        "Ask in SQL",
        bytes,
        _sql,
        "sql",
        description="One statement that only reads, within the limits of every query. Tables and "
        "views are those of `SHOW TABLES`; values are bound by `params`.",
        body=Statement,
        check=Everywhere((READ,)),
        body_required=True,
        media_types=(
            "application/json",
            "application/x-ndjson",
            "text/csv",
            "text/tab-separated-values",
            "application/octet-stream",
        ),
        errors=(400, 413),
    ),
]
