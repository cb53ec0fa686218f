"""Loopback only: names that lead here from elsewhere don't."""

import pytest

from spanyard_core.errors import SettingError
from spanyard_gateway.access import is_local_host
from spanyard_gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:80", "127.8.8.8", "[::1]:8080", "a.localhost"],
)
def test_this_machine_is_let_in(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::",
        "0.0.0.0",
    ],
)
def test_any_other_name_is_not(host: str) -> None:
    assert not is_local_host(host)


def test_listening_for_other_machines_must_be_said_twice() -> None:
    with pytest.raises(SettingError, match="^listen: .*--allow-remote"):
        GatewaySettings(storage="file:///s", clickhouse="chdb:///c", listen="0.0.0.0")
    assert GatewaySettings(
        storage="file:///s", clickhouse="chdb:///c", listen="0.0.0.0", allow_remote=True
    ).listen
