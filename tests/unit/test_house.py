"""The rules of the house that a machine can check. Each failure says what to do."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from spanyard_core.faults import FAULT_POINTS
from spanyard_core.settings_docs import described, refreshed

ROOT = Path(__file__).parents[2]
PRODUCT = ("core", "sidecar", "ingester", "gateway", "local", "sdk", "operator")
NOT_OURS = {"node_modules", "dist", "build", "__pycache__"}
CONFIGURATION = ROOT / "docs" / "configuration.md"


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """What belongs to the repository; without git, which a bare machine may lack."""

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            hidden = path.name.startswith(".") and path.name not in {".ci", ".gitignore"}
            if hidden or path.name in NOT_OURS or path.name.endswith(".egg-info"):
                continue
            if path.is_dir():
                yield from walk(path)
            elif not suffixes or path.suffix in suffixes:
                yield path

    return tuple(walk(ROOT))


def product_modules(*folders: str) -> list[Path]:
    return [p for p in files(".py") if p.relative_to(ROOT).parts[0] in (folders or PRODUCT)]


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


def test_the_standard_librarys_operator_is_not_shadowed() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), (
        "operator/__init__.py shadows the standard library's operator and breaks Python: remove it"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import operator; operator.eq"],
        cwd=ROOT,
        env={"PYTHONPATH": "."},
        check=False,
    )
    assert done.returncode == 0


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in files(".py") if path.is_relative_to(ROOT / "tests")}
    missing = [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").exists()]
    assert not missing, f"add an empty __init__.py to {missing}"


def test_modules_stay_small() -> None:
    sizes = {p: text_of(p).count("\n") for p in product_modules()}
    large = [f"{p.relative_to(ROOT)} ({n} lines)" for p, n in sizes.items() if n > 450]
    assert not large, f"split by nouns, 100–250 lines each: {large}"


def settings_classes() -> set[tuple[str, str]]:
    found = set()
    for path in product_modules():
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and any(
                isinstance(field, ast.AnnAssign)
                and isinstance(field.value, ast.Call)
                and isinstance(field.value.func, ast.Name)
                and field.value.func.id == "setting"
                for field in node.body
            ):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
                found.add((module, node.name))
    return found


@pytest.mark.slow
def test_every_settings_class_has_its_table_in_the_docs() -> None:
    assert described(text_of(CONFIGURATION)) == settings_classes(), (
        "add `<!-- settings: module:Class -->` and `<!-- end -->` to docs/configuration.md "
        "and run `make docs`"
    )


def test_the_tables_of_settings_are_fresh() -> None:
    text = text_of(CONFIGURATION)
    assert refreshed(text) == text, "run `make docs`"


def test_every_variable_that_the_code_reads_is_documented() -> None:
    documented = set(re.findall(r"SPANYARD_[A-Z0-9_]+", text_of(CONFIGURATION)))
    used = {
        (name, str(path.relative_to(ROOT)))
        for path in [*product_modules(), ROOT / "Makefile", *files(".py")]
        for name in re.findall(r"[\"'](SPANYARD_[A-Z0-9_]*[A-Z0-9])[\"']", text_of(path))
        if path.relative_to(ROOT).parts[:3] != ("tests", "unit", "core")  # made-up settings
    }
    missing = sorted((name, path) for name, path in used if name not in documented)
    assert not missing, f"tell in docs/configuration.md what these variables do: {missing}"


def test_nothing_names_a_registry_or_a_path_of_somebodys_machine() -> None:
    forbidden = [
        r"/" + r"work/(main|shared)",
        r"/tmp/" + r"plan",
        r"--(extra-)?" + r"index-url",
        r"pythonhosted" + r"\.org",
        r"https?://[\w.:-]+/(simple|" + r"pypi)\b",
        r"registry\.npm" + r"js",
        r"/home/" + r"[a-z]+/",
    ]
    pattern = re.compile("|".join(forbidden))
    named = [
        place(path, number)
        for path in files()
        if path.suffix not in {".png", ".woff2", ".zst", ".gz"}
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not named, f"belongs to one machine, not to the repository: {named}"


def test_every_silenced_lint_finding_says_why() -> None:
    bare = [
        place(path, number)
        for path in files(".py")
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if re.search(r"#\s*(noqa)(?!: [A-Z]+\d+(, ?[A-Z]+\d+)* +(-{1,2}|–) \w)", line)
    ]
    assert not bare, f"write `noqa: CODE - why` behind the #: {bare}"


def test_relative_links_in_the_docs_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)} → {target}"
        for path in files(".md")
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text_of(path))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not broken, f"mend or remove: {broken}"


def passed_points() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in product_modules():
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            constants = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if name == "fault_point" and constants:
                found[str(constants[0])] = place(path, node.lineno)
        for number, line in enumerate(text_of(path).splitlines(), 1):
            # write_durably passes two points with the prefix it is given
            for prefix in re.findall(r"\bfaults\s*=\s*\"([a-z]+)\"", line):
                for step in ("written", "renamed"):
                    found[f"{prefix}.{step}"] = place(path, number)
    return found


def test_every_fault_point_is_passed_somewhere_and_every_passed_one_is_listed() -> None:
    passed = passed_points()
    unknown = {name: where for name, where in passed.items() if name not in FAULT_POINTS}
    assert not unknown, f"add to FAULT_POINTS with its meaning: {unknown}"
    idle = sorted(set(FAULT_POINTS) - set(passed))
    assert not idle, f"listed, but nobody passes them: {idle}"


# -- seams: the simulator drives the data path through clock, files and storage -------------------

BEHIND_SEAMS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "asyncio": {"sleep", "open_connection", "start_server", "to_thread"},
    "os": {
        *("open", "rename", "replace", "link", "unlink", "remove", "mkdir", "makedirs", "rmdir"),
        *("listdir", "scandir", "stat", "fsync", "fdatasync", "truncate", "ftruncate", "urandom"),
        *("pread", "pwrite", "statvfs"),
    },
    "random": {
        *("random", "randint", "randrange", "choice", "uniform", "getrandbits", "randbytes"),
        *("shuffle", "sample"),
    },
    "uuid": {"uuid1", "uuid4"},
    "secrets": {"token_hex", "token_bytes", "token_urlsafe", "choice", "randbits"},
    "tempfile": {"mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"},
    "shutil": {"rmtree", "move", "copy", "copyfile", "disk_usage"},
}
PATH_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "touch", "iterdir", "glob"}

EDGES: dict[str, str] = {
    "ingester/spanyard_ingester/warehouse_clickhouse.py": (
        "the simulator has a warehouse of its own; both keep tests/contract/test_warehouse.py"
    ),
    "ingester/spanyard_ingester/warehouse_selftest.py": "runs against the real engine only",
    "sidecar/spanyard_sidecar/process.py": "composes the real world: this is where seams are made",
    "sidecar/spanyard_sidecar/gateway_storage.py": "is a Storage: the seam's far side",
    "sidecar/spanyard_sidecar/inotify.py": "wakes the reader early; what is read goes through Files",
    "sidecar/spanyard_sidecar/metrics.py": "the default of an injected clock",
    "sidecar/spanyard_sidecar/pod_token.py": "goes with requests to the gateway, which are a seam",
}
"""Module → why it may touch the world directly."""
BESIDE = ("sidecar/spanyard_sidecar/sources/", "sidecar/spanyard_sidecar/steps/")
"""Programs of a build that live in the sidecar's package: no records go through them."""


