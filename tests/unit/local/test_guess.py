"""What a folder without YAML is taken for."""

import json
from pathlib import Path

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_local.guess import Guess, guess, name_of
from spanyard_local.manifests import parse


def folder(tmp_path: Path, files: dict[str, str]) -> Path:
    made = tmp_path / "My Agent_2"
    for name, text in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def package(**fields: object) -> dict[str, str]:
    return {"package.json": json.dumps(fields)}


@pytest.mark.parametrize(
    ("files", "install", "build", "output", "command"),
    [
        (package(scripts={"start": "node server.js"}), "", "", ".", "node server.js"),
        (package(main="lib/x.js"), "", "", ".", "node lib/x.js"),
        ({**package(), "index.mjs": ""}, "", "", ".", "node index.mjs"),
        (
            {**package(scripts={"start": "next start", "build": "next build"},
                       dependencies={"next": "15"}), "package-lock.json": "{}"},
            "npm ci --no-audit --no-fund", "npm run build", ".", "npm start",
        ),
        (
            {**package(scripts={"start": "a && b"}), "pnpm-lock.yaml": ""},
            "pnpm install --frozen-lockfile", "", ".", "pnpm start",
        ),
        (
            {**package(scripts={"build": "mastra build"}, dependencies={"mastra": "1"}),
             "yarn.lock": ""},
            "yarn install --frozen-lockfile", "yarn run build", ".mastra/output",
            "node index.mjs",
        ),
        (
            {"requirements.txt": "uvicorn[standard]==0.30\nfastapi\n", "main.py": "app = FastAPI()\n"},
            "python3 -m pip install -q --target .packages -r requirements.txt", "", ".",
            "python3 -m uvicorn main:app --host 0.0.0.0 --port $PORT",
        ),
        ({"app.py": "print()"}, "", "", ".", "python3 app.py"),
        (
            {"pyproject.toml": "[project]\nname='a'\ndependencies=['x']\n", "agent/__main__.py": ""},
            "python3 -m pip install -q --target .packages .", "", ".", "python3 -m agent",
        ),
        (
            {"pyproject.toml": "[project]\nname='a'\n[project.scripts]\nserve='a.web:main'\n"},
            "python3 -m pip install -q --target .packages .", "", ".",
            "python3 -c 'import sys, a.web; sys.exit(a.web.main())'",
        ),
    ],
)  # fmt: skip
def test_folders_are_taken_for_what_they_are(
    tmp_path: Path, files: dict[str, str], install: str, build: str, output: str, command: str
) -> None:
    made = guess(folder(tmp_path, files))
    assert (made.name, made.install, made.build) == ("my-agent-2", install, build)
    assert (made.output, made.command) == (output, command)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"README.md": ""}, "no spanyard.yaml, package.json, pyproject.toml"),
        (package(name="x"), "says neither `scripts.start` nor `main`"),
        ({"package.json": "{"}, "package.json: is not JSON"),
        ({"package.json": "[]"}, "is not a JSON object"),
        ({"pyproject.toml": "["}, "pyproject.toml: is not TOML"),
        ({"requirements.txt": "x"}, "how to start it cannot be told"),
        ({"pyproject.toml": "", "a/__main__.py": "", "b/__main__.py": ""}, "how to start it"),
    ],
)
def test_what_cannot_be_told_is_said_with_what_to_do(
    tmp_path: Path, files: dict[str, str], told: str
) -> None:
    with pytest.raises(SpanyardError, match=told):
        guess(folder(tmp_path, files))


def test_the_yaml_of_a_guess_is_read_back_whatever_the_command_is(tmp_path: Path) -> None:
    made = Guess(
        name="a",
        because="x",
        install="echo 'a: b' # \"c\"",
        build="x",
        output="dist",
        command="python3 -c 'print(\"\\\\\")'",
        env={"A": "{}"},
    )
    project, build, deployment = (d.manifest for d in parse(made.yaml(), tmp_path))
    assert project["kind"] == "Project"
    assert (build["spec"]["install"], build["spec"]["output"]) == (made.install, "dist")
    assert build["spec"]["source"]["directory"]["path"] == str(tmp_path)
    assert deployment["spec"]["command"] == made.command
    assert deployment["spec"]["env"] == [{"name": "A", "value": "{}"}]
    assert deployment["spec"]["follow"] is True


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Über uns", "ber-uns"),
        ("--", "app"),
        ("x" * 60, "x" * 40),
        ("a.b", "a-b"),
        ("2048", "app-2048"),
    ],
)
def test_a_folder_s_name_becomes_a_label(tmp_path: Path, name: str, label: str) -> None:
    assert name_of(tmp_path / name) == label
