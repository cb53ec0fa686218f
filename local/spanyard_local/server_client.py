"""How the command line talks to a gateway: a laptop's or a cluster's."""

import contextlib
import http.client
import io
import ipaddress
import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode, urlsplit

from spanyard_core.errors import SpanyardError

DEFAULT_SERVER = "http://127.0.0.1:8080"
SERVER_VARIABLE = "SPANYARD_SERVER"
TOKEN_FILE_VARIABLE = "SPANYARD_TOKEN_FILE"  # noqa: S105 - a name
PAGE = 1_000
"""Rows in a page: the most that a gateway gives."""
_BLOCK = 1 << 18
_NO_SUCH_ROUTE = frozenset({400, 404, 405, 501})
"""Without a word of explanation: an answer of some other server. Proxies of gateways have others."""


TokenSource = Callable[[bool], str]
"""What says who asks; True: the last one was refused, get another. Raises SpanyardError."""


@dataclass(frozen=True, slots=True)
class Way:
    """Through whom a gateway is reached that is not at this address itself."""

    to: str
    """For people."""
    problem: Callable[[], str]
    """Why the last connection failed; empty when it did not."""


class ServerError(SpanyardError):
    """The gateway is away or refused; the message says which and what to do."""

    def __init__(
        self, message: str, *, status: int = 0, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """Of its answer; 0: it gave none."""
        self.problem = dict(problem or {})


class ServerClient:
    """Requests to one gateway. Standard library only: the command line starts in 0.1 s."""

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = 30.0,
        token: TokenSource | None = None,
        way: Way | None = None,
    ) -> None:
        self.address = (address or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER).rstrip("/")
        self._timeout = timeout
        self._token = token
        self._way = way

    @property
    def token(self) -> TokenSource | None:
        """What says who asks; None: nothing does."""
        return self._token

    @property
    def trust(self) -> ssl.SSLContext | None:
        """In place of the system's certificates, where the address is not the gateway's own."""
        return _through() if self._way is not None else None

    def patient(self, timeout: float) -> "ServerClient":
        """One that waits longer for each answer, in seconds."""
        return ServerClient(self.address, timeout=timeout, token=self._token, way=self._way)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON behind a path; parameters that are None or empty are left out."""
        return self._json("GET", path + _query(params))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that a POST answers with. Raises ServerError."""
        return self._json("POST", path, json.dumps(body).encode())

    def delete(self, path: str) -> Any:
        """The JSON that a DELETE answers with. Raises ServerError."""
        return self._json("DELETE", path)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that a PATCH answers with. Raises ServerError."""
        return self._json("PATCH", path, json.dumps(body).encode())

    def put_file(self, path: str, file: io.BufferedIOBase, size: int) -> Any:
        """Upload a file as it is read. Raises ServerError."""
        kind = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._open("PUT", path, file, kind) as response:
            return self._decoded(response)

    def pages(
        self, path: str, params: Mapping[str, Any] | None = None, *, most: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page after page, at most `most` of them."""
        left, cursor = most, None
        while left is None or left > 0:
            limit = PAGE if left is None else min(PAGE, left)
            page = self.get(path, {**(params or {}), "limit": limit, "cursor": cursor})
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise not_a_gateway(self.address)
            yield from page["items"]
            cursor = page.get("nextCursor")
            if cursor is None:
                return
            left = None if left is None else left - len(page["items"])

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Iterator[tuple[Message, Iterator[bytes]]]:
        """Headers and bytes of an answer that need not be JSON; a POST when there is a body."""
        method, data, kind = "GET", None, {}
        if body is not None:
            method, data = "POST", json.dumps(body).encode()
            kind = {"Content-Type": "application/json"}
        with self._open(method, path + _query(params), data, kind) as response:
            yield response.headers, self._blocks(response)

    def _blocks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while block := response.read(_BLOCK):
                yield block
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(
                f"the answer of {self.address} broke off ({error}); what was received is not whole: "
                "ask again"
            ) from error

    def _json(self, method: str, path: str, body: bytes | None = None) -> Any:
        kind = {"Content-Type": "application/json"} if body is not None else {}
        with self._open(method, path, body, kind) as response:
            return self._decoded(response)

    def _decoded(self, response: http.client.HTTPResponse) -> Any:
        try:
            return json.loads(response.read())
        except OSError as error:
            raise self._away(error) from error
        except (ValueError, http.client.HTTPException) as error:
            raise not_a_gateway(self.address) from error

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        body: bytes | io.BufferedIOBase | None,
        headers: Mapping[str, str],
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            response = self._asked(method, path, body, headers, renew=False)
        except ServerError as error:
            again = body is None or isinstance(body, bytes)
            if error.status != http.HTTPStatus.UNAUTHORIZED or self._token is None or not again:
                raise
            response = self._asked(method, path, body, headers, renew=True)
        with response:
            yield response

    def _asked(
        self,
        method: str,
        path: str,
        body: bytes | io.BufferedIOBase | None,
        headers: Mapping[str, str],
        *,
        renew: bool,
    ) -> http.client.HTTPResponse:
        if not self.address.startswith(("http://", "https://")):
            raise ServerError(
                f"server: {self.address!r} is not an http:// or https:// address; "
                f"give it by --server or {SERVER_VARIABLE}"
            )
        # The last one says that no web page sent this.
        sent = {"Accept": "*/*", "X-Spanyard-Request": "1", **headers}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token(renew)}"
        try:
            request = urllib.request.Request(  # noqa: S310 - checked above
                self.address + path, data=body, method=method, headers=sent
            )
            opener = _opener(request.host, through=self._way is not None)
        except ValueError as error:
            raise ServerError(f"server: {self.address!r} is not an address: {error}") from error
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise self._told(error) from error
        except (http.client.InvalidURL, http.client.RemoteDisconnected, OSError) as error:
            raise self._away(error) from error
        except (ValueError, http.client.HTTPException) as error:
            raise not_a_gateway(self.address) from error
        return response

    def _away(self, error: Exception) -> ServerError:
        reason = getattr(error, "reason", error)
        if isinstance(reason, (TimeoutError, socket.timeout)):
            return ServerError(
                f"the gateway at {self.address} did not answer within {self._timeout:g} s; it is "
                "busy, or the question too large: narrow it (--since, -n)"
            )
        if self._way is not None:
            told = self._way.problem() or str(reason)
            return ServerError(f"the gateway {self._way.to} does not answer: {told}")
        return ServerError(
            f"no gateway answers at {self.address} ({reason}). Is one running? Start one with "
            "`spanyard up PATH` or `spanyard demo`, name another with --server or "
            f"{SERVER_VARIABLE}, or a cluster with `spanyard login`."
        )

    def _told(self, error: urllib.error.HTTPError) -> ServerError:
        fallback = f"the gateway answered {error.code} {error.reason}"
        try:
            problem = json.loads(error.read(1 << 20))
            text = str(problem.get("detail") or problem["title"])
        except (OSError, ValueError, KeyError, AttributeError, http.client.HTTPException):
            if error.code in _NO_SUCH_ROUTE:
                return not_a_gateway(self.address)
            return ServerError(fallback, status=error.code)
        return ServerError(text + self._remedy(error.code), status=error.code, problem=problem)

    def _remedy(self, status: int) -> str:
        """What to do about it, where the gateway cannot know how it was asked."""
        if status != http.HTTPStatus.UNAUTHORIZED:
            return ""
        if self._token is None:
            return (
                "\n  Nothing was sent that says who asks: `spanyard login` takes a kubeconfig, "
                f"{TOKEN_FILE_VARIABLE} names a file with a token."
            )
        return (
            "\n  The token that was sent is not one of the gateway's cluster, or has ended: log in "
            "again with `spanyard login --context CONTEXT`."
        )


def not_a_gateway(address: str) -> ServerError:
    """Somebody answers there, but not as a gateway does."""
    return ServerError(
        f"what answers at {address} is not a gateway of Spanyard; name one with --server or "
        f"{SERVER_VARIABLE}, or a cluster with `spanyard login`"
    )


def _query(params: Mapping[str, Any] | None) -> str:
    given = {k: v for k, v in (params or {}).items() if v is not None and v != ""}
    return "?" + urlencode(given) if given else ""


def _opener(host: str, *, through: bool) -> urllib.request.OpenerDirector:
    """Proxies of the environment are for other machines: none of them reaches this one."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        local = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    handlers: list[urllib.request.BaseHandler] = [_StayHere()]
    if local:
        handlers.append(urllib.request.ProxyHandler({}))
    if through:
        handlers.append(urllib.request.HTTPSHandler(context=_through()))
    return urllib.request.build_opener(*handlers)


def _through() -> ssl.SSLContext:
    """The certificate names the gateway, the address is this machine's. The API server, whose
    certificate was checked, says that the way ends in the gateway's pod."""
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    return trust


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A gateway sends nobody elsewhere, and a token must not go there."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer stands as it is."""
