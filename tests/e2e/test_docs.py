"""The commands of README.md and docs/ do what the pages say: each is run, or says why it is not.

All pages share one `spanyard demo` and one small bucket of a project `team.shop`. What a page calls
by its usual address or folder is replaced by where it is here; nothing else is changed.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spanyard import ObservabilityWriter
from tests.e2e.blocks import Block, blocks_of, looks_like, pages
from tests.fakes.processes import Program, clean_environ, fetch, get_json, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.kill, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
BLOCKS = {
    str(path.relative_to(ROOT)): blocks_of(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    for path in pages(ROOT)
}
RUN = {page: run for page, found in BLOCKS.items() if (run := [b for b in found if b.note is None])}
SECONDS = 240
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENTRY = "65bbe41bc196fd2d5e66ea17"
"""The quarantine entry that pages speak of."""
INGESTER = "http://localhost:8321"
COLLECTOR = "http://127.0.0.1:4318"


@dataclass
class Place:
    """Where the pages' commands run."""

    folder: Path
    """Of this test alone."""
    demo: str = ""
    """Address of the demo's gateway."""
    entries: Iterator[str] = field(default_factory=lambda: iter(()))
    """Quarantine entries of the demo, one per block that needs one."""

    @property
    def small(self) -> list[str]:
        """Flags of the small bucket and its database, for `--storage … --clickhouse …`."""
        var = self.folder / "var" / "bucket"
        return [f"--storage file://{var}", f"--clickhouse chdb://{var.parent}/clickhouse"]

    def translated(self, text: str) -> str:
        """A page's text with its usual places replaced by ours."""
        for usual, here in (
            ("http://127.0.0.1:8080", self.demo),
            ("http://localhost:8080", self.demo),
            ("--storage … --clickhouse …", " ".join(self.small)),
            ("/var/spanyard", str(self.folder / "var")),
            ("/tmp/spanyard", str(self.folder / "tmp")),
        ):
            text = text.replace(usual, here)
        return text

    def run(self, block: Block) -> None:
        """Run all of a block; each command must end with 0 and print what is shown."""
        entry = next(self.entries) if ENTRY in block.text else ""
        with contextlib.ExitStack() as stack:
            ingester = stack.enter_context(self._ingester()) if INGESTER in block.text else ""
            asks_collector = f"curl -X POST {COLLECTOR}" in block.text
            collector = stack.enter_context(self._collector()) if asks_collector else COLLECTOR
            self._run(block, {ENTRY: entry, INGESTER: ingester, COLLECTOR: collector})

    @contextlib.contextmanager
    def _ingester(self) -> Iterator[str]:
        """One that runs on the small bucket; its address."""
        flags = [part for flag in self.small for part in flag.split()]
        log = self.folder / "ingester.log"
        with Program("spanyard_ingester", [*flags, "--port", "0"], log=log) as program:
            [address] = program.addresses(1)
            wait_for("its readiness", lambda: fetch(f"{address}/readyz")[0] == 200)
            yield address
            # A rebuild that was asked for goes on for a moment; pages speak of it as done.
            wait_for("its rebuild", lambda: get_json(f"{address}/rebuild")["finished"])
            assert program.stop() == 0

    @contextlib.contextmanager
    def _collector(self) -> Iterator[str]:
        """One with nothing to collect; its address."""
        own = self.folder / "idle"
        flags = ["--project=local.demo", f"--storage=file://{own}/bucket", f"--spool={own}/spool"]
        flags += [f"--spans-dir={own}/spans", "--port=0", "--otlp-port=0"]
        with Program("spanyard_sidecar", flags, log=self.folder / "collector.log") as program:
            yield program.addresses(1)[0]
            assert program.stop() == 0

    def _run(self, block: Block, of_block: dict[str, str]) -> None:
        for command in block.commands:
            text = self.translated(command.text)
            for usual, here in of_block.items():
                text = text.replace(usual, here)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.folder,
                env=self._environ(block.page),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            where = f"{block.page}:{block.line}: {command.text}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0, f"it ended with {done.returncode}: {where}"
            if command.shown:
                shown = "\n".join(command.shown)
                assert looks_like(command.shown, done.stdout), f"it shows\n{shown}\nbut {where}"

    def _environ(self, page: str) -> dict[str, str]:
        environ = clean_environ()
        environ["PATH"] = os.pathsep.join(
            [str(self.folder / "bin"), str(Path(sys.executable).parent), environ["PATH"]]
        )
        environ["SPANYARD_SERVER"] = self.demo  # as if it had the usual port
        if page == "docs/configuration.md":  # on how a setting is given: the others are given here
            environ |= {
                "SPANYARD_PROJECT": "local.demo",
                "SPANYARD_STORAGE": f"file://{self.folder}/configured/bucket",
                "SPANYARD_SPOOL": f"{self.folder}/configured/spool",
                "SPANYARD_SPANS_DIR": f"{self.folder}/configured/spans",
            }
        elif page == "docs/span-files.md":
            environ["SPANYARD_SPANS_DIR"] = f"{self.folder}/by hand"
        return environ


