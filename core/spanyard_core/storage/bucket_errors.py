"""What obstore's errors mean to us: one table, from exception class, HTTP status and error code.

obstore tells status and body in the text of its errors only. Texts are cut before its "Debug
source" part, which repeats the request at length.
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
_MAX_TEXT = 400

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


def raise_translated(error: Exception, action: str, what: str) -> NoReturn:
    """Raise `error` as ours. `what` is the object's URL."""
    text = str(error).partition("\n\nDebug source")[0].strip()
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "…"
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
            f"{message}: access was denied{f' ({code})' if code else ''};"
            " check the credentials in the environment and the permissions on the bucket"
        ) from error
    if "Received redirect" in text or (status is not None and 300 <= status < 400):
        raise StorageRefusedError(
            f"{message}: the server sends us elsewhere; check region and endpoint ({text})"
        ) from error
    if status is not None and 400 <= status < 500:
        raise StorageRefusedError(f"{message}: {text}") from error
    raise StorageError(f"{message}: {text}") from error
