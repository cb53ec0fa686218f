"""YAML of users: what is read, and what is said of what cannot be."""

from pathlib import Path

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_local.manifests import read_file, read_folder

BUILD = """
apiVersion: spanyard.dev/v1alpha1
kind: Build
metadata: {name: web}
spec:
  project: shop
  source: {directory: {path: app}}
"""


def test_paths_start_at_the_file_and_dates_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BUILD + "  env: [{name: DAY, value: 2026-11-21}]\n")
    (document,) = read_file(tmp_path / "a.yaml").documents
    assert document.manifest["spec"]["source"]["directory"]["path"] == str(tmp_path / "app")
    assert document.manifest["spec"]["env"][0]["value"] == "2026-11-21"


def test_a_folder_gives_ours_and_says_what_it_leaves(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(BUILD)
    (tmp_path / "a.yaml").write_text(
        f"{BUILD}---\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\n"
    )
    (tmp_path / "compose.yaml").write_text("services: [\n")  # somebody else's, and not even YAML
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/c.yaml").write_text(BUILD)
    found = read_folder(tmp_path)
    assert [d.file.name for d in found.documents] == ["a.yaml", "b.yml"]
    assert len(found.skipped) == 1
    assert "Secret key" in found.skipped[0]


def test_merge_keys_work(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: spanyard.dev/v1alpha1\nkind: Project\nmetadata: &m {name: a}\n"
        "spec: {<<: *m, displayName: x}\n"
    )
    (document,) = read_file(tmp_path / "a.yaml").documents
    assert document.manifest["spec"] == {"name": "a", "displayName": "x"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", r"a\.yaml, line 1, column 6: expected"),
        ("a: 1\na: 2", r"line 2, column 1: the key 'a' is there twice"),
        ("1: 2", "line 1, column 1: the key 1 is not a text"),
        ("- a", "document 1 is not an object"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("\x00", "this is not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SpanyardError, match=told):
        read_file(tmp_path / "a.yaml")


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpanyardError, match="is not UTF-8"):
        read_file(tmp_path / "a.yaml")
    with pytest.raises(SpanyardError, match="cannot be read: No such file"):
        read_file(tmp_path / "none.yaml")


def test_somebody_elses_object_may_have_any_shape(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: List\nmetadata: [1]\n")
    assert "List ? in" in read_file(tmp_path / "a.yaml").skipped[0]
