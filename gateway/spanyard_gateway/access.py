"""Who may ask: on a laptop, programs of this machine that mean it.

A web page of any site can make the browser send requests to loopback. So the Host header must be
this machine (a name that an attacker points at 127.0.0.1 is not), and a request that says from
which page it comes (Origin) must come from our own.
"""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from spanyard_core.serve import problem
from spanyard_gateway.settings import GatewaySettings


def _host_name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "").lower()


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


def guard(settings: GatewaySettings) -> Middleware:
    """Refuses foreign hosts (unless remote access is allowed) and foreign origins."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not settings.allow_remote and not is_local_host(host):
            return problem(
                421,
                "Wrong host",
                f"This gateway answers to localhost only, not to {host[:100]!r}.",
            )
        origin = request.headers.get("Origin")
        if origin is not None and _origin_host(origin) != host.lower():
            return problem(
                403, "Foreign origin", f"Pages of {origin[:100]!r} may not use this gateway."
            )
        return await handler(request)

    return check
