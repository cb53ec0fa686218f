"""Archives of sources: what `spanyard deploy` uploads and a Build names by its digest (B2)."""

import asyncio
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from spanyard_core.errors import BadRecordError
from spanyard_core.serve import problem
from spanyard_gateway.auth.rights import UPLOAD, InQuery
from spanyard_gateway.endpoints import Endpoint
from spanyard_gateway.items import SourceArchive
from spanyard_gateway.params import Query
from spanyard_gateway.state import SETTINGS, STORAGE

_DIGEST = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{64})")
_PATH = {"digest": "sha256 of the tar.zst, hex; `sha256:` may stand before it."}


def source_key(digest: str) -> str:
    """Where an archive lies. Raises BadRecordError when the text is not a sha256."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise BadRecordError(f"{digest[:80]!r} is not a sha256 of 64 hex digits")
    return f"sources/{match['hex']}.tar.zst"


def _answer(key: str, size: int | None = None) -> SourceArchive:
    name = key.removeprefix("sources/").removesuffix(".tar.zst")
    return SourceArchive(digest=f"sha256:{name}", key=key, size=size)


async def _one(request: web.Request, query: Query) -> Any:
    key = source_key(request.match_info["digest"])
    if await request.app[STORAGE].exists(key):
        return _answer(key)
    return problem(404, "No such archive", f"There is no {key!r} in storage; upload it by PUT.")


async def _put(request: web.Request, query: Query) -> Any:
    key = source_key(request.match_info["digest"])
    most = request.app[SETTINGS].max_source_size
    too_large = problem(
        413,
        "Too large",
        f"The archive is larger than {most:,} bytes. Leave out what the build does not need "
        "(.spanyardignore), or raise --max-source-size.",
    )
    if (request.content_length or 0) > most:
        return too_large
    storage = request.app[STORAGE]
    hashed, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(prefix="spanyard-source-") as file:
        async for part in request.content.iter_chunked(1 << 18):
            size += len(part)
            if size > most:
                return too_large
            hashed.update(part)
            await asyncio.to_thread(file.write, part)
        if source_key(hashed.hexdigest()) != key:
            raise BadRecordError(
                f"the body's sha256 is {hashed.hexdigest()}, and the address says another; it was "
                "damaged on the way, or changed while it was read: send it again"
            )
        await asyncio.to_thread(file.flush)
        # What is there already has this digest too: to replace it changes nothing.
        await storage.write_file(key, Path(file.name))
    return _answer(key, size)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/sources/{digest}",
        "Whether an archive of sources is there",
        SourceArchive,
        _one,
        "builds",
        params=("namespace",),
        path_params=_PATH,
        check=InQuery((UPLOAD,)),
        errors=(400, 404),
    ),
    Endpoint(
        "PUT",
        "/sources/{digest}",
        "Upload an archive of sources",
        SourceArchive,
        _put,
        "builds",
        description="A tar.zst, checked against its digest; twice is once.",
        params=("namespace",),
        path_params=_PATH,
        check=InQuery((UPLOAD,)),
        body=bytes,
        body_required=True,
        errors=(400, 413),
    ),
]
