"""docs/tutorial.md, as a reader does it: every command in order, every output as it is shown there."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.blocks import Block, Command, blocks_of, looks_like
from tests.fakes.up import environment

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
PATIENCE_S = 180.0
"""What is asked becomes what is shown within seconds; on a busy machine a start alone takes a minute."""
_FILE = re.compile(r"```python\n# (?P<name>[\w./-]+)\n(?P<text>.*?)```", re.DOTALL)
_TRACE = re.compile(r"\b[0-9a-f]{12}\b")
_VALUE = re.compile(r"\d[\d.,]*(?:µs|ms|s|m|h|d|kB|B)?(?![\w])|…")
_TIME = re.compile(r"\d{4}-\d\d-\d\d (?=\d\d:)|\b[0-9a-f]{12,32}\b")


def shape(line: str) -> str:
    """A line with its numbers, ids and gaps made equal; a date (at midnight) is left out."""
    line = _TIME.sub(lambda m: "" if " " in m[0] else "ID", line)
    return " ".join(_VALUE.sub("N", line).split())


def same(shown: list[str], printed: str) -> bool:
    return [shape(x) for x in shown] == [shape(x) for x in printed.splitlines() if x.strip()]


class Reader:
    """Somebody at two terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_folder = Path(sys.executable).parent
        self.environment = environment(PATH=f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
        self.trace = ""
        self.first: subprocess.Popen[bytes] | None = None
        self.screen = folder / "first-terminal.txt"

    def run(self, block: Block, command: Command) -> None:
        if command.text.startswith("spanyard up"):
            self.start(command)
            return
        text = _TRACE.sub(self.trace or "none", command.text)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                text, shell=True, capture_output=True, text=True, timeout=120, check=False,
                cwd=self.folder, env=self.environment,
            )  # fmt: skip
            out = done.stdout + (done.stderr if not done.stdout else "")
            if done.returncode == 0 and same(command.shown, out):
                break
            assert time.monotonic() < deadline, (
                f"docs/tutorial.md:{block.line}: $ {text}\nexit code {done.returncode}\n{out}"
                f"{done.stderr}\nshown:\n" + "\n".join(command.shown) + "\n" + self.printed()
            )
            time.sleep(0.5)
        found = _TRACE.search(out)
        if found and text.startswith("spanyard scores"):
            self.trace = found[0]

    def start(self, command: Command) -> None:
        """The first terminal; ports of the page's may be taken here."""
        words = ["spanyard", *command.text.split()[1:], "--port", "0", "--clickhouse-port", "0"]
        with self.screen.open("wb") as out:
            self.first = subprocess.Popen(
                [*words, "--build-dir", str(self.folder / "builds")],
                stdout=out, stderr=out, cwd=self.folder, env=self.environment,
            )  # fmt: skip
        self.until_shown(command.shown)

    def until_shown(self, shown: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not all(
            shape(line) in {shape(x) for x in self.printed().splitlines()}
            for line in shown
            if line.strip() not in {"", "…"}
        ):
            assert self.first is not None
            assert self.first.poll() is None, self.printed()
            assert time.monotonic() < deadline, "\n".join(shown) + "\n---\n" + self.printed()
            time.sleep(0.1)

    def printed(self) -> str:
        return self.screen.read_text("utf-8", "replace") if self.screen.exists() else ""

    def end(self) -> int:
        assert self.first is not None
        self.first.send_signal(signal.SIGINT)
        return self.first.wait(240)


def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    reader = Reader(tmp_path)
    for name, text in _FILE.findall(page):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    try:
        done = 0
        for block in blocks_of("tutorial.md", page):
            if block.note is not None and block.note.kind == "not run":
                continue
            for command in block.commands:
                reader.run(block, command)
                done += 1
        assert done >= 12
        assert reader.end() == 0, reader.printed()
        [end] = re.findall(r"```text\n(ending.*?)```", page, re.DOTALL)
        assert looks_like([line for line in end.splitlines() if line][-1:], reader.printed().splitlines()[-1])  # fmt: skip
        for line in end.splitlines():
            assert shape(line) in {shape(x) for x in reader.printed().splitlines()}, (
                reader.printed()
            )
    finally:
        if reader.first is not None and reader.first.poll() is None:
            reader.first.kill()
            reader.first.wait()
