"""Objects on their way into the database: a folder of one's own, whoever else works on the machine."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spanyard_core.files import SystemFiles
from spanyard_ingester.settings import IngesterSettings
from spanyard_ingester.workspace import Workspace
from spanyard_local.evaluation.settings import ServerSettings
from spanyard_local.layout import Layout
from spanyard_local.serve import ingester_settings


def of_up(data: Path) -> IngesterSettings:
    layout = Layout(data)
    layout.make()
    return ingester_settings(layout)


def of_server(data: Path) -> IngesterSettings:
    return ServerSettings(data=data).with_places().ingester_settings({})


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def opened(settings: IngesterSettings, instance: str) -> Workspace:
    workspace = Workspace(SystemFiles(), settings.folder, settings.name, instance)
    workspace.open()
    return workspace


@pytest.mark.parametrize("settings_of", [of_up, of_server])
def test_a_start_empties_its_own_folder_and_no_neighbours(
    tmp_path: Path, system: Path, settings_of: Callable[[Path], IngesterSettings]
) -> None:
    prepared = opened(settings_of(tmp_path / "one"), "a").keep(b"an object")
    opened(settings_of(tmp_path / "two"), "b")
    assert prepared.read_bytes() == b"an object"
    opened(settings_of(tmp_path / "one"), "c")  # after a kill
    assert not prepared.exists()
    assert list(system.iterdir()) == []


def test_it_is_its_owners_alone_and_a_server_may_be_given_another(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)  # given with --data, and there before
    folder = Path(of_up(tmp_path / "data").folder)
    assert folder.is_relative_to(tmp_path / "data")
    assert folder.stat().st_mode & 0o077 == 0
    given = (
        ServerSettings(data=tmp_path)
        .with_places()
        .ingester_settings({"SPANYARD_TEMP_DIR": "/elsewhere"})
    )
    assert given.folder == "/elsewhere"
