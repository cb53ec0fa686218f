"""A request of ClickHouse's HTTP interface, read: who asks, what, and how the answer shall look."""

import base64
import binascii
import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import BodyPartReader, web

from spanyard_gateway.access import is_local_host
from spanyard_gateway.front.blocks import unpacked
from spanyard_gateway.front.errors import (
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    SYNTAX_ERROR,
    UNKNOWN_DATABASE,
    UNKNOWN_ROLE,
    FrontError,
)

USER = "spanyard"
_OF_TRANSPORT = frozenset(
    {
        "add_http_cors_header", "buffer_size", "client_protocol_version", "compress", "database",
        "decompress", "default_format", "enable_http_compression", "query", "query_id",
        "quota_key", "role", "session_check", "session_id", "session_timeout", "stacktrace",
        "http_zlib_compression_level",
    }
)  # fmt: skip
"""What is not a setting. Sessions are of no use here: nothing that may run outlives a statement."""
_SECRETS = frozenset({"user", "password", "token", "access_token"})
_QUERY_ID = re.compile(r"[\x21-\x7e]{1,200}")
_UNESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants."""

    query: str
    params: Mapping[str, str | None]
    settings: Mapping[str, str]
    form: str
    revision: int
    """Of the Native format, 0 for none."""
    blocks: bool
    """The answer in ClickHouse's own compression."""
    encodings: tuple[str, ...]
    """HTTP compression that the client takes; empty where it did not ask for it."""


def query_id_of(request: web.Request) -> str:
    """The client's name for its query, or one of ours."""
    name = request.query.get("query_id") or request.headers.get("X-ClickHouse-Query-Id") or ""
    return name if _QUERY_ID.fullmatch(name) else str(uuid.uuid4())


def check_access(request: web.Request, token: str) -> None:
    """Programs of this machine that have the token. Raises FrontError.

    The token is taken from headers only: an address gets into histories, logs and bookmarks, and
    every client that we know can send a header. A browser is never asked for it, so it can't send
    it along by itself when a foreign page points here.
    """
    host = request.headers.get("Host", "")
    if not is_local_host(host):
        raise FrontError(
            AUTHENTICATION_FAILED, f"this answers to localhost only, not to {host[:100]!r}"
        )
    if _is_foreign(request, host):
        raise FrontError(AUTHENTICATION_FAILED, "pages of other sites may not ask here")
    if _SECRETS & set(request.query):
        raise FrontError(
            AUTHENTICATION_FAILED,
            "user and token belong into headers, not into the address: use HTTP Basic "
            f"authentication (user {USER!r}), or X-ClickHouse-User and X-ClickHouse-Key",
        )
    user, key = _credentials(request)
    known = hmac.compare_digest(key.encode(), token.encode())
    if not known or not hmac.compare_digest(user.encode(), USER.encode()):
        raise FrontError(
            AUTHENTICATION_FAILED,
            f"Authentication failed: the user is {USER!r}, its password the token that the "
            "command which started this printed",
        )


def _is_foreign(request: web.Request, host: str) -> bool:
    if request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
        return True
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


def _credentials(request: web.Request) -> tuple[str, str]:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            text = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        user, _, key = text.partition(":")
        return user, key
    headers = request.headers
    return headers.get("X-ClickHouse-User", ""), headers.get("X-ClickHouse-Key", "")


async def read_ask(request: web.Request, database: str, *, most_bytes: int) -> Ask:
    """Take the request apart. Raises FrontError."""
    if request.query.get("role"):
        raise FrontError(UNKNOWN_ROLE, "there are no roles here; leave the parameter out")
    _check_database(request, database)
    text, fields = await _body(request, most_bytes)
    if (given := request.query.get("query")) is not None:
        text = f"{given}\n{text}" if text else given
    if not text.strip():
        raise FrontError(SYNTAX_ERROR, "Empty query: send it as the body, or as ?query=")
    params: dict[str, str | None] = {}
    settings: dict[str, str] = {}
    for name, value in {**fields, **request.query}.items():
        if name.startswith("param_"):
            params[name.removeprefix("param_")] = unescaped(value)
        elif name not in _OF_TRANSPORT and name not in fields:
            settings[name] = value
    headers = request.headers
    return Ask(
        text,
        params,
        settings,
        request.query.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated",
        _number(request.query.get("client_protocol_version", "0")),
        wants_blocks(request),
        encodings_of(request),
    )


def _check_database(request: web.Request, database: str) -> None:
    for name in (request.query.get("database"), request.headers.get("X-ClickHouse-Database")):
        # Another one, `system` say, would make unqualified names mean something else.
        if name and name not in {database, "default"}:
            raise FrontError(
                UNKNOWN_DATABASE,
                f"Database {name[:80]} does not exist here as one to connect to; connect to "
                f"{database!r} and write tables of others with their database",
            )


async def _body(request: web.Request, most_bytes: int) -> tuple[str, dict[str, str]]:
    if request.content_type == "multipart/form-data":
        return await _multipart(request, most_bytes)
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise FrontError(162, f"the request has more than {most_bytes:,} bytes") from None
    if request.query.get("decompress") == "1" and data:
        try:
            data = unpacked(data, most=most_bytes)
        except ValueError as error:
            raise FrontError(BAD_ARGUMENTS, str(error)) from error
    return _text(data), {}


async def _multipart(request: web.Request, most_bytes: int) -> tuple[str, dict[str, str]]:
    fields: dict[str, str] = {}
    left = most_bytes
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.filename is not None:
                raise FrontError(
                    BAD_ARGUMENTS, "tables cannot be sent along here; put values into parameters"
                )
            data = bytes(await part.read(decode=True))
            left -= len(data)
            if left < 0:
                raise FrontError(162, f"the request has more than {most_bytes:,} bytes")
            fields[part.name or ""] = _text(data)
    except ValueError as error:
        raise FrontError(BAD_ARGUMENTS, f"the form cannot be read: {error}") from error
    except web.HTTPRequestEntityTooLarge:
        raise FrontError(162, f"the request has more than {most_bytes:,} bytes") from None
    return fields.pop("query", ""), fields


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrontError(SYNTAX_ERROR, f"the query is no UTF-8 text: {error.reason}") from error


def unescaped(value: str) -> str | None:
    """A parameter as the protocol sends it: escaped like a field of TabSeparated, NULL as `\\N`."""
    if value == "\\N":
        return None
    return _UNESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), value)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def wants_blocks(request: web.Request) -> bool:
    """Whether the answer shall come in ClickHouse's own compression."""
    return request.query.get("compress") == "1"


def encodings_of(request: web.Request) -> tuple[str, ...]:
    """HTTP compression that the client takes. Only who insists gets any: on loopback it is waste."""
    if request.query.get("enable_http_compression") not in {"1", "true"}:
        return ()
    header = request.headers.get("Accept-Encoding", "")
    return tuple(part.partition(";")[0].strip().lower() for part in header.split(","))
