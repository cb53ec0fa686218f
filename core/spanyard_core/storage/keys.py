"""What a key may look like on every backend, and how an object's bytes are named.

The rules are the strictest of the three backends, so that a key which works on a laptop works in
a bucket: S3 and GCS take at most 1,024 bytes, a file system 255 bytes per part; XML listings
cannot carry control characters; some S3 servers take a backslash for a slash (SeaweedFS stores
`a\\b` as `a/b`: tried).
"""

import hashlib

from spanyard_core.errors import StorageRefusedError

MAX_KEY_BYTES = 1024
MAX_PART_BYTES = 255
TEMP_PART = ".spanyard-tmp"
"""Where a directory keeps what is not yet whole. Reserved on every backend."""


def digest_of(data: bytes) -> str:
    """sha256 of `data`, hex: what `Storage.digest` says of an object with these bytes."""
    return hashlib.sha256(data).hexdigest()


def check_key(key: str) -> str:
    """Return `key`, or raise `StorageRefusedError` that says what is wrong with it."""
    _check_text(key, "key")
    for part in key.split("/"):
        _check_part(part, key)
    return key


def check_prefix(prefix: str) -> str:
    """Like `check_key` for the start of a key: may be empty and may end anywhere."""
    if prefix:
        _check_text(prefix, "prefix")
        for part in prefix.split("/")[:-1]:
            _check_part(part, prefix)
        if prefix.rsplit("/", 1)[-1] in {".", ".."}:
            raise StorageRefusedError(f"prefix {prefix!r} ends in a '.' or '..' part; leave it out")
    return prefix


def _check_text(text: str, what: str) -> None:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise StorageRefusedError(f"{what} {text!r} is not UTF-8; use characters only") from None
    if len(raw) > MAX_KEY_BYTES:
        raise StorageRefusedError(
            f"{what} {text[:80]!r}… has {len(raw)} bytes; at most {MAX_KEY_BYTES} are possible"
        )
    for character in text:
        if character < " " or character in "\x7f\\\ufffe\uffff":
            raise StorageRefusedError(
                f"{what} {text!r} contains {character!r}; control characters and backslashes"
                " do not survive on every storage, leave them out"
            )


def _check_part(part: str, key: str) -> None:
    if part in {"", ".", ".."}:
        raise StorageRefusedError(
            f"key {key!r} has a part {part!r}; parts are non-empty, and never '.' or '..'"
        )
    if part == TEMP_PART:
        raise StorageRefusedError(f"key {key!r} uses {TEMP_PART!r}, which is reserved")
    if len(part.encode()) > MAX_PART_BYTES:
        raise StorageRefusedError(
            f"key {key[:80]!r}… has a part of {len(part.encode())} bytes;"
            f" at most {MAX_PART_BYTES} fit into a file name"
        )
