"""What is left out of a copy: as git would have it, and what tools make."""

import subprocess
from pathlib import Path

import pytest

from spanyard_local.layout import Layout
from spanyard_local.sources.folder import copy_folder
from spanyard_local.watching import tree
from spanyard_sidecar.sources.counting import leads_out


def write(root: Path, *names: str, **texts: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def copied(source: Path, target: Path) -> set[str]:
    target.mkdir()
    copy_folder(source, target)
    return {str(p.relative_to(target)) for p in target.rglob("*") if not p.is_dir()}


def test_what_tools_make_is_left_out_at_any_depth(tmp_path: Path) -> None:
    write(tmp_path / "s", "a.py", "node_modules/x/i.js", "p/node_modules/y", "p/dist/z", ".git/HEAD",
          "p/.git", ".next/a", ".turbo/b", ".mastra/c", ".venv/bin/python", "q/__pycache__/a.pyc",
          ".spanyard/bucket/x", "p/distance.txt", ".github/w.yml")  # fmt: skip
    assert copied(tmp_path / "s", tmp_path / "t") == {"a.py", "p/distance.txt", ".github/w.yml"}


def test_files_of_secrets_beside_the_yaml_get_into_no_artifact(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write(root, "a.py", "secrets/model.env", "deploy/secrets/git.env", "secrets/vault.py")
    assert copied(root, tmp_path / "t") == {"a.py", "secrets/vault.py"}
    (root / ".spanyardignore").write_text("!/secrets/model.env\n")
    assert "secrets/model.env" in copied(root, tmp_path / "u")
    (tmp_path / "v").mkdir()
    copy_folder(root, tmp_path / "v", never=[root / "a.py"], everything=True)
    assert not (tmp_path / "v" / "a.py").exists()  # such as what --env-file names


def test_a_data_folder_gets_into_no_artifact_whatever_its_name(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write(root, "a.py")
    layout = Layout(root / "deep" / "data")
    layout.make()
    write(layout.root, "clickhouse-token", "runs/uid/logs/0.log")
    assert copied(root, tmp_path / "t") == {"a.py"}


def test_ignore_files_count_in_their_folder_and_the_deeper_wins(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write(root, "a.log", "keep.log", "p/a.log", "p/b.txt", "p/q/b.txt", "p/q/x.log",
          "dist/app.js", "p/secret.env", "only/here.md", "p/only/here.md")  # fmt: skip
    (root / ".gitignore").write_text("*.log\n!keep.log\n/only/\n*.env\n")
    (root / "p" / ".gitignore").write_text("b.txt\n!q/b.txt\n!a.log\n")
    (root / ".spanyardignore").write_text("!dist/\n")
    assert copied(root, tmp_path / "t") == {
        ".gitignore", ".spanyardignore", "p/.gitignore",
        "keep.log", "p/a.log", "p/q/b.txt", "dist/app.js", "p/only/here.md",
    }  # fmt: skip


@pytest.mark.parametrize("where", ["", "p/"])
def test_an_ignore_file_that_vanishes_while_it_is_looked_at_takes_nothing_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    root = tmp_path / "s"
    file = root / where / ".gitignore"
    read_text = Path.read_text

    def vanishing(path: Path, *how: str) -> str:
        path.unlink()
        return read_text(path, *how)

    write(root, "a.py", "p/b.py")
    file.write_text("none\n")
    monkeypatch.setattr(Path, "read_text", vanishing)
    assert copied(root, tmp_path / "t") == {"a.py", "p/b.py"}
    file.touch()
    assert {name for name, _ in tree(root)()} == {"a.py", "p/b.py"}
    assert not file.exists()


PATTERNS = ["*.log", "!keep.log", "/top", "sub/", "**/deep", "a/**/z", "a/*", "!a/b", "x?y", "[ab].c",
            "# comment", "\\#odd", "trailing ", "a/b/*.txt", "!a/b/k.txt"]  # fmt: skip
NAMES = ["t.log", "keep.log", "top", "s/top", "sub/f", "s/sub/f", "q/deep/f", "deep", "a/z", "a/c/z",
         "a/b/z", "a/b/k.txt", "a/b/l.txt", "xzy", "s/x1y", "a.c", "s/b.c", "#odd", "s/#odd"]  # fmt: skip


@pytest.mark.parametrize("size", [3, 6, 15])
def test_the_patterns_are_those_of_git_itself(tmp_path: Path, size: int) -> None:
    for start in range(0, len(PATTERNS), 3):
        root = tmp_path / f"{start}"
        write(root, *NAMES)
        chosen = (PATTERNS[start:] + PATTERNS[:start])[:size]
        (root / ".gitignore").write_text("\n".join(chosen) + "\n")
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--others", "--exclude-standard"],
            cwd=root, check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert copied(root, tmp_path / f"{start}-t") == set(listed.stdout.split("\0")) - {""}


def test_links_stay_links_unless_they_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write(root, "a/file")
    (root / "in").symlink_to("a/file")
    (root / "a" / "up").symlink_to("../a")
    (root / "out").symlink_to("../elsewhere")
    (root / "absolute").symlink_to("/etc")
    target = tmp_path / "t"
    target.mkdir()
    done = copy_folder(root, target)
    assert (target / "in").readlink() == Path("a/file")
    assert (target / "a/up").is_symlink()
    assert sorted(done.links) == ["absolute", "out"]
    assert "not copied, links that lead out of the folder: absolute, out" in done.told()
    assert leads_out("a/b/link", "../../../x")
    assert not leads_out("a/b/link", "../../x")


def test_a_copy_into_itself_ends_and_modes_and_times_stay(tmp_path: Path) -> None:
    import os
    import socket

    write(tmp_path, "run.sh", "data/x")
    (tmp_path / "run.sh").chmod(0o755)
    os.utime(tmp_path / "run.sh", (1, 1))
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(os.path.relpath(tmp_path / "plug"))
        target = tmp_path / "t"
        target.mkdir()
        done = copy_folder(tmp_path, target, never=[tmp_path / "data"])
    assert {p.name for p in target.iterdir()} == {"run.sh"}
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "run.sh").stat().st_mtime == 1
    assert done.special == ["plug"]
