"""Our own logs: JSON that our collector understands, or a form for people."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from spanyard_core.errors import SettingError
from spanyard_core.logs import setup_logs

log = logging.getLogger("spanyard.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_record_is_one_json_line_with_its_fields() -> None:
    out = io.StringIO()
    setup_logs("sidecar", stream=out)
    log.warning("stored %d", 3, extra={"fields": {"key": "a/b", "took": 0.5}})
    (line,) = lines(out)
    stamp = line.pop("timestamp")
    assert isinstance(stamp, str)
    assert len(stamp) == len("2026-11-21T14:45:00.123456789Z")
    assert line == {
        "level": "warn",
        "message": "stored 3",
        "component": "sidecar",
        "logger": "spanyard.test",
        "key": "a/b",
        "took": 0.5,
    }


def test_a_field_cannot_forge_the_records_own_names() -> None:
    out = io.StringIO()
    setup_logs("sidecar", stream=out)
    log.error("real", extra={"fields": {"message": "forged", "level": "debug"}})
    (line,) = lines(out)
    assert (line["message"], line["level"]) == ("real", "error")
    assert (line["message_"], line["level_"]) == ("forged", "debug")


def test_an_exception_stands_in_the_line_with_its_trace() -> None:
    out = io.StringIO()
    setup_logs("x", stream=out)
    try:
        raise RuntimeError("no luck")  # noqa: TRY301 - something to catch
    except RuntimeError:
        log.exception("failed")
    (line,) = lines(out)
    assert "RuntimeError: no luck" in str(line["error"])
    assert "\n" in str(line["error"])


@pytest.mark.parametrize(
    "value", ["\ud800", object(), {1, 2}, b"bytes", float("nan"), {"deep": object()}, "a\nb"]
)
def test_nothing_that_is_logged_breaks_the_line(value: object) -> None:
    out = io.StringIO()
    setup_logs("x", stream=out)
    log.info("m", extra={"fields": {"value": value}})
    (line,) = lines(out)
    assert line["message"] == "m"


def test_a_huge_message_is_cut() -> None:
    out = io.StringIO()
    setup_logs("x", stream=out)
    log.info("y" * 10_000_000)
    assert len(out.getvalue()) < 40_000


def test_a_terminal_gets_colours_and_a_pipe_does_not() -> None:
    terminal = Terminal()
    setup_logs("x", stream=terminal)
    log.error("gone", extra={"fields": {"key": "k"}})
    assert "\033[31merror" in terminal.getvalue()
    assert "key=k" in terminal.getvalue()
    plain = io.StringIO()
    setup_logs("x", stream=plain, json=False)
    log.error("gone", extra={"fields": {"key": "k"}})
    assert plain.getvalue().rstrip().endswith("error gone key=k")


def test_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup_logs("x", stream=first)
    setup_logs("x", stream=second)
    log.info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_the_level_filters_and_a_wrong_one_is_refused() -> None:
    out = io.StringIO()
    setup_logs("x", stream=out, level="warn")
    log.info("quiet")
    log.warning("heard")
    assert [line["message"] for line in lines(out)] == ["heard"]
    with pytest.raises(SettingError, match="'loud' is not one of debug, info, warn, error"):
        setup_logs("x", stream=out, level="loud")


def test_warnings_of_python_arrive_as_records() -> None:
    out = io.StringIO()
    setup_logs("x", stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert any("DeprecationWarning: old" in str(line["message"]) for line in lines(out))
