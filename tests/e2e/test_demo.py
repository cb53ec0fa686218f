"""`spanyard demo` and `spanyard verify`, as a user types them; the README shows what they print."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.blocks import blocks_of, looks_like

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def spanyard(*args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPANYARD_")}
    return subprocess.run(
        [sys.executable, "-m", "spanyard_local", *args],
        check=False, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=environment,
    )  # fmt: skip


def shape(text: str) -> list[str]:
    """Lines with every number and folder made equal, so that two runs compare."""
    text = re.sub(r"\S*\.demo\S*|/\S*test_\S*", "DIR", text)
    text = re.sub(r"\d[\d,.]*", "N", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines() if line.strip()]


def test_the_demo_stores_every_record_once_and_the_readme_shows_its_words(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    run = spanyard("demo", "--once", "--data", folder)
    assert run.returncode == 0, run.stdout + run.stderr
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```console\n\$ make demo ARGS=--once\n(.*?)```", readme, re.DOTALL)
    assert shown
    printed = [line for line in shape(run.stdout) if not line.startswith("port N is taken")]
    assert shape(shown[1]) == printed

    verified = spanyard("verify", "--data", folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "Complete: every record is stored once." in verified.stdout
    answer = spanyard("verify", "local.support", "--data", folder, "-o", "json")
    totals = json.loads(answer.stdout)["totals"]
    assert totals["stored"] == totals["expected"] > 1000


def left_behind(data: Path) -> str:
    """What tells why a run is not complete."""
    proof = json.loads(spanyard("verify", "--data", str(data), "-o", "json").stdout)
    writers = [w for w in proof["writers"] if w["state"] == "open" or w["pending"]]
    complaints = [x for x in (data / "up.log").read_text().splitlines() if '"info"' not in x]
    pods = [pod.name for pod in (data / "runs").iterdir()]
    return f"\npods {pods}\nwriters {writers}\n" + "\n".join(complaints[-20:])


def test_nothing_is_lost_or_doubled_when_everything_is_killed_on_the_way(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    run = spanyard(
        "demo", "--once", "--data", folder, "--requests", "40", "--kills", "2", "-o", "json",
        timeout=600,  # three starts
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr + left_behind(tmp_path / "data")
    result = json.loads(run.stdout)
    assert result["ok"]
    counts = {(c["way"], c["signal"]): (c["emitted"], c["stored"]) for c in result["counts"]}
    assert all(emitted == stored for (way, _), (emitted, stored) in counts.items() if way != "OTLP")
    assert {way for way, _ in counts} == {"stdout and stderr", "span files", "OTLP"}
    verified = spanyard("verify", "--data", folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    readme = blocks_of("README.md", (ROOT / "README.md").read_text("utf-8"))
    shown = [c.shown for block in readme for c in block.commands if c.text.endswith("verify")]
    assert looks_like(shown[0], verified.stdout), verified.stdout


def found(line: str) -> list[dict[str, object]]:
    """What a `curl` of the demo's words finds."""
    address = line.split("'")[1]
    with urllib.request.urlopen(address, timeout=30) as answer:
        items: list[dict[str, object]] = json.loads(answer.read())["items"]
        return items


def test_ctrl_c_drains_and_a_second_demo_on_the_folder_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    command = [sys.executable, "-m", "spanyard_local", "demo", "--data", folder, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as demo:
        try:
            deadline = time.monotonic() + 180
            lines: list[str] = []
            assert demo.stdout
            while time.monotonic() < deadline and not any("questions asked" in x for x in lines):
                lines.append(demo.stdout.readline())
            second = spanyard("demo", "--once", "--data", folder)
            assert (second.returncode, "another spanyard is running" in second.stderr) == (1, True)
            # What it tells to try has something to show, soon.
            asks = [line for line in lines if "curl" in line]
            assert len(asks) == 2
            while not all(found(line) for line in asks):
                assert time.monotonic() < deadline, [found(line) for line in asks]
                time.sleep(0.5)
            demo.send_signal(signal.SIGINT)
            rest, _ = demo.communicate(timeout=240)
        finally:
            demo.kill()
        assert demo.returncode == 0, "".join(lines) + rest
    assert "Complete: every record is stored once." in rest


def test_verify_says_what_to_do_when_there_is_nothing_to_ask(tmp_path: Path) -> None:
    run = spanyard("verify", "--data", str(tmp_path / "none"), "--server", "http://127.0.0.1:9")
    assert run.returncode == 2
    assert "no gateway answers at http://127.0.0.1:9" in run.stderr
    assert "--server" in run.stderr


def test_a_loss_makes_verify_fail(tmp_path: Path) -> None:
    """Take a loaded object's rows away behind Spanyard's back: the proof must see it."""
    folder = tmp_path / "data"
    assert spanyard("demo", "--once", "--requests", "5", "--data", str(folder)).returncode == 0
    script = (
        "import asyncio, sys\n"
        "from spanyard_core.clickhouse import database\n"
        "async def main():\n"
        "    async with database(sys.argv[1]) as db:\n"
        '        await db.command("DELETE FROM logs WHERE seq = 3")\n'
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, f"chdb://{folder}/clickhouse"], check=True)
    run = spanyard("verify", "--data", str(folder))
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Not complete" in run.stdout
