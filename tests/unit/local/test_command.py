"""The `spanyard` command as users mistype it: a sentence and an exit code, never a trace."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_local import command_line as command
from spanyard_local.server_client import ServerClient, ServerError
from spanyard_local.terminal import Terminal, printable, width
from spanyard_local.verify import print_proof


def spanyard(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPANYARD_")}
    return subprocess.run(
        [sys.executable, "-m", "spanyard_local", *words],
        check=False, capture_output=True, text=True, timeout=60, env=environment | variables,
    )  # fmt: skip


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        command.main(words)
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense' (choose from"),
        (["demo", "--port", "99999"], "99999 is not from 0 to 65535"),
        (["demo", "--port", "http"], "'http'"),
        (["demo", "--rate", "nan"], "nan is not from 0.01 to 10000"),
        (["demo", "--rate", "-1"], "-1 is not from"),
        (["demo", "--kills", "-1"], "-1 is less than 0"),
        (["demo", "--requests", "0"], "0 is less than 1"),
        (["demo", "--host", "0.0.0.0"], "host: '0.0.0.0' is not an address of this machine alone"),
        (["demo", "--host", "example.org"], "use 127.0.0.1, ::1 or localhost"),
        (["verify", "--server", "http://[::1"], "'http://[::1' is not an address"),
        (["verify", "--server", "ftp://x"], "is not an http:// or https:// address"),
        (["verify", "--server", "http://127.0.0.1:99999"], "no gateway answers at"),
        (["verify", "a b", "--server", "http://127.0.0.1:9"], "no gateway answers at"),
        (["verify", "--data", "/nowhere"], "'/nowhere' holds no data of a demo"),
        (["verify", "-o", "yaml"], "invalid choice: 'yaml'"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    out, error = capsys.readouterr()
    assert told in error
    assert out == ""
    assert "serve" not in error.partition("choose from")[2], "that one is nobody's"


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["demo", "--help"], ["verify", "--help"]):
        assert run(*words) == 0
        assert "Exit codes: 0" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    folder = Path(__file__).parent
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "{SAY_MUCH}" | head -1'],
        check=True, capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("line\n", "")


SAY_MUCH = (
    "from spanyard_local import command_line as m; from spanyard_local.terminal import Terminal; "
    "m._run = lambda given: [Terminal.of().print('line') for _ in range(100000)] and 0; "
    "m.main(['verify'])"
)


@contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """A server that answers every request with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(raw)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def http_answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "is not a gateway of Spanyard"),
        (b"", "no gateway answers"),
        (http_answer(b"<html>"), "is not a gateway of Spanyard"),
        (http_answer(b"[]"), "is not a gateway of Spanyard"),
        (http_answer(b'{"totals": {}}'), "is not a gateway of Spanyard"),
        (http_answer(b"There is no handle", "404 Not Found"), "is not a gateway of Spanyard"),
        (http_answer(b"<html>", "502 Bad Gateway"), "answered 502 Bad Gateway"),
        (http_answer(b'{"title": "x", "detail": "why"}', "503 Away"), "why"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "is not a gateway"),
    ],
)
def test_whatever_answers_there_is_told_in_a_sentence(
    raw: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(raw) as address:
        assert run("verify", "--server", address) == 2
    assert told in capsys.readouterr().err


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(http_answer(b"{}")) as address:
        assert ServerClient(address).get("/x") == {}
    with pytest.raises(ServerError, match="no gateway answers"):
        ServerClient("http://gateway.invalid:80").get("/x")


PROOF: dict[str, Any] = {
    "complete": False,
    "writers": [
        {"writer": "uid/sérver/0@e\x1b[31m", "signal": "logs", "state": "open", "expected": 3,
         "stored": 1, "quarantined": 0, "pending": 0, "missing": 2, "doubled": 0, "gaps": 1},
    ],
    "gaps": [{"writer": "w", "afterSeq": 1, "cause": "rotated-away", "lines": None, "bytes": 7,
              "message": "evil \x1b[2J\nline"}],
    "totals": {"writers": 1, "expected": 3, "stored": 1, "quarantined": 0, "missing": 2,
               "doubled": 0, "pending": 0, "gaps": 1, "open": 1},
}  # fmt: skip


def test_texts_of_others_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_proof(Terminal.of(), PROOF, whole=True)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "7 bytes" in out
    assert "an unknown number of lines" in out
    assert len(out.splitlines()) == 6


class _Tty:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        return


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    out: Any = _Tty()
    for variables, colours in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert ("\033" in Terminal.of(out).style("x", "red")) is colours
    assert Terminal.of().style("x", "red") == "x"


def test_a_status_never_takes_more_than_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    out: Any = _Tty()
    Terminal.of(out).status("漢字 and a text that is longer than the line")
    shown = out.text.replace("\r\033[2K", "")
    assert width(shown) <= 19
    assert shown.startswith("漢字 and")
    assert printable("a\x00b\x7fc\u202e") == "a␀b\ufffdc\ufffd"


def test_what_json_readers_get_is_json_alone() -> None:
    body = json.dumps({**PROOF, "writers": []}).encode()
    with answering(http_answer(body)) as address:
        done = spanyard("verify", "-o", "json", "--server", address)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["totals"]["missing"] == 2


def test_a_project_needs_no_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(http_answer(b'{"items": [{"id": "local.shop"}]}')) as address:
        assert run("verify", "shp", "--server", address) == 2
    told = "no project 'shp'; did you mean 'shop'? There are: local.shop"
    assert told in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_of_the_system_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code, told in (
        (PermissionError(13, "Permission denied", "/data/lock"), 1, "/data/lock: Permission denied"),
        (SpanyardError("so it is"), 1, "so it is"),
    ):  # fmt: skip

        def fail(given: Any, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(command, "_run", fail)
        assert run("demo") == code
        assert told in capsys.readouterr().err


_INTERRUPTED = """
import threading, time, weakref
from spanyard_local import __main__, command_line

class Dies:
    pass

def interrupt(*_):
    raise KeyboardInterrupt

def loses_it(argv):
    dies = Dies()
    told = weakref.ref(dies, interrupt)
    del dies
    time.sleep(60)

def loses_it_on_a_busy_machine(argv):
    start = threading.Thread.start
    threading.Thread.start = lambda thread: (start(thread), time.sleep(1))
    loses_it(argv)

def meets_text(argv):
    exec("interrupt()", {"interrupt": interrupt})

command_line.main = MEETS
__main__.main()
"""


@pytest.mark.parametrize("how", ["meets_text", "loses_it", "loses_it_on_a_busy_machine"])
def test_a_ctrl_c_while_something_is_loaded_ends_with_the_code_of_any_other(
    tmp_path: Path, how: str
) -> None:
    """One that meets code made from text, as for each dataclass, or a place that raises nothing."""
    (tmp_path / "interrupted.py").write_text(_INTERRUPTED.replace("MEETS", how))
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")
