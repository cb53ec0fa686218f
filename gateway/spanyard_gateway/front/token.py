"""The front's token: made once per data folder, readable by its owner alone.

It stays over restarts, so that a data source that was set up goes on working; to change it, remove
the file and start again.
"""

import os
import re
import secrets
import stat
from pathlib import Path

from spanyard_core.errors import SpanyardError

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")


def token_of(file: Path) -> str:
    """The token in `file`, which is made if it isn't there or if others could read it.

    Raises SpanyardError when the file cannot be read or written.
    """
    try:
        return _kept(file) or _made(file)
    except OSError as error:
        raise SpanyardError(
            f"the token file {str(file)!r} cannot be used: {error.strerror}; make it writable, or "
            "remove it"
        ) from error


def _kept(file: Path) -> str | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "r", encoding="ascii", errors="replace") as opened:
        status = os.fstat(opened.fileno())
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            return None
        text = opened.read(200).strip()
    return text if _TOKEN.fullmatch(text) else None


def _made(file: Path) -> str:
    token = secrets.token_urlsafe(32)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{token}\n")
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return token
