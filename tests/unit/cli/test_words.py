"""What is typed: every command, its examples, what was misspelt, which gateway is asked."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.errors import SettingError
from spanyard_core.records import LEVELS
from spanyard_local import command_line as command
from spanyard_local.cli import logs
from spanyard_local.cli.commands import COMMANDS
from spanyard_local.cli.context import NotThereError
from spanyard_local.cli.deploy import settled
from spanyard_local.cli.finding import Wanted, find_target
from spanyard_local.cli.ids import pick
from spanyard_local.cli.parser import Command
from spanyard_local.cli.reference import reference
from spanyard_local.server_client import DEFAULT_SERVER
from tests.fakes.ports import own_port

ROOT = Path(__file__).resolve().parents[3]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        command.main(words)
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("one", COMMANDS, ids=lambda c: c.name)
def test_every_example_of_every_command_is_one(one: Command) -> None:
    assert one.examples
    parser = command.command_parser()
    for line, what in one.examples:
        words = shlex.split(line.partition(" | ")[0].partition(" < ")[0].partition(" > ")[0])
        words = (
            shlex.split(words[1][2:].partition(")")[0]) if words[0] in {"eval", "curl"} else words
        )
        assert words[0] == "spanyard", line
        assert parser.parse_args(words[1:]).action.name == one.name
        assert what


def test_every_help_says_what_it_does_and_what_its_exit_codes_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for one in COMMANDS:
        assert run(one.name, "--help") == 0
        shown = capsys.readouterr().out
        assert "examples:" in shown
        assert "Exit codes: 0" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lgos"], "did you mean 'logs'?"),
        (["log"], "did you mean 'logs'?"),
        (["logs", "x", "--sinse", "5m"], "did you mean '--since'?"),
        (["logs", "x", "--level", "loud"], "'loud' is not one of debug, info"),
        (["logs", "x", "-n", "0"], "'0' is not a number from 1 on, nor 'all'"),
        (["logs", "x", "--attr", "user"], "'user' is not of the form key=value"),
        (["logs", "x", "--since", "yesterday"],
         "argument --since: 'yesterday' is not a time such as 2026-11-21T14:45:00Z, nor a duration"),
        (["traces", "x", "--until", "2026-11-21"], "argument --until: '2026-11-21' is not a time"),
        (["traces", "x", "--min-duration", "2 s"], "argument --min-duration: '2 s' is not a duration such as 250ms"),
        (["metrics", "x", "--since", "9999999d"], "argument --since: '9999999d' is longer than 292"),
        (["logs"], "the following arguments are required: project"),
        (["export", "x", "gaps"], "invalid choice: 'gaps'"),
        (["quarantine", "replay"], "which? Give ids"),
        (["deploy", "/nowhere"], "'/nowhere' does not exist"),
        (["deploy", "--timeout", "soon"], "'soon' is no duration"),
        (["deploy", ".", "-f", "x.yaml"], "a folder or files, not both"),
        (["logs", "x", "--data", "/nowhere"], "no gateway runs on '/nowhere'"),
        (["logs", "x", "--server", "ftp://x"], "is not an http:// or https:// address"),
        (["--nonsense"], "required: COMMAND"),
        (["build-log", "x", "-m", "2"], "unrecognized arguments: -m 2\n"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_a_sentence(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(*words)
    out, error = capsys.readouterr()
    assert told in error
    assert (out, code) == ("", 3 if "ftp" in told or "http" in told else 2)


def test_a_gateway_that_is_not_there_is_said_with_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"http://127.0.0.1:{own_port()}"
    for words in (["logs", "x"], ["builds"], ["sql", "SELECT 1"], ["trace", "a" * 32]):
        assert run(*words, "--server", address) == 3
        error = capsys.readouterr().err
        assert f"no gateway answers at {address}" in error
        assert "`spanyard up PATH`" in error


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("debug", "debug,info,warn,error,fatal"),
        ("WARN", "warn,error,fatal"),
        ("fatal", "fatal"),
        ("info,error", "info,error"),
    ],
)
def test_a_level_means_it_and_worse(word: str, wanted: str) -> None:
    assert logs.levels(word) == wanted
    assert tuple(logs.LEVELS) == LEVELS


def test_an_id_is_found_without_its_namespace() -> None:
    known = ["local.support", "team.shop", "other.shop"]
    assert pick("support", known, "project") == "local.support"
    assert pick("other.shop", known, "project") == "other.shop"
    for text, told in (
        ("shop", "several projects are called 'shop': team.shop, other.shop"),
        ("suport", "did you mean 'support'"),
        ("zzz", "there are: local.support, team.shop, other.shop"),
    ):
        with pytest.raises(NotThereError, match=f"(?i){told}"):
            pick(text, known, "project")
    with pytest.raises(NotThereError, match="there is none yet"):
        pick("a", [], "project")
    with pytest.raises(NotThereError, match="and 5 more"):
        pick("a", [f"n.p{i}" for i in range(15)], "project")


def serve(folder: Path, url: str) -> None:
    folder.mkdir(parents=True)
    (folder / "server.json").write_text(json.dumps({"url": url, "pid": os.getpid()}))


def test_the_gateway_of_this_folder_or_the_nearest_parent_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPANYARD_SERVER", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def address(server: str | None = None, data: Path | None = None) -> str:
        with contextlib.closing(find_target(Wanted(server, data), here)) as target:
            assert target.namespace == "local"
            return target.client.address

    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    assert address() == DEFAULT_SERVER
    serve(tmp_path / ".demo", "http://far")
    assert address() == "http://far"
    serve(tmp_path / "a" / ".demo", "http://demo")
    serve(tmp_path / "a" / ".spanyard", "http://up")
    assert address() == "http://up"
    monkeypatch.setenv("SPANYARD_SERVER", "http://variable/")
    assert address() == "http://variable"
    assert address(data=tmp_path / ".demo") == "http://far"
    assert address("http://flag", tmp_path / ".demo") == "http://flag"
    with pytest.raises(SettingError, match="no gateway runs on"):
        address(data=tmp_path / "a")


def deployed(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, **status}}


READY = {"conditions": [{"type": "Ready", "status": "True"}]}
ROLLING = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Reconciling", "status": "True"}]}  # fmt: skip
STALLED = {"conditions": [{"type": "Stalled", "status": "True"}]}


@pytest.mark.parametrize(
    ("found", "build", "wanted"),
    [
        (deployed(**READY), "", True),
        (deployed(**READY) | {"metadata": {"generation": 3}}, "", None),
        (deployed(**ROLLING), "", None),
        (deployed(**STALLED), "", False),
        (deployed(**READY, failure={"reason": "NeverReady"}), "", False),
        (deployed(**ROLLING, failure={"reason": "PortTaken"}), "", None),
        (deployed(**ROLLING, failure={"reason": "CrashLoop"}), "x-2", False),
        (deployed(), "", None),
        # An older revision serves, and the new build is not taken up yet.
        (deployed(**READY, revisions=[{"build": "x", "state": "Serving"}]), "x-2", None),
        (deployed(**READY, revisions=[{"build": "x-2", "state": "Starting"}]), "x-2", None),
        (deployed(**READY, revisions=[{"build": "x-2", "state": "Serving"}]), "x-2", True),
        (deployed(**READY, revisions=[{"build": "x-2", "state": "Failed"}]), "x-2", False),
    ],
)
def test_a_rollout_is_over_when_what_was_deployed_serves_or_will_not(
    found: dict[str, Any], build: str, wanted: bool | None
) -> None:
    assert settled(found, build) is wanted


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert all(one.name in script for one in COMMANDS)


def test_the_reference_of_commands_is_what_the_parsers_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == reference(), "run: make docs"


def test_a_command_that_asks_imports_little() -> None:
    """It has 0.25 s; each of these would take a fifth to all of it."""
    code = (
        "import sys\n"
        "from spanyard_local.command_line import command_parser\n"
        "command_parser().parse_args(['logs', 'x'])\n"
        "heavy = ('aiohttp', 'msgspec', 'yaml', 'chdb', 'zstandard', 'obstore', 'asyncio', 'pathspec')\n"
        "print(*(name for name in heavy if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
