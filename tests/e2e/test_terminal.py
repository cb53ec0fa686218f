"""Commands that go on, as people use them: at a real terminal, in a pipe, ended half way."""

import fcntl
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanyard_local.cli.top_rows import SORTS
from tests.fakes.sitting import Sitting
from tests.fakes.up import ROOT, Up, environment

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "spanyard_local"]
HEAD = "apiVersion: spanyard.dev/v1alpha1\n"
ENDLESS = f"""{HEAD}kind: Project
metadata: {{name: slow}}
---
{HEAD}kind: Build
metadata: {{name: endless}}
spec:
  project: slow
  source: {{directory: {{path: .}}}}
  build: "for i in $(seq 1 6000); do echo step $i; sleep 0.1; done"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def env(folder: Path) -> Iterator[dict[str, str]]:
    with Up(folder / ".spanyard", ROOT / "examples" / "node-server", cwd=folder) as up:
        up.endpoint("local.node-server")
        yield environment(SPANYARD_SERVER=up.address(), TERM="xterm")


def test_top_is_sorted_stopped_resized_and_left_on_a_small_terminal(
    folder: Path, env: dict[str, str]
) -> None:
    top = shlex.join([*COMMAND, "top", "--every", "1"])
    shell = ["sh", "-mc", f"{top}; echo it stopped; read line; fg; echo it ended: $?"]
    with Sitting(shell, columns=40, rows=10, cwd=folder, env=env) as user:
        user.shows("healthy")
        screen = user.screen
        assert screen.text.splitlines()[1].split()[:2] == ["DEPLOYMENT", "HEALTH"]
        assert len(screen.text.splitlines()) == 3, "nothing is wider than the terminal"
        assert not user.echoes
        for name, (key, _) in SORTS.items():
            user.press("Z\x1b[A\t" + key)
            user.until(lambda me, by=name: f"by {by} " in me.screen.text)  # type: ignore[misc]
        user.resize(100, 24)
        user.shows("RESTARTS")
        user.resize(30, 5)
        user.until(lambda me: "RESTARTS" not in me.screen.text)
        user.until(lambda me: len(me.screen.text.splitlines()) == 3)
        user.resize(100, 24)
        user.shows("RESTARTS")
        assert screen.text.count("DEPLOYMENT") == 1
        user.press("\x1a")
        user.shows("it stopped")
        assert user.echoes, "the shell finds its terminal as it was"
        user.press("\n")
        user.until(lambda me: screen.text.count("DEPLOYMENT") == 2)
        assert "it stopped" in screen.text, "it begins below what the shell said"
        user.until(lambda me: not me.echoes)
        user.press("hq")
        user.shows("it ended: 0")
        assert "by health" in screen.text
        assert user.wait() == 0
    with Sitting([*COMMAND, "top"], cwd=folder, env=env) as user:
        user.until(lambda me: "healthy" in me.screen.text and not me.echoes)
        user.process.terminate()
        assert (user.wait(), user.echoes) == (128 + signal.SIGTERM, True)


def test_ctrl_c_ends_whatever_is_followed_without_a_word(
    folder: Path, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "spanyard.yaml").write_text(ENDLESS)
    deployed = [*COMMAND, "deploy", str(tmp_path), "--no-wait"]
    subprocess.run(deployed, check=True, capture_output=True, cwd=folder, env=env, timeout=120)
    followed = {
        "logs dice -f": "following local.dice: live",
        "logs dice -f --trace 0af7651916cd43dd8448eb211c80319c": "stored lines, asked for",
        "build-log endless -f": "step 3",
        f"trace {'1' * 32} --live --project dice": "no span of it yet",
        "top": "healthy",
    }
    for words, sign in followed.items():
        plain = words == "logs dice -f"
        given = env | ({"NO_COLOR": "1"} if plain else {})
        with Sitting([*COMMAND, *words.split()], cwd=folder, env=given) as user:
            # It may have scrolled away, or been painted over, before it is looked at.
            user.until(lambda me, sign=sign: sign in me.printed or sign in me.screen.text)  # type: ignore[misc]
            user.press("\x03")
            assert user.wait() == 130, user.printed
            assert "Traceback" not in user.printed, user.printed
            assert user.echoes
            assert ("\x1b" in user.printed) == (words.startswith(("trace", "top")))


def test_a_ctrl_c_while_the_command_is_loaded_ends_it_without_a_traceback() -> None:
    loading = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "spanyard_local", "projects"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0, env=environment(),
    )  # fmt: skip
    assert loading.stderr is not None
    if sys.platform == "linux":
        # A page: it cannot get to its end before the signal, however late this process is.
        fcntl.fcntl(loading.stderr, fcntl.F_SETPIPE_SZ, 4096)
    with loading, loading.stderr:
        for line in loading.stderr:
            if b"spanyard_core.errors" in line:
                break
        loading.send_signal(signal.SIGINT)
        assert b"Traceback" not in loading.stderr.read()
    assert loading.returncode == -signal.SIGINT


def test_who_has_read_enough_ends_a_follower_and_a_pipe_gets_no_signs_for_terminals(
    folder: Path, env: dict[str, str]
) -> None:
    trace = ["--trace", "0af7651916cd43dd8448eb211c80319c"]  # not live: it asks again and again
    for words in (["logs", "dice", "-f"], ["logs", "dice", "-f", *trace]):
        # Nothing comes, so that no write tells that nobody reads.
        with subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=folder, env=env,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            if len(words) == 3:
                assert process.stdout.readline()
            else:
                assert "only the database" in process.stderr.readline()
            process.stdout.close()
            assert process.wait(60) == 141
            assert "Traceback" not in process.stderr.read()
    with subprocess.Popen(
        [*COMMAND, "top", "--every", "0.5"], stdout=subprocess.PIPE, text=True, cwd=folder, env=env
    ) as process:
        assert process.stdout is not None
        looks = [process.stdout.readline() for _ in range(2)]
        process.stdout.close()
        assert process.wait(60) == 141
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", "".join(looks))
    assert {json.loads(look)["id"] for look in looks} == {"local.node-server"}
