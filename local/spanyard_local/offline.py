"""A gateway to ask: the one that was named, the one that runs, or one started for the question."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from spanyard_core.errors import SpanyardError
from spanyard_local.layout import Layout
from spanyard_local.server_client import SERVER_VARIABLE, ServerClient, ServerError

START_S = 60.0


@contextlib.contextmanager
def client_for(server: str | None, data: Path) -> Iterator[ServerClient]:
    """A client of `server` (or SPANYARD_SERVER), else of what runs on `data`, else of the folder.

    A demo that has ended leaves its folder; then a server is started on it, which also loads what
    is still pending, and ended again.
    """
    layout = Layout(data.resolve())
    named = server or os.environ.get(SERVER_VARIABLE)
    address = named or layout.running_server()
    if address:
        client = ServerClient(address)
        if named or _answers(client):
            yield client
            return
    if not layout.clickhouse.is_dir():
        yield ServerClient()  # the default address; its error says what to do
        return
    with layout.only_one(), _server(layout) as client:
        yield client


def _answers(client: ServerClient) -> bool:
    try:
        client.get("/projects?limit=1")
    except ServerError:
        return False
    return True


@contextlib.contextmanager
def _server(layout: Layout) -> Iterator[ServerClient]:
    log = layout.root / "server.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "spanyard_local",
                "serve",
                "--data",
                str(layout.root),
                "--port",
                "0",
            ],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            address = layout.running_server()
            if address and _answers(client := ServerClient(address)):
                yield client
                return
            time.sleep(0.05)
        raise SpanyardError(f"no server comes up on {str(layout.root)!r}; the reason is in {log}")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
