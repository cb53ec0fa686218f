"""The XML API of GCS over HTTP, and a back door under `/_control` to break it on purpose.

Runs as a process of its own: `python -m tests.fakes.gcs_server_http` prints its port and serves
until its standard input closes, so that it never outlives the test that started it.

A fault is a JSON object; the first that matches a request and has `times` left is used:
`method`, `key` (part of the object's key), `skip` (matching requests to let pass first), `times`
(how often, default 1), `delay` (seconds before anything is done), `status` + `code` (answer this),
`drop` (close the connection without an answer), `after` (do what was asked first).
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from aiohttp import web

from tests.fakes.gcs_server_objects import (
    BUCKET,
    MAX_KEYS,
    READER_TOKEN,
    WRITER_TOKEN,
    Bucket,
    GcsError,
    GcsObject,
    cut_range,
    no_such_bucket,
)
from tests.fakes.gcs_signed import SIGNATURE, check_signed

_META = "x-goog-meta-"
_XMLNS = "http://doc.s3.amazonaws.com/2006-03-01"


@dataclass(slots=True)
class Fault:
    method: str = ""
    key: str = ""
    skip: int = 0
    times: int = 1
    delay: float = 0.0
    status: int = 0
    code: str = "InternalError"
    drop: bool = False
    after: bool = False

    def matches(self, method: str, key: str) -> bool:
        return self.times > 0 and self.method in {"", method} and self.key in key


class GcsApp:
    """Handlers and their state. One event loop: what lies between two awaits is atomic."""

    def __init__(self) -> None:
        self.buckets = {BUCKET: Bucket(BUCKET)}
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.signer = ""
        """Public key (PEM) of the service account whose signed addresses count."""
        self.app = web.Application(client_max_size=1 << 30)
        self.app.router.add_post("/_control/faults", self.set_faults)
        self.app.router.add_get("/_control/requests", self.take_requests)
        self.app.router.add_post("/_control/signer", self.set_signer)
        self.app.router.add_route("*", "/{tail:.*}", self.serve)

    async def set_faults(self, request: web.Request) -> web.Response:
        """Replace the list of faults."""
        self.faults = [Fault(**fault) for fault in await request.json()]
        return web.json_response({"faults": len(self.faults)})

    async def set_signer(self, request: web.Request) -> web.Response:
        """Know a service account's key."""
        self.signer = (await request.json())["pem"]
        return web.json_response({})

    async def take_requests(self, request: web.Request) -> web.Response:
        """What was asked since the last call."""
        taken, self.requests = self.requests, []
        return web.json_response(
            {"requests": taken, "open_uploads": self.buckets[BUCKET].open_uploads}
        )

    async def serve(self, request: web.Request) -> web.StreamResponse:
        raw_path, _, raw_query = request.raw_path.partition("?")
        bucket, _, key = unquote(raw_path).removeprefix("/").partition("/")
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        body = await request.read()
        fault = self._take_fault(request.method, key)
        if fault is not None and fault.delay:
            await asyncio.sleep(fault.delay)
        response: web.Response | None = None
        if fault is None or fault.after or not (fault.status or fault.drop):
            try:
                response = self._answer(request, bucket, key, query, body)
            except GcsError as error:
                response = _error(error, head=request.method == "HEAD")
        if fault is not None and fault.drop:
            assert request.transport is not None
            request.transport.abort()
            response = web.Response(status=500)  # goes nowhere
        elif fault is not None and fault.status:
            response = _error(
                GcsError(fault.status, fault.code, "injected"), head=request.method == "HEAD"
            )
        assert response is not None
        self.requests.append(
            {"method": request.method, "key": key, "query": query, "status": response.status}
        )
        return response

    def _take_fault(self, method: str, key: str) -> Fault | None:
        for fault in self.faults:
            if fault.matches(method, key):
                if fault.skip > 0:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def _answer(
        self, request: web.Request, name: str, key: str, query: dict[str, str], body: bytes
    ) -> web.Response:
        if SIGNATURE in query:
            path, _, asked = request.raw_path.partition("?")
            check_signed(self.signer, request.method, path, asked, request.headers, body)
        else:
            _authorize(request)
        bucket = self.buckets.get(name)
        if bucket is None:
            raise no_such_bucket()
        match request.method:
            case "GET" if not key:
                return _list(bucket, query)
            case "GET" | "HEAD":
                return _read(bucket.get(key), request)
            case "PUT" if "uploadId" in query:
                etag = bucket.put_part(key, query["uploadId"], int(query["partNumber"]), body)
                # As the real one does for parts: an ETag, no generation.
                return web.Response(headers={"ETag": etag})
            case "PUT" if "x-goog-copy-source" in request.headers:
                return self._copy(request, bucket, key)
            case "PUT":
                stored = bucket.put(key, body, _condition(request))
                stored.meta.update(
                    {
                        n.lower(): v
                        for n, v in request.headers.items()
                        if n.lower().startswith(_META)
                    }
                )
                return web.Response(headers=_headers(stored))
            case "POST" if "uploads" in query:
                text = (
                    f"<Bucket>{escape(name)}</Bucket><Key>{escape(key)}</Key>"
                    f"<UploadId>{bucket.start_upload(key)}</UploadId>"
                )
                return _xml("InitiateMultipartUploadResult", text)
            case "POST" if "uploadId" in query:
                stored = bucket.complete_upload(key, query["uploadId"], _parts(body))
                text = f"<Key>{escape(key)}</Key><ETag>{escape(stored.etag)}</ETag>"
                return _xml("CompleteMultipartUploadResult", text, _headers(stored))
            case "DELETE" if "uploadId" in query:
                bucket.abort_upload(key, query["uploadId"])
                return web.Response(status=204)
            case "DELETE":
                bucket.delete(key)
                return web.Response(status=204)
            case _:
                raise GcsError(405, "MethodNotAllowed", "The method is not allowed.")

    def _copy(self, request: web.Request, bucket: Bucket, key: str) -> web.Response:
        source = unquote(request.headers["x-goog-copy-source"]).removeprefix("/")
        source_bucket, _, source_key = source.partition("/")
        if source_bucket not in self.buckets:
            raise no_such_bucket()
        data = self.buckets[source_bucket].get(source_key).data
        stored = bucket.put(key, data, _condition(request))
        text = (
            f"<LastModified>{stored.modified.isoformat()}</LastModified>"
            f"<ETag>{escape(stored.etag)}</ETag>"
        )
        return _xml("CopyObjectResult", text, _headers(stored))


