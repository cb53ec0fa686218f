"""The page at `/ui/`: files that `make page` builds of `gateway/ui`, from memory, with strict headers.

They hold no data, so whoever reaches the gateway may have them; what the page shows it asks of the
API with the reader's own rights. Every deep link is the same document: the address is read there.
"""

import gzip
import html
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib import resources

from aiohttp import web

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    kind: str


@cache
def _files() -> dict[str, _File]:
    folder = resources.files("spanyard_gateway").joinpath("page")
    found = {}
    for place in (folder, folder.joinpath("assets")):
        for file in place.iterdir() if place.is_dir() else ():
            if file.is_file():
                name = file.name if place is folder else f"assets/{file.name}"
                body = file.read_bytes()
                kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                found[name] = _File(body, gzip.compress(body, 9, mtime=0), kind)
    return found


def page_routes(base_path: str) -> list[web.RouteDef]:
    """`/`, `/ui/` and everything below it."""
    root = f"{base_path}/ui/"
    # Assets are named relatively; a deep link has more folders than the document's own place.
    base = f'<head>\n    <base href="{html.escape(root)}" />'.encode()
    document = _files()["index.html"].body.replace(b"<head>", base, 1)
    packed = gzip.compress(document, 9, mtime=0)

    async def go(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(root)

    async def serve(request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"]
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        headers = {**HEADERS, "Vary": "Accept-Encoding"}
        if zipped:
            headers["Content-Encoding"] = "gzip"
        if name.startswith("assets/"):
            file = _files().get(name)
            if file is None:
                raise web.HTTPNotFound
            headers["Cache-Control"] = _YEAR  # their names change with their content
            body = file.packed if zipped else file.body
            return web.Response(body=body, content_type=file.kind, headers=headers)
        headers["Cache-Control"] = "no-cache"
        body = packed if zipped else document
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    return [
        web.get(base_path + "/", go),
        web.get(f"{base_path}/ui", go),
        web.get(root + "{path:.*}", serve),
    ]
