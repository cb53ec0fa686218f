"""What obstore's errors mean to us: one table, from exception class, HTTP status and error code.

obstore tells status and body in the text of its errors only. Of that text we show method, URL
without its query, status, and the code and message of the server: the rest repeats the request,
and S3's answer to a bad signature repeats what was signed.
"""

import re
from typing import NoReturn

from obstore import exceptions

from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([A-Za-z]+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")
_BAD_KEY = re.compile(r"invalid path: .*?Path \"(.*?)\"", re.DOTALL)
_MAX_TEXT = 400
_REASONS = (
    (re.compile(r'message: "([^"]+)"'), r"\1"),  # of the operating system
    (re.compile(r'error: "([^"]+)"'), r"\1"),  # of the name service
    (re.compile(r"TimedOut|kind: Timeout"), "timed out"),
    (re.compile(r"(InvalidCertificate|InvalidMessage|AlertReceived)"), r"TLS: \1"),
    (re.compile(r"IncompleteMessage"), "the connection was closed without an answer"),
)
"""Why a request could not be sent, which obstore tells in its "Debug source" only."""

_NO_BUCKET = {"NoSuchBucket", "BucketNotFound"}
_TRY_AGAIN_STATUS = {408, 409, 425, 429}
_TRY_AGAIN_CODES = {
    "ExpiredToken",
    "OperationAborted",
    "ConditionalRequestConflict",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "SlowDown",
    "TokenRefreshRequired",
}


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the server answered with, where there was an answer."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def summary_of(error: BaseException) -> str:
    """The text of obstore's error without what is long or should not be told."""
    whole = str(error).partition("\n\nDebug source")[0]
    text, _, body = whole.partition("<")
    if body:
        told = [found[1] for found in (_CODE.search(whole), _MESSAGE.search(whole)) if found]
        text = f"{text.rstrip(': ')}: {', '.join(told)}" if told else text.rstrip(": ")
    text = _QUERY.sub(r"\1", text.strip())
    if "error sending request" in text:
        debug = str(error)[len(whole) :]
        for pattern, reason in _REASONS:
            if found := pattern.search(debug):
                text += f" ({found.expand(reason)})"
                break
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def raise_translated(error: Exception, action: str, what: str) -> NoReturn:
    """Raise `error` as ours. `what` is the object's URL."""
    text = summary_of(error)
    found = _CODE.search(str(error))
    code = found[1] if found else ""
    status = status_of(error)
    message = f"cannot {action} {what}"
    if code in _NO_BUCKET:
        raise StorageRefusedError(
            f"{message}: there is no such bucket; create it or correct the URL"
        ) from error
    if code in _TRY_AGAIN_CODES or status in _TRY_AGAIN_STATUS:
        # Among them S3's 409 to a conditional put that met another one in progress: neither may
        # have won yet, so it is not "exists" (obstore says AlreadyExistsError here).
        raise StorageError(f"{message}: {text}") from error
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
        raise ObjectExistsError(f"{what} exists already") from error
    if isinstance(error, FileNotFoundError):
        raise ObjectNotFoundError(f"{what} does not exist") from error
    if status in {401, 403} or isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ):
        raise StorageRefusedError(
            f"{message}: access was denied;"
            f" check the credentials in the environment and the permissions on the bucket ({text})"
        ) from error
    if bad_key := _BAD_KEY.search(str(error)):
        raise StorageRefusedError(
            f"{message}: the bucket holds an object with the key {bad_key[1]!r}, which is not ours"
            " and hides those beside it; remove or rename it"
        ) from error
    if "Received redirect" in text or (status is not None and 300 <= status < 400):
        raise StorageRefusedError(
            f"{message}: the server sends us elsewhere; check region and endpoint ({text})"
        ) from error
    if status is not None and 400 <= status < 500:
        raise StorageRefusedError(f"{message}: {text}") from error
    raise StorageError(f"{message}: {text}") from error
