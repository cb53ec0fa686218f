"""`spanyard up` as it is typed: what is wrong is told before anything is started."""

from pathlib import Path

import pytest

from spanyard_local.command_line import main


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--port=http", "'http' is not a number from 0 to 65535"),
        ("--clickhouse-port=70000", "'70000' is not a number from 0 to 65535"),
        ("--build-jobs=0", "'0' is not a number from 1 to 64"),
    ],
)
def test_a_number_that_is_none_is_told_with_its_limits(
    option: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["up", option])
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_a_file_of_variables_that_is_not_there_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.py").write_text("")
    data = tmp_path / "data"
    with pytest.raises(SystemExit) as left:
        main(["up", str(tmp_path), "--data", str(data), "--env-file", str(tmp_path / "none")])
    assert left.value.code == 1
    assert f"{tmp_path}/none: cannot be read" in capsys.readouterr().err
    assert not data.exists()
