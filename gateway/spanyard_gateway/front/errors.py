"""Errors as ClickHouse's HTTP interface tells them: a code, its name, a status, one line of text."""

import re

from spanyard_core.errors import DatabaseError, SpanyardError
from spanyard_gateway.sql import SqlRefusedError

SYNTAX_ERROR = 62
BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
UNKNOWN_DATABASE = 81
READONLY = 164
UNKNOWN_ROLE = 511
AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002

_NAMES = {
    SYNTAX_ERROR: "SYNTAX_ERROR",
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    UNKNOWN_DATABASE: "UNKNOWN_DATABASE",
    159: "TIMEOUT_EXCEEDED",
    162: "QUERY_IS_TOO_LARGE",
    READONLY: "READONLY",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    394: "QUERY_WAS_CANCELLED",
    UNKNOWN_ROLE: "UNKNOWN_ROLE",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}

_STATUS = {
    401: {194},
    403: {192, 193, READONLY, AUTHENTICATION_FAILED, UNKNOWN_ROLE},
    404: {46, 47, 50, 56, 60, 63, 73, UNKNOWN_DATABASE, 115},
    408: {159},
    413: {162},
    501: {NOT_IMPLEMENTED},
    400: {
        6, 15, 26, 27, 34, 35, BAD_ARGUMENTS, 38, 41, 42, 43, 44, 52, 53, SYNTAX_ERROR, 70, 72,
        117, 130, 131, 167, 168, 306, 321, 352, 386, 427, 456, 457, 467, 675,
    },
}  # fmt: skip
"""As the server has it, and READONLY: a refusal is not the server's fault."""
_NAMED = re.compile(r"\([A-Z_]{3,}\)$")


class FrontError(SpanyardError):
    """A request that this front refuses by itself, with ClickHouse's code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: SpanyardError) -> int:
    """ClickHouse's code for an error of ours."""
    if isinstance(error, FrontError):
        return error.code
    if isinstance(error, SqlRefusedError):
        return READONLY
    if isinstance(error, DatabaseError) and error.code is not None:
        return error.code
    return UNKNOWN_EXCEPTION


def status_of(code: int) -> int:
    """The HTTP status that goes with a code; what has none is the server's fault, as there."""
    return next((status for status, codes in _STATUS.items() if code in codes), 500)


def text_of(error: SpanyardError, version: str) -> str:
    """`Code: 62. DB::Exception: … (SYNTAX_ERROR) (version …)`, which clients look for."""
    code = code_of(error)
    text = str(error).strip()
    if not text.startswith("Code: "):
        text = f"Code: {code}. DB::Exception: {text}"
    if not _NAMED.search(text):
        text = f"{text.rstrip('. :')}. ({_NAMES.get(code, 'UNKNOWN_EXCEPTION')})"
    return f"{_one_line(text)} (version {version} (Spanyard))\n"


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)