def put_commands(folder: Path) -> None:
    """What the pages call, where this machine has it otherwise or not at all."""
    folder.mkdir()
    help_text = subprocess.run(
        ["curl", "--help", "all"], capture_output=True, text=True, check=False
    ).stdout if shutil.which("curl") else ""  # fmt: skip
    # --json came with curl 7.82.
    curl = f"{shutil.which('curl')} -sS --fail-with-body" if "--json" in help_text else ""
    python = f"exec {sys.executable}"
    zstdcat = "import sys, zstandard as z; [z.ZstdDecompressor().copy_stream(open(p, 'rb'), sys.stdout.buffer) for p in sys.argv[1:]]"
    commands = {
        "curl": f'exec {curl} "$@"' if curl else f'{python} {HERE / "small_curl.py"} "$@"',
        **({} if shutil.which("zstdcat") else {"zstdcat": f'{python} -c "{zstdcat}" "$@"'}),
        **{
            name: f'{python} {HERE / "served.py"} {name} "$@"'
            for name in ("spanyard-sidecar", "spanyard-ingester", "spanyard-gateway")
        },
    }
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)


def put_small_bucket(bucket: Path) -> None:
    """Objects of `team.shop`: some of user u-17 and of the trace, and a bad line of that user."""
    at = "2026-11-21T10:00:00Z"
    with ObservabilityWriter(bucket / "observability", project="team.shop") as writer:
        for n in range(20):
            about = {"user.id": f"u-{n}"}
            writer.record_log(message=f"m{n}", timestamp=at, attributes=about)
            trace = TRACE if n < 5 else f"{n:032x}"
            writer.record_span(
                id=f"{n:016x}", traceId=trace, name="s", startTime=at, endTime=at, attributes=about
            )
    bad = bucket / "observability/logs/team.shop/20261121T100000Z_bad.jsonl"
    bad.write_text('{"type":"log","level":"loud","message":"m","attributes":{"user.id":"u-17"}}\n')


