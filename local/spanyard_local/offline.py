"""A gateway to ask: the one that was named, the one that runs, or one started for the question."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from spanyard_core.errors import SpanyardError
from spanyard_local.cli.finding import FOLDERS, Wanted, find_target, running_near
from spanyard_local.cluster.login import Login, read_login
from spanyard_local.guardian import Guardian, guarded
from spanyard_local.layout import DEFAULT_DATA, Layout, last_words
from spanyard_local.server_client import SERVER_VARIABLE, ServerClient, ServerError

START_S = 60.0


@contextlib.contextmanager
def client_for(wanted: Wanted) -> Iterator[ServerClient]:
    """A client of a gateway or cluster that is named, else of what runs on `data`, else of the folder.

    Without any of them it is what runs here, as for every command, else what ran here. What has
    ended leaves its folder; then a server is started on it, which also loads what is still pending,
    and ended again.
    """
    data = wanted.data
    layout = Layout((data or _left_here()).resolve())
    near = running_near(Path.cwd()) if data is None else None
    here = near or layout.running_server()
    far: str | Login | None = os.environ.get(SERVER_VARIABLE) if data is None else None
    if not (wanted.server or wanted.context or far):
        if here and _answers(client := ServerClient(here)):
            yield client
            return
        if data is None and not layout.clickhouse.is_dir():
            far = read_login()
    if wanted.server or wanted.context or far:
        with contextlib.closing(find_target(wanted, Path.cwd())) as target:
            yield target.client
        return
    if not layout.clickhouse.is_dir():
        if data is not None:
            raise SpanyardError(
                f"data: {str(data)!r} holds no data of a demo; give the folder that one ran with, or "
                "the address of a gateway with --server"
            )
        yield ServerClient()  # the default address; its error says what to do
        return
    with (
        layout.only_one(lambda text: print(text, file=sys.stderr)) as hold,
        guarded(held=[hold.descriptor]) as guardian,
        _server(layout, guardian) as client,
    ):
        yield client


def _left_here() -> Path:
    for name in FOLDERS:
        if Layout(Path(name)).clickhouse.is_dir():
            return Path(name)
    return Path(DEFAULT_DATA)


def _answers(client: ServerClient) -> bool:
    try:
        client.get("/projects?limit=1")
    except ServerError:
        return False
    return True


@contextlib.contextmanager
def _server(layout: Layout, guardian: Guardian) -> Iterator[ServerClient]:
    with layout.server_log.open("ab") as out:
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
    guardian.watch(process.pid)
    try:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            address = layout.running_server()
            if address and _answers(client := ServerClient(address)):
                yield client
                return
            time.sleep(0.05)
        raise SpanyardError(
            f"no server comes up on {str(layout.root)!r}. {last_words(layout.server_log)}"
        )
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        guardian.forget(process.pid)
