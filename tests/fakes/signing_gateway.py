"""A gateway that signs requests to a bucket and is that bucket too, on loopback; it can be bad.

Speaks the protocol of `/internal/objects/sign`. What was signed holds for one method, key, length
and digest, once, as a bucket keeps signed conditions.
"""

import contextlib
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from spanyard_core.serve import problem, serving


@dataclass
class SigningGateway:
    """`objects` is the bucket; the other fields say what goes wrong next."""

    token: str = "t-1"
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    refusal: tuple[int, str] | None = None
    """Status and detail of every answer to `sign`."""
    trouble: list[str] = field(default_factory=list)
    """What happens to the next requests to the bucket, in order: `expired`, `lost` (done, and the
    answer is not sent), `away`, `conflict`; empty: nothing."""
    ranges: bool = True
    url: str = ""
    relative: bool = False
    """Addresses are given without the host: it takes the bytes itself."""
    signed: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def sign(self, request: web.Request) -> web.Response:
        self.calls["sign"] += 1
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return problem(401, "Unauthorized", "the token is not known")
        if self.refusal:
            return problem(self.refusal[0], "Refused", self.refusal[1])
        wish = await request.json()
        self.asked.append(wish)
        key, there = wish["key"], self.objects.get(wish["key"])
        facts = {"exists": True, "size": len(there or b"")}
        facts["sha256"] = hashlib.sha256(there or b"").hexdigest()
        if wish["op"] == "put" and there is not None:
            return web.json_response(facts, status=409)
        if wish["op"] != "put" and there is None:
            return problem(404, "Not found", f"there is no {key}")
        if wish["op"] == "head":
            return web.json_response(facts)
        signature = secrets.token_hex(8)
        self.signed[signature] = wish
        place = f"/bucket/{signature}?x=a%2Fb"
        headers = {"X-Signature": signature}
        if wish["op"] == "put":
            headers |= {"If-None-Match": "*", "Content-Length": str(wish["size"])}
        method = wish["op"].upper()
        url = place if self.relative else self.url + place
        answer = {"method": method, "url": url, "headers": headers, "expiresIn": 60}
        return web.json_response(answer)

    async def bucket(self, request: web.Request) -> web.StreamResponse:
        self.calls[request.method] += 1
        trouble = self.trouble.pop(0) if self.trouble else ""
        body = await request.read()
        wish = self.signed.pop(request.match_info["signature"], None)
        assert request.raw_path.endswith("?x=a%2Fb"), "the address was not sent as it was signed"
        if trouble == "expired" or wish is None:
            return web.Response(status=403, text="Request has expired")
        if trouble == "away":
            return web.Response(status=503)
        if trouble == "conflict":
            return web.Response(status=409)
        if request.headers.get("X-Signature") is None or request.method != wish["op"].upper():
            return web.Response(status=403, text="SignatureDoesNotMatch")
        key = wish["key"]
        if request.method == "GET":
            return self._get(request, self.objects[key])
        if len(body) != wish["size"] or hashlib.sha256(body).hexdigest() != wish["sha256"]:
            return web.Response(status=400, text="BadDigest")
        if key in self.objects:
            return web.Response(status=412)
        self.objects[key] = body
        if trouble == "lost":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=200)

    def _get(self, request: web.Request, data: bytes) -> web.Response:
        wanted = request.http_range
        if wanted.start is None or not self.ranges:
            return web.Response(body=data)
        if wanted.start >= len(data):
            return web.Response(status=416)
        return web.Response(status=206, body=data[wanted])


@contextlib.asynccontextmanager
async def signing_gateway(**options: Any) -> AsyncIterator[SigningGateway]:
    """One that listens at its `url` while the block runs."""
    gateway = SigningGateway(**options)
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(
        [
            web.post("/internal/objects/sign", gateway.sign),
            web.route("*", "/bucket/{signature}", gateway.bucket),
        ]
    )
    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        gateway.url = address.url
        yield gateway