def direct_calls(path: Path) -> Iterator[tuple[int, str]]:
    """Calls (or mentions) of what belongs behind a seam, through any import name."""
    names: dict[str, str] = {"open": "open"}
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            full = names.get(node.id, "")
            module, _, name = full.rpartition(".")
            if full == "open" or name in BEHIND_SEAMS.get(module, ()):
                yield node.lineno, full
        elif isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            base = getattr(node.value, "id", getattr(node.value, "attr", ""))
            module = names.get(base, base).rpartition(".")[2]
            if node.attr in BEHIND_SEAMS.get(module, ()):
                yield node.lineno, f"{module}.{node.attr}"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in PATH_METHODS
        ):
            yield node.lineno, f"….{node.func.attr}"


def test_the_data_path_touches_time_disk_and_chance_only_through_the_seams() -> None:
    found = [
        f"{place(path, line)} {what}"
        for path in product_modules("sidecar", "ingester")
        if str(path.relative_to(ROOT)) not in EDGES
        and not str(path.relative_to(ROOT)).startswith(BESIDE)
        for line, what in direct_calls(path)
    ]
    assert not found, (
        "go through Clock, Files, Storage or the injected random.Random, or list the module as an "
        f"edge with its reason: {found}"
    )


def test_listed_edges_exist_and_are_needed() -> None:
    idle = [
        module
        for module in EDGES
        if not (ROOT / module).exists() or not list(direct_calls(ROOT / module))
    ]
    assert not idle, f"no edges any more: {idle}"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "from time import time as t\nt()",
        "import asyncio as a\nasync def f():\n    await a.sleep(1)",
        "open('x')",
        "import os\nf = os.rename",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "from pathlib import Path\nPath('x').read_text()",
        "import random\nrandom.random()",
    ],
)
def test_the_watch_over_the_seams_sees(code: str, tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text(code)
    assert list(direct_calls(module))


def test_the_watch_over_the_seams_lets_the_seams_pass(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text(
        "import random\nfrom spanyard_core.clock import Clock\n"
        "async def f(clock: Clock, files, rng: random.Random):\n"
        "    clock.time_ns(); await clock.sleep(1); files.rename('a', 'b'); files.listdir('a')\n"
        "    rng.random(); files.stat('x')\n"
    )
    assert not list(direct_calls(module))


def test_every_command_of_the_package_can_be_imported() -> None:
    scripts = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["scripts"]
    for command, target in scripts.items():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), command
