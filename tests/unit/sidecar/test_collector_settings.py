"""Settings of the collector: what is refused, and how it is said."""

import subprocess
import sys

import pytest

from spanyard_core.errors import SettingError
from spanyard_core.settings import load_settings
from spanyard_sidecar.settings import CollectorSettings


def load(**values: str) -> CollectorSettings:
    needed = {"storage": "file:///tmp/x", "project": "ns.app"} | values
    return load_settings(
        CollectorSettings,
        prog="spanyard-sidecar",
        description="",
        argv=[],
        environ={f"SPANYARD_{name.upper()}": value for name, value in needed.items()},
    )


def test_storage_and_project_are_enough() -> None:
    settings = load()
    assert settings.flush_interval == 5.0
    assert settings.chunk_size == 10_000_000


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("project", "no-dot", "SPANYARD_PROJECT"),
        ("project", "", "project: is required"),
        ("spool", "relative/path", "not an absolute path"),
        ("logs", "logs", "--logs"),
        ("gateway", "gateway:8080", "http://host:port"),
        ("chunk_size", "600MB", "at most|to 100MB"),
        ("spool_limit", "1MB", "at least 16MB"),
        ("flush_interval", "0s", "50ms"),
        ("port", "70000", "65535"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        load(**{name: value})


def test_a_chunk_must_fit_into_the_spool() -> None:
    with pytest.raises(SettingError, match="more than half of spool_limit"):
        load(chunk_size="50MB", spool_limit="60MB")


def test_the_collector_takes_the_descriptors_that_it_is_granted() -> None:
    """With 1,024, a pod of many processes leaves none for the spool."""
    code = (
        "import resource as r; from spanyard_sidecar.process import raise_file_limit;"
        "hard = min(r.getrlimit(r.RLIMIT_NOFILE)[1], 4096);"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, hard)); raise_file_limit();"
        "print(r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
