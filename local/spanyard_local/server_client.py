"""How the command line talks to a gateway: a laptop's or a cluster's."""

import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from spanyard_core.errors import SpanyardError

DEFAULT_SERVER = "http://127.0.0.1:8080"
SERVER_VARIABLE = "SPANYARD_SERVER"


class ServerError(SpanyardError):
    """The gateway is away or refused; the message says which and what to do."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServerClient:
    """Requests to one gateway. Standard library only: the command line starts in 0.1 s."""

    def __init__(self, address: str | None = None, *, timeout: float = 30.0) -> None:
        self.address = (address or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER).rstrip("/")
        self._timeout = timeout

    def get(self, path: str) -> Any:
        """The JSON behind a path. Raises ServerError."""
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that a POST answers with. Raises ServerError."""
        return self._request("POST", path, json.dumps(body).encode())

    def _request(self, method: str, path: str, body: bytes | None) -> Any:
        if not self.address.startswith(("http://", "https://")):
            raise ServerError(
                f"server: {self.address!r} is not an http:// or https:// address; "
                f"give it by --server or {SERVER_VARIABLE}"
            )
        try:
            request = urllib.request.Request(  # noqa: S310 - checked above
                self.address + path,
                data=body,
                method=method,
                headers={"Content-Type": "application/json"} if body is not None else {},
            )
            opener = _opener(request.host)
        except ValueError as error:
            raise ServerError(f"server: {self.address!r} is not an address: {error}") from error
        try:
            with opener.open(request, timeout=self._timeout) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise ServerError(_told(error), status=error.code) from error
        except (OSError, http.client.InvalidURL) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(
                f"no gateway answers at {self.address} ({reason}). Is one running? Start one with "
                f"`make demo`, or name another with --server or {SERVER_VARIABLE}."
            ) from error
        except (ValueError, http.client.HTTPException) as error:
            raise not_a_gateway(self.address) from error


def not_a_gateway(address: str) -> ServerError:
    """Somebody answers there, but not as a gateway does."""
    return ServerError(
        f"what answers at {address} is not a gateway of Spanyard; name one with --server or "
        f"{SERVER_VARIABLE}"
    )


def _opener(host: str) -> urllib.request.OpenerDirector:
    """Proxies of the environment are for other machines: none of them reaches this one."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        local = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def _told(error: urllib.error.HTTPError) -> str:
    raw = error.read(1 << 20)
    try:
        problem = json.loads(raw)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return f"the gateway answered {error.code} {error.reason}"
