"""From where may be asked: on a laptop, by programs of this machine that mean it; in a cluster by
whoever the gate (`auth`) lets in, and by no page of another site.

A web page of any site can make the browser send requests to loopback. So the Host header must be
this machine (a name that an attacker points at 127.0.0.1 is not), and a request that says from
which page it comes (Origin, Sec-Fetch-Site) must come from our own. What changes something must
besides have a form that pages of other sites cannot send without being asked first (a preflight,
which is never answered): so an old browser that tells no origin does no harm either. Where the
gateway runs things for its user (`same_user`), no other user of the machine may ask.
"""

import asyncio
import ipaddress
import os
import weakref
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from spanyard_core.serve import problem
from spanyard_gateway import neighbours
from spanyard_gateway.auth.gate import Gate
from spanyard_gateway.settings import GatewaySettings

REQUEST_HEADER = "X-Spanyard-Request"
"""With any value: stands for a JSON body in a POST that has none."""
_SIMPLE = {"", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"}
"""Content types that a browser sends to other sites without asking (Fetch standard)."""


def _host_name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "").lower()


def _internal(request: web.Request) -> bool:
    """Pods come by the Service's name, and are known by their tokens alone."""
    return request.path.startswith("/internal/")


def _host_of(host: str) -> str:
    try:
        return _host_name(host)
    except ValueError:
        return ""


def _origin_host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine: localhost or a loopback address."""
    try:
        name = _host_name(host)
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by the pod's address, whatever its host name."""


def guard(settings: GatewaySettings, gate: Gate) -> Middleware:
    """Refuses foreign hosts (unless remote access is allowed), origins and users."""
    hosts = {name.lower() for name in settings.allowed_hosts}

    def host_is_ours(request: web.Request, host: str) -> bool:
        if is_local_host(host):
            return True
        if not (settings.allow_remote or gate.enabled):
            return False
        return not hosts or _host_of(host) in hosts or request.path in PROBES or _internal(request)

    known: weakref.WeakKeyDictionary[asyncio.BaseTransport, int | None] = (
        weakref.WeakKeyDictionary()
    )
    """Connection → its user: asked once, because the system's table has a line per connection."""

    def user_of(request: web.Request) -> int | None:
        transport = request.transport
        if transport is None:
            return None
        if transport not in known:
            connection = transport.get_extra_info("socket")
            known[transport] = neighbours.peer_uid(connection) if connection else None
        return known[transport]

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if settings.same_user and user_of(request) not in {None, 0, os.getuid()}:
            return problem(
                403,
                "Another user",
                "This gateway builds and runs things for the user who started it, and answers to "
                "that user alone. Start one of your own.",
            )
        host = request.headers.get("Host", "")
        if gate.from_proxy(request):
            host = request.headers.get("X-Forwarded-Host", host)
        if not host_is_ours(request, host):
            known = ", ".join(sorted(hosts)) or "localhost only"
            return problem(
                421, "Wrong host", f"This gateway answers to {known}, not to {host[:100]!r}."
            )
        origin = request.headers.get("Origin")
        if origin is not None and _origin_host(origin) != host.lower():
            return problem(
                403, "Foreign origin", f"Pages of {origin[:100]!r} may not use this gateway."
            )
        site = request.headers.get("Sec-Fetch-Site", "none")
        mode = request.headers.get("Sec-Fetch-Mode", "navigate")
        if site not in {"none", "same-origin"} and (
            mode != "navigate" or request.method not in {"GET", "HEAD"}
        ):
            return problem(403, "Foreign origin", "Pages of other sites may not use this gateway.")
        if request.method == "POST" and _is_simple(request):
            return problem(
                415,
                "Not a request of a program",
                "Send JSON with the header `Content-Type: application/json`, or without a body the "
                f"header `{REQUEST_HEADER}: 1`. Forms of web pages can do neither, and are refused.",
            )
        return await handler(request)

    return check


def _is_simple(request: web.Request) -> bool:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in _SIMPLE and REQUEST_HEADER not in request.headers
