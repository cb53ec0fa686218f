"""Who uses Spanyard in the test cluster: a terminal, the client for Python, somebody who asks."""

import asyncio
import contextlib
import http.client
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from spanyard_local.live_client import Event, Lines, LiveClient, NoTokenError
from tests.cluster.cluster import Cluster
from tests.cluster.stack import RELEASE, TEAM
from tests.fakes.processes import wait_for


@dataclass
class Terminal:
    """A user's: with a kubeconfig, and what `spanyard login` keeps."""

    environ: dict[str, str]
    folder: Path
    running: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def spanyard(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "spanyard_local", *words], env=self.environ, cwd=self.folder,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def start(self, name: str, *words: str) -> Path:
        """What it prints goes into this file, what it says beside it into that with `.err`."""
        file = self.folder / name
        with file.open("wb") as out, file.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "spanyard_local", *words], env=self.environ,
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
        self.running.append(process)
        return file

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def account(
    cluster: Cluster, name: str, *namespaces: str, release: str = RELEASE, team: str = TEAM
) -> None:
    """A ServiceAccount of the team that may look at these namespaces."""
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": team}},
        *(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                            "name": f"{release}-viewer"},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": team}],
            }
            for namespace in namespaces
        ),
    )  # fmt: skip


class Listener:
    """The client for Python in a thread; ended with the block."""

    def __init__(
        self,
        door: str,
        cluster: Cluster,
        who: str,
        channel: str,
        *,
        team: str = TEAM,
        history: int = 0,
    ) -> None:
        self.events: list[tuple[float, Event]] = []
        self.renewed = 0
        self.problem: BaseException | None = None
        self._door, self._cluster, self._who = door, cluster, who
        self._channel, self._team = channel, team
        self._history = history
        self._token = ""
        self.may_renew = threading.Event()
        """Cleared while there is no account to make a token for."""
        self.may_renew.set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=who)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def token(self, renew: bool) -> str:
        if renew or not self._token:
            self.renewed += renew
            self.may_renew.wait(60)
            created = ("create", "token", self._who, "-n", self._team, "--duration=10m")
            try:
                self._token = self._cluster.kubectl(*created).strip()
            except RuntimeError as error:
                raise NoTokenError(str(error)) from error
        return self._token

    async def _run(self) -> None:
        try:
            async with LiveClient(self._door, token=self.token) as live:
                await live.subscribe(self._channel, history=self._history, id="a")
                while not self._ends.is_set():
                    event = await live.next(0.2)
                    if event is not None:
                        self.events.append((time.monotonic(), event))
        except BaseException as error:
            self.problem = error

    def of(self, *kinds: type) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kinds)]

    def wait(self, what: str, *kinds: type, within: float = 60.0) -> Any:
        """The first of these."""

        def look() -> Any:
            assert self.problem is None, self.problem
            return self.of(*kinds)[:1]

        return wait_for(what, look, within=within)[0]

    @property
    def heard(self) -> list[tuple[str, int]]:
        """Writer and number of each line."""
        return [(lines.writer, item.seq) for lines in self.of(Lines) for item in lines.items]


class Printing:
    """Asks the server to print the next numbers, all the while; where nobody answers, again."""

    def __init__(self, address: str) -> None:
        self.said = 0
        """Numbers below were surely printed, by a server that answered."""
        self._address = address
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="printing")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._ends.wait(0.05):
            url = f"{self._address}/flood?mark=line&from={self.said}&to={self.said + 20}"
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                urllib.request.urlopen(url, timeout=5) as answer,
            ):
                assert answer.read() == b"done"
                self.said += 20


def heard_some(listener: Listener, printing: Printing) -> None:
    """Wait until lines that are printed from now on are heard."""
    seen, until = len(listener.heard), printing.said + 60
    wait_for(
        "lines go on", lambda: len(listener.heard) > seen + 40 and printing.said >= until, within=90
    )
