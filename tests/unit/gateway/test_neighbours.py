"""Who of this machine asks: from the system's table, and in the gateway."""

import os
import socket
import sys
from pathlib import Path

import pytest

from spanyard_gateway import neighbours
from spanyard_gateway.neighbours import peer_uid, uid_in

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:C000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 3 1
"""


def test_the_owner_of_the_other_end_is_told_not_of_our_own() -> None:
    assert uid_in(TABLE, "0100007F:C000", "0100007F:1F90") == 1001
    assert uid_in(TABLE, "0100007F:1F90", "0100007F:C000") == 0


def test_a_connection_that_is_not_in_the_table_is_nobodys() -> None:
    assert uid_in(TABLE, "0100007F:C001", "0100007F:1F90") is None
    assert uid_in("", "0100007F:C000", "0100007F:1F90") is None
    assert uid_in("head\nshort line\n", "0100007F:C000", "0100007F:1F90") is None


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_real_connection_of_ours_is_ours(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            assert family == socket.AF_INET6, "every machine has 127.0.0.1"
            return  # one without IPv6
        server.listen()
        with socket.create_connection(server.getsockname()[:2]):
            connection, _ = server.accept()
            with connection:
                told = peer_uid(connection)
    assert told == (os.getuid() if sys.platform == "linux" else None)


@pytest.mark.parametrize("table", [False, True])
def test_who_closed_its_end_is_nobody_not_root(
    table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if table:
        monkeypatch.setattr(neighbours, "_asked", _refuses)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        with connection:
            assert peer_uid(connection) == (os.getuid() if sys.platform == "linux" else None)
            client.close()
            assert peer_uid(connection) == (neighbours.GONE if sys.platform == "linux" else None)


def test_a_system_whose_table_has_not_even_our_own_end_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tcp").write_text(TABLE)
    monkeypatch.setattr(neighbours, "_asked", _refuses)
    monkeypatch.setattr(neighbours, "_TABLES", {socket.AF_INET: tmp_path / "tcp"})
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()):
            connection, _ = server.accept()
            with connection:
                assert peer_uid(connection) is None


def _refuses(*_: object) -> int | None:
    raise OSError("not here")


def test_a_closed_connection_tells_nothing() -> None:
    with socket.socket() as connection:
        assert peer_uid(connection) is None
