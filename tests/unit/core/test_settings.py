"""Settings come from flags, variables, a file and defaults, and every error names the field."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from spanyard_core import __version__
from spanyard_core.errors import SettingError
from spanyard_core.settings import (
    load_settings,
    refuse,
    setting,
    settings_of,
    settings_or_exit,
    shown_settings,
)


@dataclass(frozen=True, kw_only=True)
class Plain:
    storage: str = setting(help="where objects go", required=True)
    flush_interval: float = setting(5.0, help="time between flushes", unit="duration", least=0.01)
    chunk_size: int = setting(10_000_000, help="decoded size", unit="size", most=2**30)
    level: str = setting("info", help="log level", choices=("debug", "info"))
    workers: int = setting(4, help="uploads at once, 100 % fair", least=1, most=64, group="uploads")
    ratio: float = setting(0.5, help="share", least=0, most=1)
    live: bool = setting(True, help="serve live lines")
    spool: Path = setting(Path("/var/spool"), help="spool directory")
    token: str | None = setting(None, help="gateway token", secret=True)
    skip: list[str] = setting([], help="containers left out")

    def __post_init__(self) -> None:
        if self.level == "debug" and self.ratio == 1:
            raise refuse(self, "ratio", "is too much with level debug")


def load(*argv: str, **environ: str) -> Plain:
    return load_settings(Plain, prog="spanyard-test", description="d", argv=argv, environ=environ)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(SettingError) as caught:
        load(*argv, **environ)
    return str(caught.value)


def test_defaults_hold_where_nothing_is_given() -> None:
    settings = load("--storage", "file:///s")
    assert settings == Plain(storage="file:///s")
    assert settings.skip == []


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('storage = "file:///f"\nflush_interval = "1s"\nworkers = 3\nratio = 1\n')
    settings = load(
        "--flush-interval=3s",
        SPANYARD_CONFIG=str(file),
        SPANYARD_FLUSH_INTERVAL="2s",
        SPANYARD_WORKERS="8",
    )
    assert (settings.flush_interval, settings.workers, settings.ratio) == (3.0, 8, 1.0)
    assert (settings.storage, settings.level) == ("file:///f", "info")


def test_a_config_flag_beats_the_config_variable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'storage = "{name}"\n')
    settings = load("--config", str(tmp_path / "a"), SPANYARD_CONFIG=str(tmp_path / "b"))
    assert settings.storage == "a"


def test_each_type_is_read_from_text() -> None:
    settings = load(
        SPANYARD_STORAGE="s3://b",
        SPANYARD_CHUNK_SIZE="64MiB",
        SPANYARD_LIVE="no",
        SPANYARD_SPOOL="/x",
        SPANYARD_TOKEN="t",
        SPANYARD_SKIP="a, b,,c",
    )
    assert settings.chunk_size == 64 * 2**20
    assert settings.live is False
    assert settings.spool == Path("/x")
    assert settings.token == "t"
    assert settings.skip == ["a", "b", "c"]
    assert load("--storage=x", "--no-live").live is False
    assert load("--storage=x", "--live", SPANYARD_LIVE="0").live is True


def test_each_type_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'storage="s"\nchunk_size=5\nlive=false\nspool="/y"\nskip=["a","b"]\nflush_interval=2\n'
    )
    settings = load("--config", str(file))
    assert (settings.chunk_size, settings.live, settings.flush_interval) == (5, False, 2.0)
    assert (settings.spool, settings.skip) == (Path("/y"), ["a", "b"])


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load("--storage=x", SPANYARD_WORKERS="", SPANYARD_TOKEN="").workers == 4


def test_a_missing_setting_names_field_flag_and_variable() -> None:
    text = refusal()
    assert text.startswith("storage: is required (where objects go)")
    assert "--storage" in text
    assert "SPANYARD_STORAGE" in text


def test_an_empty_required_text_is_refused() -> None:
    assert "storage: ''" in refusal("--storage", "")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FLUSH_INTERVAL", "soon", "flush_interval: 'soon' (from SPANYARD_FLUSH_INTERVAL) is not"),
        ("FLUSH_INTERVAL", "1ms", "at least 10ms"),
        ("CHUNK_SIZE", "2GiB", "at most 1GiB"),
        ("WORKERS", "0", "a whole number, 1 to 64"),
        ("WORKERS", "many", "workers: 'many'"),
        ("RATIO", "nan", "ratio: 'nan'"),
        ("RATIO", "inf", "a number, 0 to 1"),
        ("LEVEL", "loud", "one of debug, info"),
        ("LIVE", "maybe", "true or false"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    variable: str, value: str, expected: str
) -> None:
    text = refusal("--storage=x", **{f"SPANYARD_{variable}": value})
    assert expected in text
    assert f"SPANYARD_{variable}" in text
    assert f"--{variable.lower().replace('_', '-')}" in text


def test_a_bad_flag_value_says_that_it_came_from_the_flag() -> None:
    assert "'x' (from --workers)" in refusal("--storage=x", "--workers=x", SPANYARD_WORKERS="2")


@pytest.mark.parametrize(
    "line", ["workers = true", "skip = [1]", "storage = 5", "live = 1", "workers = 1.5"]
)
def test_a_file_value_of_the_wrong_type_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(line + "\n")
    name = line.split(maxsplit=1)[0]
    argv = [] if name == "storage" else ["--storage=x"]
    assert refusal("--config", str(file), *argv).startswith(f"{name}: ")


def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("flush-intervall = 1\n")
    text = refusal("--config", str(file), "--storage=x")
    assert "flush-intervall: there is no such setting" in text
    assert "did you mean flush_interval?" in text


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal("--config", str(tmp_path / "none"), "--storage=x")
    (tmp_path / "bad").write_text("= 5")
    assert "is not TOML" in refusal("--config", str(tmp_path / "bad"), "--storage=x")


def test_unknown_flags_and_stray_words_are_refused() -> None:
    assert "--flush" in refusal("--storage=x", "--flush=1s")  # no abbreviations
    assert "stray" in refusal("--storage=x", "stray")
    assert "spanyard-test --help" in refusal("--storage")


def test_settings_that_clash_are_refused_by_name() -> None:
    text = refusal("--storage=x", "--level=debug", "--ratio=1")
    assert text.startswith("ratio: '1.0' is too much with level debug")
    assert "SPANYARD_RATIO" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:s3cret@host:8123/db", "http://user:…@host:8123/db"),
        ("https://:p@ss:word@[::1]/?x=a@b", "https://:…@[::1]/?x=a@b"),
        ("http://user@host/a:b@c", "http://user@host/a:b@c"),
        ("s3://bucket?endpoint=http://u:s3cret@h", "s3://bucket?endpoint=http://u:…@h"),
    ],
)
def test_a_password_within_a_url_is_not_shown(url: str, shown: str) -> None:
    settings = load("--storage", url)
    assert shown_settings(settings)["storage"] == shown
    assert shown in str(refuse(settings, "storage", "is wrong"))
    assert "s3cret" not in refusal("--storage", "-", "--workers", "http://u:s3cret@h")


def test_a_secret_is_never_shown() -> None:
    settings = load("--storage=x", SPANYARD_TOKEN="hunter2")
    assert settings.token == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(shown_settings(settings))
    assert shown_settings(settings)["token"] == "(not shown)"

    @dataclass(frozen=True, kw_only=True)
    class Secret:
        pin: int = setting(0, help="pin", secret=True)

    with pytest.raises(SettingError) as caught:
        load_settings(Secret, prog="p", description="d", argv=[], environ={"SPANYARD_PIN": "h2x9"})
    assert "h2x9" not in str(caught.value)


def test_help_shows_groups_defaults_and_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load("--help")
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert "uploads:" in text
    squeezed = " ".join(text.split())
    assert "uploads at once, 100 % fair [default 4; SPANYARD_WORKERS]" in squeezed
    assert "[required; SPANYARD_STORAGE]" in squeezed
    assert "[default 5s; SPANYARD_FLUSH_INTERVAL]" in squeezed
    assert "fault-points" not in text


def test_version_and_fault_points_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load("--list-fault-points")
    assert left.value.code == 0
    assert "spool.written" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        load("--version")
    assert capsys.readouterr().out == f"spanyard-test {__version__}\n"


def test_a_main_leaves_with_code_two_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        settings_or_exit(Plain, prog="spanyard-test", description="d", argv=[], environ={})
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("spanyard-test: storage: is required")
    assert error.count("\n") == 1


def test_every_default_is_accepted_by_its_own_rules() -> None:
    for field in settings_of(Plain):
        if not field.required and field.default is not None:
            assert field.parse(field.show(field.default), "test") == field.default


def test_a_field_that_cannot_be_read_is_a_programming_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        when: int = setting(5, help="h", unit="duration")

    with pytest.raises(TypeError, match="a duration is a float"):
        settings_of(Wrong)
    with pytest.raises(TypeError, match="either a default or required"):
        setting(help="h")
