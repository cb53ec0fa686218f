"""Which gateway a command asks: the one that was named, or the one that runs here."""

import os
from pathlib import Path

from spanyard_core.errors import SettingError
from spanyard_local.layout import Layout
from spanyard_local.server_client import SERVER_VARIABLE, ServerClient

FOLDERS = (".spanyard", ".demo")
"""Data folders of `spanyard up` and `spanyard demo`, looked for here and in the parents."""


def find_server(server: str | None, data: Path | None, here: Path) -> ServerClient:
    """`--server`, else what runs on `--data`, else SPANYARD_SERVER, else what runs on a data folder
    of this folder or the nearest parent, else the default address.

    Raises SettingError when nothing runs on a folder that was named.
    """
    if server:
        return ServerClient(server)
    if data is not None:
        address = Layout(data.resolve()).running_server()
        if address is None:
            raise SettingError(
                f"data: no gateway runs on {str(data)!r}; start one with "
                f"`spanyard up --data {data}`, or name one with --server"
            )
        return ServerClient(address)
    if os.environ.get(SERVER_VARIABLE):
        return ServerClient()
    return ServerClient(running_near(here))


def running_near(here: Path) -> str | None:
    """The address of what runs on a data folder of this folder or the nearest parent."""
    for folder in (here, *here.parents):
        for name in FOLDERS:
            address = Layout(folder / name).running_server()
            if address is not None:
                return address
    return None