def _authorize(request: web.Request) -> None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in {WRITER_TOKEN, READER_TOKEN}:
        raise GcsError(401, "AuthenticationRequired", "Authentication required.")
    if token == READER_TOKEN and request.method not in {"GET", "HEAD"}:
        raise GcsError(403, "AccessDenied", "Access denied.")


def _condition(request: web.Request) -> int | None:
    text = request.headers.get("x-goog-if-generation-match")
    return None if text is None else int(text)


def _headers(stored: GcsObject) -> dict[str, str]:
    return {
        "ETag": stored.etag,
        "Last-Modified": stored.modified.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": "1",
        "x-goog-stored-content-length": str(len(stored.data)),
        **stored.meta,
    }


def _read(stored: GcsObject, request: web.Request) -> web.Response:
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    headers |= _headers(stored)
    found = cut_range(stored.data, request.headers.get("Range"))
    if request.method == "HEAD":
        return web.Response(headers=headers | {"Content-Length": str(len(stored.data))})
    if found is None:
        return web.Response(body=stored.data, headers=headers)
    first, last = found
    headers["Content-Range"] = f"bytes {first}-{last}/{len(stored.data)}"
    return web.Response(status=206, body=stored.data[first : last + 1], headers=headers)


def _list(bucket: Bucket, query: dict[str, str]) -> web.Response:
    if query.get("list-type") != "2":
        raise GcsError(400, "InvalidArgument", "Only list-type=2 is served here.")
    max_keys = min(int(query.get("max-keys", MAX_KEYS)), MAX_KEYS)
    page = bucket.page(
        query.get("prefix", ""),
        start_after=query.get("start-after", ""),
        token=query.get("continuation-token"),
        delimiter=query.get("delimiter", ""),
        max_keys=max_keys,
    )
    text = [f"<Name>{bucket.name}</Name><Prefix>{escape(query.get('prefix', ''))}</Prefix>"]
    text.append(f"<KeyCount>{len(page.objects) + len(page.prefixes)}</KeyCount>")
    text.append(f"<MaxKeys>{max_keys}</MaxKeys>")
    text.append(f"<IsTruncated>{'true' if page.next_token else 'false'}</IsTruncated>")
    if page.next_token:
        text.append(f"<NextContinuationToken>{page.next_token}</NextContinuationToken>")
    text += [
        f"<Contents><Key>{escape(key)}</Key><Generation>{found.generation}</Generation>"
        f"<MetaGeneration>1</MetaGeneration>"
        f"<LastModified>{found.modified.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}</LastModified>"
        f"<ETag>{escape(found.etag)}</ETag><Size>{len(found.data)}</Size></Contents>"
        for key, found in page.objects
    ]
    text += [
        f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
        for prefix in page.prefixes
    ]
    return _xml("ListBucketResult", "".join(text))


def _parts(body: bytes) -> list[tuple[int, str]]:
    parts = []
    for part in ET.fromstring(body).iter():
        if part.tag.rpartition("}")[2] == "Part":
            fields = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
            parts.append((int(fields["PartNumber"]), fields["ETag"]))
    return parts


def _xml(root: str, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = f"<?xml version='1.0' encoding='UTF-8'?><{root} xmlns='{_XMLNS}'>{text}</{root}>"
    return web.Response(text=body, content_type="application/xml", headers=headers)


def _error(error: GcsError, *, head: bool) -> web.Response:
    body = (
        "<?xml version='1.0' encoding='UTF-8'?><Error>"
        f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
    )
    return web.Response(
        status=error.status, text="" if head else body, content_type="application/xml"
    )


async def main() -> None:
    """Serve on a free loopback port until standard input closes."""
    runner = web.AppRunner(GcsApp().app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
