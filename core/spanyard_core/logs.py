"""Logs of our own components: JSON lines on stderr, or a human form on a terminal.

`log.info("stored", extra={"fields": {"key": key}})` puts `key` beside the message in JSON and
behind it as `key=…` on a terminal. The JSON has the names that our collector looks for.
"""

import logging
import sys
import traceback
from typing import IO, Any

import msgspec

from spanyard_core.clock import rfc3339
from spanyard_core.errors import SettingError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_NAMES = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}
_COLOURS = {"debug": "2", "info": "32", "warn": "33", "error": "31", "fatal": "1;31"}
_MAX_TEXT = 32 * 1024
"""A message or trace is cut here: an error that quotes a 200 MB line must not be one itself."""


def _level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno) or record.levelname.lower()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return dict(fields) if isinstance(fields, dict) else {}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _trace(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """One JSON object per record; never fails on what it is given."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": rfc3339(int(record.created * 1e9)),
            "level": _level_name(record),
            "message": _cut(record.getMessage()),
            "component": self._component,
            "logger": record.name,
        }
        for name, value in _fields(record).items():
            line[name if name not in line else f"{name}_"] = value
        if record.exc_info:
            line["error"] = _cut(_trace(record))
        try:
            return self._encoder.encode(line).decode()
        except Exception:  # lone surrogates, keys that are no text: the record still counts
            return msgspec.json.encode(
                {_clean(str(name)): _clean(str(value)) for name, value in line.items()}
            ).decode()


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class HumanFormatter(logging.Formatter):
    """Time of day, level, message, fields."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        level = _level_name(record)
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        trace = _trace(record)
        start = f"{self.formatTime(record, '%H:%M:%S')}.{int(record.msecs):03d}"
        if self._colours:
            level = f"\033[{_COLOURS.get(level, '0')}m{level:<5}\033[0m"
            fields = fields and f"\033[2m{fields}\033[0m"
        else:
            level = f"{level:<5}"
        text = " ".join(part for part in (start, level, record.getMessage(), fields) if part)
        return _clean(_cut(f"{text}\n{trace.rstrip()}" if trace else text))


def setup_logs(
    component: str,
    *,
    level: str = "info",
    json: bool | None = None,
    stream: IO[str] | None = None,
) -> None:
    """Send the process's logs to stderr (or `stream`), replacing what was set up before.

    `json=None` chooses JSON unless the stream is a terminal. Raises SettingError for a level that
    is not one of debug, info, warn, error.
    """
    if level not in LEVELS:
        raise SettingError(f"log_level: {level!r} is not one of {', '.join(LEVELS)}")
    out = stream or sys.stderr
    terminal = out.isatty()
    handler = logging.StreamHandler(out)
    if json or (json is None and not terminal):
        handler.setFormatter(JsonFormatter(component))
    else:
        handler.setFormatter(HumanFormatter(colours=terminal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # Our metrics count requests; a line for each would drown what matters.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    for library in ("urllib3", "clickhouse_connect"):
        # What fails in them comes to us as an exception, and we say it with what it means.
        logging.getLogger(library).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
