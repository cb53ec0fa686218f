"""Opening a storage by its URL. The forms are listed in `docs/storage.md`.

Nothing secret stands in a URL: it goes into messages and status. Credentials come from the
environment, or from `options`, which nothing prints.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from spanyard_core.errors import SettingError
from spanyard_core.storage.directory import DirectoryStorage
from spanyard_core.storage.keys import check_key
from spanyard_core.storage.protocol import Storage

_COMMON = {"endpoint", "listing", "timeout", "connect_timeout", "ca_file"}
_PARAMETERS = {
    "file": frozenset[str](),
    "s3": frozenset(_COMMON | {"region", "addressing"}),
    "gs": frozenset(_COMMON),
}
_SECRETS = {
    "file": frozenset[str](),
    "s3": frozenset({"access_key_id", "secret_access_key", "session_token"}),
    "gs": frozenset({"application_credentials", "bearer_token"}),
}


def open_storage(url: str, *, options: Mapping[str, str] | None = None) -> Storage:
    """The storage under `url`; connects to nothing yet.

    `options` takes what the query of the URL takes, and credentials besides (`access_key_id`, …).
    Raises `SettingError` that names the part of the URL or the option, and the remedy.
    """
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    if parts.scheme not in _PARAMETERS:
        raise SettingError(
            f"storage URL {shown!r} is of an unknown kind;"
            " use file:///absolute/path, s3://bucket/prefix or gs://bucket/prefix"
        )
    if "@" in parts.netloc or parts.fragment:
        raise SettingError(
            f"storage URL {shown!r} carries a user, a password or a '#' part;"
            " leave it out, credentials come from the environment"
        )
    settings = _settings(parts.scheme, parts.query, options or {}, shown)
    if parts.scheme == "file":
        return _directory(parts.netloc, unquote(parts.path), shown)
    prefix = unquote(parts.path).strip("/")
    if not parts.netloc:
        raise SettingError(f"storage URL {shown!r} names no bucket; use {parts.scheme}://bucket")
    if prefix:
        check_key(prefix)
    from spanyard_core.storage.buckets import open_bucket

    return open_bucket(parts.scheme, parts.netloc, prefix, settings)


def _settings(scheme: str, query: str, options: Mapping[str, str], shown: str) -> Mapping[str, str]:
    settings: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _SECRETS[scheme]:
            raise SettingError(
                f"storage URL {shown!r} carries {name!r}, which does not belong into a URL;"
                " set it in the environment"
            )
        _check_name(name, _PARAMETERS[scheme], f"storage URL {shown!r} has a parameter {name!r}")
        settings[name] = value
    for name, value in options.items():
        known = _PARAMETERS[scheme] | _SECRETS[scheme]
        _check_name(name, known, f"storage {shown!r} has an option {name!r}")
        settings[name] = value
    return settings


def _check_name(name: str, known: frozenset[str], what: str) -> None:
    if name not in known:
        raise SettingError(f"{what}, which is not known; known are: {', '.join(sorted(known))}")


def _directory(host: str, path: str, shown: str) -> DirectoryStorage:
    if host not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise SettingError(
            f"storage URL {shown!r} is not an absolute path; write file:///absolute/path"
        )
    if not path.strip("/"):
        raise SettingError(f"storage URL {shown!r} is the root of the file system; use a directory")
    return DirectoryStorage(Path(path))
