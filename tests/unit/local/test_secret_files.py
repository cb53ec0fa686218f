"""Secrets beside the YAML."""

from pathlib import Path

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_local.secret_files import SecretFiles, read_env


def test_a_name_is_a_file_and_the_given_file_answers_for_the_rest(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/openai.env").write_text("KEY=a\n")
    (tmp_path / "all.env").write_text("KEY=b\nOTHER=c\n")
    alone = SecretFiles([tmp_path])
    assert alone["openai"] == {"KEY": "a"}
    assert list(alone) == ["openai"]
    for name in ("stripe", "../all", "../secrets/openai", ".openai"):
        with pytest.raises(KeyError):
            alone[name]
    assert SecretFiles([tmp_path], [tmp_path / "all.env"])["stripe"]["OTHER"] == "c"


def test_lines_are_read_as_shells_write_them(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text(
        '# a\n\nexport A=1\nB = two words \nC=\'a\\nb\'\nD="a\\n\\"b\\\\"\nE=\nF=x=y#z\n'
    )
    assert read_env(file) == {
        "A": "1", "B": "two words", "C": "a\\nb", "D": 'a\n"b\\', "E": "", "F": "x=y#z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [("A=1\nhunter2\n", "line 2: is not KEY=value"), ("A='hunter2", "line 1: the quote of A")],
)
def test_a_bad_line_is_told_by_its_number_and_never_shown(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "x.env").write_text(text)
    with pytest.raises(SpanyardError, match=told) as error:
        read_env(tmp_path / "x.env")
    assert "hunter2" not in str(error.value)
