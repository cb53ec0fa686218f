"""A folder without YAML: what it is, and the YAML that would say so.

The guess is a text that is printed and may be kept, so that a person can correct it; it is then
read as any other. Looks at a handful of files, never runs anything.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.kinds import API_VERSION

MAX_NAME = 40
"""Room below the 50 of a name, for the numbers of builds."""
PACKAGES = ".packages"
"""Where a Python artifact carries what it needs: `pip install --target`, no virtual environment,
whose paths would be those of the build's folder."""
PYTHON_FILES = ("main.py", "app.py", "server.py")
NODE_FILES = ("server.js", "server.mjs", "index.js", "index.mjs", "src/server.js", "src/index.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What a folder seems to be."""

    name: str
    because: str
    """Which files said so, for a person."""
    install: str = ""
    build: str = ""
    output: str = "."
    command: str
    env: Mapping[str, str] = field(default_factory=dict)

    def yaml(self) -> str:
        """The three objects, commented."""
        lines = [
            f"# Guessed from {self.because}. Correct what is wrong, and keep it as spanyard.yaml.",
            f"apiVersion: {API_VERSION}",
            "kind: Project",
            "metadata:",
            f"  name: {self.name}",
            "---",
            f"apiVersion: {API_VERSION}",
            "kind: Build",
            "metadata:",
            f"  name: {self.name}",
            "spec:",
            f"  project: {self.name}",
            "  source:",
            "    directory:",
            "      path: .",
        ]
        for key, value in (("install", self.install), ("build", self.build)):
            if value:
                lines.append(f"  {key}: {json.dumps(value)}")
        if self.output != ".":
            lines.append(f"  output: {json.dumps(self.output)}")
        lines += [
            "---",
            f"apiVersion: {API_VERSION}",
            "kind: Deployment",
            "metadata:",
            f"  name: {self.name}",
            "spec:",
            f"  project: {self.name}",
            "  follow: true  # the latest successful build",
            f"  command: {json.dumps(self.command)}",
        ]
        if self.env:
            lines.append("  env:")
            for key, value in self.env.items():
                lines += [f"    - name: {key}", f"      value: {json.dumps(value)}"]
        return "\n".join(lines) + "\n"


def guess(folder: Path) -> Guess:
    """What to build and run in `folder`. Raises SpanyardError: what was looked for, what to do."""
    name = name_of(folder)
    if (folder / "package.json").is_file():
        return _node(folder, name)
    if any((folder / f).is_file() for f in ("pyproject.toml", "requirements.txt", *PYTHON_FILES)):
        return _python(folder, name)
    raise SpanyardError(
        f"{folder}: cannot tell what this is: no spanyard.yaml, package.json, pyproject.toml, "
        f"requirements.txt or {', '.join(PYTHON_FILES)}. Name another folder, or write a "
        "spanyard.yaml (examples/ has some)"
    )


def name_of(folder: Path) -> str:
    """A DNS label made of the folder's name. It begins with a letter: a Service is named so."""
    label = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    if label[:1].isdigit():
        label = f"app-{label}"
    return label[:MAX_NAME].rstrip("-") or "app"


# --- Node -------------------------------------------------------------------------------------


def _node(folder: Path, name: str) -> Guess:
    file = folder / "package.json"
    package = _object(file)
    scripts = _texts(package.get("scripts"))
    needs = {**_texts(package.get("dependencies")), **_texts(package.get("devDependencies"))}
    build = scripts.get("build", "")
    tool, install = _node_tool(folder, wanted=bool(needs))
    told = "package.json" if tool == "npm" else f"package.json and {tool}'s lock file"
    if "mastra build" in build:
        # Its output has a package.json and modules of its own.
        return Guess(
            name=name,
            because=f"{told} (Mastra)",
            install=install,
            build=f"{tool} run build",
            output=".mastra/output",
            command="node index.mjs",
        )
    start = scripts.get("start", "")
    main = package.get("main") if isinstance(package.get("main"), str) else ""
    known = next((f for f in NODE_FILES if (folder / f).is_file()), "")
    if start:
        # A signal to npm reaches the server late or never: run what it would run.
        command = start if re.fullmatch(r"node [^&|;<>]+", start) else f"{tool} start"
    elif main or known:
        command = f"node {main or known}"
    else:
        raise SpanyardError(
            f"{file}: says neither `scripts.start` nor `main`, so how to start it cannot be told; "
            "add one of them"
        )
    return Guess(
        name=name,
        because=told,
        install=install,
        build=f"{tool} run build" if build else "",
        command=command,
    )


def _node_tool(folder: Path, *, wanted: bool) -> tuple[str, str]:
    for lock, tool, install in (
        ("pnpm-lock.yaml", "pnpm", "pnpm install --frozen-lockfile"),
        ("yarn.lock", "yarn", "yarn install --frozen-lockfile"),
        ("package-lock.json", "npm", "npm ci --no-audit --no-fund"),
    ):
        if (folder / lock).is_file():
            return tool, install
    return "npm", "npm install --no-audit --no-fund" if wanted else ""


# --- Python -----------------------------------------------------------------------------------


def _python(folder: Path, name: str) -> Guess:
    project = _project(folder)
    needs: list[str] = []
    install = ""
    because = []
    if (folder / "requirements.txt").is_file():
        needs = _requirements(folder / "requirements.txt")
        because.append("requirements.txt")
        install = f"python3 -m pip install -q --target {PACKAGES} -r requirements.txt"
    elif (folder / "pyproject.toml").is_file():
        found = project.get("dependencies")
        needs = [str(n) for n in found] if isinstance(found, list) else []
        if "name" in project:
            install = f"python3 -m pip install -q --target {PACKAGES} ."
    if (folder / "pyproject.toml").is_file():
        because.append("pyproject.toml")
    command, entry = _python_command(folder, project, needs)
    because.append(entry)
    return Guess(
        name=name,
        because=", ".join(dict.fromkeys(because)),
        install=install,
        command=command,
        env={"PYTHONPATH": PACKAGES, "PYTHONUNBUFFERED": "1"}
        if install
        else {"PYTHONUNBUFFERED": "1"},
    )


def _python_command(folder: Path, project: Mapping[str, Any], needs: list[str]) -> tuple[str, str]:
    names = {re.split(r"[^A-Za-z0-9_.-]", need.strip(), maxsplit=1)[0].lower() for need in needs}
    for file in PYTHON_FILES:
        if not (folder / file).is_file():
            continue
        if "uvicorn" in names and re.search(r"^app\s*[:=]", _text(folder / file), re.MULTILINE):
            module = file.removesuffix(".py")
            return f"python3 -m uvicorn {module}:app --host 0.0.0.0 --port $PORT", file
        return f"python3 {file}", file
    packages = sorted(p.parent.name for p in folder.glob("*/__main__.py"))
    if len(packages) == 1:
        return f"python3 -m {packages[0]}", f"{packages[0]}/__main__.py"
    scripts = _texts(project.get("scripts"))
    if len(scripts) == 1:
        script, target = next(iter(scripts.items()))
        module, _, function = target.partition(":")
        code = f"import sys, {module}; sys.exit({module}.{function}())"
        return f"python3 -c '{code}'", f"the script {script} in pyproject.toml"
    raise SpanyardError(
        f"{folder}: is Python, but how to start it cannot be told: there is no "
        f"{', no '.join(PYTHON_FILES)} and not exactly one package with a __main__.py. Add one, "
        "or write a spanyard.yaml with `command`"
    )


def _project(folder: Path) -> Mapping[str, Any]:
    file = folder / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(_text(file)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise SpanyardError(f"{file}: is not TOML: {error}") from error
    return found if isinstance(found, dict) else {}


def _requirements(file: Path) -> list[str]:
    return [
        line for line in _text(file).splitlines() if line.strip() and line.strip()[0] not in "#-"
    ]


# --- files ------------------------------------------------------------------------------------


def _object(file: Path) -> Mapping[str, Any]:
    try:
        made = json.loads(_text(file))
    except ValueError as error:
        raise SpanyardError(f"{file}: is not JSON: {error}") from error
    if not isinstance(made, dict):
        raise SpanyardError(f"{file}: is not a JSON object")
    return made


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, str)}


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpanyardError(f"{file}: cannot be read: {error}") from error
