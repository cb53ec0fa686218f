"""Which gateway a command asks: the one that was named, or the one that runs here."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spanyard_core.errors import SettingError
from spanyard_local.layout import Layout
from spanyard_local.server_client import (
    SERVER_VARIABLE,
    TOKEN_FILE_VARIABLE,
    ServerClient,
    Way,
)

if TYPE_CHECKING:
    from spanyard_local.cluster.connection import Connection
    from spanyard_local.cluster.login import Login

LAPTOP = "local"
"""The laptop's only namespace."""
DEFAULT_NAMESPACE = "default"
"""Kubernetes' own, where no kubeconfig says another."""

FOLDERS = (".spanyard", ".demo")
"""Data folders of `spanyard up` and `spanyard demo`, looked for here and in the parents."""


@dataclass(frozen=True)
class Target:
    """A gateway, and what belongs to asking it."""

    client: ServerClient
    namespace: str = LAPTOP
    """Of names and manifests that say none."""
    connection: "Connection | None" = None
    """To the cluster whose gateway it is; the target's to close."""

    def close(self) -> None:
        """End the connection."""
        if self.connection is not None:
            self.connection.close()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line said of it."""

    server: str | None = None
    data: Path | None = None
    context: str | None = None
    namespace: str | None = None


def find_target(wanted: Wanted, here: Path) -> Target:
    """`--server`, or through the cluster of `--context`; what runs on `--data`; SPANYARD_SERVER;
    what runs on a data folder of this folder or the nearest parent; the cluster of
    `spanyard login`; the default address.

    Raises SpanyardError when what was named cannot be reached.
    """
    from spanyard_local.cluster.login import Login, read_login

    if wanted.context:
        kept = read_login()
        if kept is None or kept.context != wanted.context:
            kept = Login(context=wanted.context)
        return _in_cluster(kept, wanted, server=wanted.server or "")
    if wanted.server:
        return _at(wanted.server, wanted)
    if wanted.data is not None:
        return Target(_running_on(wanted.data), wanted.namespace or LAPTOP)
    if server := os.environ.get(SERVER_VARIABLE):
        return _at(server, wanted)
    near = running_near(here)
    if near is not None:
        return Target(ServerClient(near), wanted.namespace or LAPTOP)
    if (login := read_login()) is not None:
        return _in_cluster(login, wanted)
    return Target(ServerClient(), wanted.namespace or LAPTOP)


def _at(server: str, wanted: Wanted) -> Target:
    """A gateway by its own address; with who asks, where a login or a token's file says it."""
    from spanyard_local.cluster.connection import token_of_file
    from spanyard_local.cluster.login import read_login

    if token_of_file(TOKEN_FILE_VARIABLE) is not None:
        client = ServerClient(server, token=lambda renew: token_of_file(TOKEN_FILE_VARIABLE) or "")
        return Target(client, wanted.namespace or DEFAULT_NAMESPACE)
    login = read_login()
    if login is not None and login.server and login.server.rstrip("/") == server.rstrip("/"):
        return _in_cluster(login, wanted)
    return Target(ServerClient(server), wanted.namespace or LAPTOP)


def _in_cluster(login: "Login", wanted: Wanted, *, server: str = "") -> Target:
    from spanyard_local.cluster.connection import Connection

    connection = Connection(replace(login, server=server) if server else login)
    try:
        address = connection.address()
        way = None if connection.login.server else Way(connection.gateway, connection.problem)
        client = ServerClient(address, token=connection.token, way=way)
    except BaseException:
        connection.close()
        raise
    return Target(client, wanted.namespace or connection.namespace, connection)


def _running_on(data: Path) -> ServerClient:
    address = Layout(data.resolve()).running_server()
    if address is None:
        raise SettingError(
            f"data: no gateway runs on {str(data)!r}; start one with "
            f"`spanyard up --data {data}`, or name one with --server"
        )
    return ServerClient(address)


def running_near(here: Path) -> str | None:
    """The address of what runs on a data folder of this folder or the nearest parent."""
    for folder in (here, *here.parents):
        for name in FOLDERS:
            address = Layout(folder / name).running_server()
            if address is not None:
                return address
    return None