def put_bad_lines(bucket: Path, gateway: str) -> Iterator[str]:
    """Lines that cannot be loaded, not of the demo's project; their quarantine entries."""
    for n in range(4):
        at = f"2026-11-21T12:00:0{n}Z"
        line = {"type": "log", "timestamp": at, "level": "loud", "message": f"bad {n}"}
        path = bucket / f"observability/logs/team.shop/20261121T12000{n}Z_docs{n}.jsonl"
        half = path.with_suffix(".tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(line) + "\n")
        half.rename(path)

    def look() -> list[str] | None:
        items = get_json(f"{gateway}/quarantine?project=team.shop")["items"]
        return [item["id"] for item in items] if len(items) >= 4 else None

    return iter(wait_for("four quarantine entries", look))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("docs")
    put_commands(folder / "bin")
    put_small_bucket(folder / "var" / "bucket")
    (folder / "tmp").mkdir()
    with Program(
        "spanyard_local",
        ["demo", "--data", str(folder / "demo"), "--port", "0", "--rate", "2"],
        log=folder / "demo.log",
    ) as demo:

        def asked() -> bool:
            demo.check_alive()
            return "questions asked" in demo.text()

        wait_for("the demo's first questions", asked, within=240)
        found = re.search(r"page +(http://[\w.:]+)", demo.text())
        assert found
        gateway = found[1]
        wait_for("its records", lambda: _stored(gateway), within=240)
        yield Place(
            folder,
            gateway,
            put_bad_lines(folder / "demo" / "bucket", gateway),
        )
        assert demo.stop(240) == 0, demo.text()[-4000:]


def _stored(gateway: str) -> bool:
    of = f"{gateway}/projects/local.support"
    return all(get_json(f"{of}/{what}")["items"] for what in ("traces", "spans", "logs"))


@pytest.mark.parametrize("page", sorted(RUN))
def test_the_commands_of_a_page_do_what_it_says(page: str, place: Place) -> None:
    if page == "docs/rebuild.md" and not (place.folder / "var" / "clickhouse").exists():
        subprocess.run(
            f"{place.folder}/bin/spanyard-ingester {' '.join(place.small)}",
            shell=True, check=True, env=clean_environ(), timeout=SECONDS,
        )  # fmt: skip
    for block in RUN[page]:
        place.run(block)
    if page == "docs/span-files.md":
        (file,) = (place.folder / "by hand" / "logs").iterdir()
        assert re.fullmatch(r"\d{19}-[0-9a-f]{16}\.closed\.jsonl", file.name)
        assert json.loads(file.read_text())["message"] == "hello"


def test_every_block_that_is_not_run_says_why_or_where_it_is_tested() -> None:
    """What has no comment is run above; here, the comments are true."""
    wrong = []
    for page, found in BLOCKS.items():
        for block in found:
            if block.note is not None and block.note.kind == "tested by":
                test = ROOT / block.note.text
                if not test.is_file() or Path(page).name not in test.read_text("utf-8"):
                    wrong.append(f"{page}:{block.line}: {block.note.text} is no test of this page")
    assert not wrong, "\n".join(wrong)
    assert sum(map(len, RUN.values())) > 10, "most blocks are run"


def test_the_examples_in_python_of_the_sdk_page_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sdk.md").read_text("utf-8")
    scripts = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        done = subprocess.run(
            [sys.executable, "-c", script.replace("/data/observability", f"{tmp_path}/data")],
            env={**clean_environ(), "SPANYARD_SPANS_DIR": f"{tmp_path}/spans"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        for printed in re.findall(r"# (FlushResult\(.*\))", script):
            assert done.stdout.strip() == printed
    kinds = {path.parent.name for path in tmp_path.glob("spans/*/*")}
    assert kinds == {"spans", "logs", "metrics", "scores"}


PAGE = textwrap.dedent("""\
    # A page

    ```console
    $ one \\
        --more
    shown 5
    $ two
    ```

    <!-- not run: needs a cluster -->
    ```sh
    kubectl get pods
    ```

    ```yaml
    kind: Project
    ```
    """)


def test_blocks_are_found_with_their_commands_and_comments() -> None:
    first, second = blocks_of("page.md", PAGE)
    assert [(c.text, c.shown) for c in first.commands] == [
        ("one \\\n    --more", ["shown 5"]),
        ("two", []),
    ]
    assert (first.line, first.note) == (3, None)
    assert second.note is not None
    assert (second.note.kind, second.note.text) == ("not run", "needs a cluster")
    marked = PAGE.replace("# A page\n", "# A page\n\n<!-- tested by: tests/x.py -->\n")
    above_a_block = "# A page\n\n<!-- not run: x -->\n" + PAGE.removeprefix("# A page\n\n")
    assert [b.note is None for b in blocks_of("page.md", above_a_block)] == [False, False]
    assert blocks_of("page.md", above_a_block + "```sh\nx\n```\n")[2].note is None
    whole: Any = [block.note for block in blocks_of("page.md", marked)]
    assert [note.kind for note in whole] == ["tested by", "not run"]


def test_output_is_compared_with_numbers_and_left_out_parts_open() -> None:
    assert looks_like(['{"found": 18,231, "b": 1, …}'], '{"found": 2, "b": 0, "c": [1]}\n')
    assert looks_like(["N 5 of 1.5", "end"], "N 12,000 of 3\n  end")
    assert not looks_like(["5 written"], "5 lost")
    assert not looks_like(["5 written"], "5 written\nand more")
