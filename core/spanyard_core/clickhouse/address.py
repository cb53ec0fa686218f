"""Where ClickHouse is: the database URL, read once, printed without its password."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from spanyard_core.errors import SettingError

_SHAPES = "chdb:///absolute/path or http(s)://user:password@host:port/database"


@dataclass(frozen=True)
class Address:
    """A database URL, taken apart.

    `chdb:///var/lib/spanyard/clickhouse` is the engine in this process; `?database=name` names
    another database in it than `default`. `http(s)://user:password@host:port/database` is a
    server; ports default to 8123 and 8443, the database to `default`.
    """

    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = "default"

    @property
    def in_process(self) -> bool:
        return self.scheme == "chdb"

    def __str__(self) -> str:
        """The URL without its password: safe for logs and messages."""
        if self.in_process:
            suffix = "" if self.database == "default" else f"?database={quote(self.database)}"
            return f"chdb://{quote(self.path)}{suffix}"
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}/{quote(self.database, safe='')}"


def parse_address(url: str) -> Address:
    """Read a database URL. Raises SettingError, which never repeats the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingError(f"the ClickHouse URL is not a URL; use {_SHAPES}") from None
    if parts.scheme == "chdb":
        return _embedded(parts.netloc, unquote(parts.path), parts.query)
    if parts.scheme in {"http", "https"}:
        return _server(
            parts.scheme, parts.hostname, port, parts.username, parts.password, parts.path
        )
    shown = f"{parts.scheme}://…" if parts.scheme else "without a scheme"
    raise SettingError(f"the ClickHouse URL is {shown}; use {_SHAPES}")


def _embedded(netloc: str, path: str, query: str) -> Address:
    if netloc or not path.startswith("/") or path == "/":
        raise SettingError(
            f"chdb://{netloc}{path} has no absolute path; use chdb:///absolute/path (three slashes)"
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    database = options.pop("database", "default")
    if options:
        raise SettingError(
            f"chdb://{path} has unknown options {', '.join(sorted(options))}; only database= is known"
        )
    return Address("chdb", path=str(PurePosixPath(path)), database=_database(database))


def _server(
    scheme: str,
    host: str | None,
    port: int | None,
    user: str | None,
    password: str | None,
    path: str,
) -> Address:
    if not host:
        raise SettingError(f"the ClickHouse URL names no host; use {_SHAPES}")
    database = unquote(path.strip("/")) or "default"
    return Address(
        scheme,
        host=host,
        port=port or (8443 if scheme == "https" else 8123),
        user=unquote(user or ""),
        password=unquote(password or ""),
        database=_database(database),
    )


def _database(name: str) -> str:
    # Quoted in SQL only with backticks; a plain identifier needs no thought anywhere.
    if not name.isascii() or not name.replace("_", "a").isalnum() or name[0].isdigit():
        raise SettingError(
            f"the ClickHouse database is {name!r}; use letters, digits and _, not a digit first"
        )
    return name
