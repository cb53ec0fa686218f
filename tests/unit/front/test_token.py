"""The front's token."""

from pathlib import Path

import pytest

from spanyard_core.errors import SpanyardError
from spanyard_gateway.front import token_of


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = token_of(file)
    assert len(token) >= 40
    assert file.stat().st_mode & 0o777 == 0o600
    assert token_of(file) == token
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_token_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = token_of(file)
    file.chmod(0o644)
    assert token_of(file) != token
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "short", "a b " * 20, "x" * 500])
def test_what_is_no_token_is_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    assert token_of(file) != text.strip()


def test_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    token_of(elsewhere)
    (tmp_path / "token").symlink_to(elsewhere)
    with pytest.raises(SpanyardError, match="token file"):
        token_of(tmp_path / "token")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpanyardError, match="cannot be used"):
        token_of(tmp_path / "no" / "token")
