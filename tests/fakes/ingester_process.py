"""The real ingester as a process of its own, to be killed at its fault points."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import pytest

from spanyard_core.storage import Storage, open_storage
from tests.fakes.ports import own_port
from tests.fakes.s3_server import S3Server

_QUERY = """
import asyncio, json, sys
from spanyard_core.clickhouse import database

async def main():
    async with database(sys.argv[1]) as db:
        answers = [await db.rows(sql) for sql in json.loads(sys.argv[2])]
    print(json.dumps(answers, default=str))

asyncio.run(main())
"""


@dataclass
class IngesterSetup:
    """One bucket, one database, and ingesters on them, one after the other."""

    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    server: S3Server | None = None
    """Where the bucket is; None: a directory."""

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"

    @property
    def url(self) -> str:
        if self.server is not None:
            return self.server.url_for(self.folder.name)
        return f"file://{self.bucket}"

    @property
    def env(self) -> dict[str, str]:
        return self.server.env if self.server is not None else {}

    @property
    def clickhouse(self) -> str:
        return f"chdb://{self.folder}/db"

    @property
    def passed(self) -> set[str]:
        """Fault points passed by any of them."""
        path = self.folder / "faults"
        return set(path.read_text().split()) if path.exists() else set()

    @contextmanager
    def running(self, fault: str = "", **options: str) -> Iterator["IngesterProcess"]:
        """An ingester, ended by SIGKILL with the block if it still runs."""
        with IngesterProcess(self, fault, {**self.options, **options}) as process:
            yield process

    def query(self, *statements: str) -> list[list[dict[str, Any]]]:
        """Answers of the database, which nobody else may have open just now."""
        done = subprocess.run(
            [sys.executable, "-c", _QUERY, self.clickhouse, json.dumps(statements)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        answers: list[list[dict[str, Any]]] = json.loads(done.stdout)
        return answers

    def put(self, key: str, data: bytes) -> None:
        """An object in the bucket."""
        asyncio.run(self._put(key, data))

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of the bucket."""
        return asyncio.run(self._keys(prefix))

    def _storage(self) -> Storage:
        options = self.server.options if self.server is not None else None
        return open_storage(self.url, options=options)

    async def _put(self, key: str, data: bytes) -> None:
        storage = self._storage()
        try:
            await storage.write(key, data)
        finally:
            await storage.close()

    async def _keys(self, prefix: str) -> list[str]:
        storage = self._storage()
        try:
            return [info.key async for info in storage.list(prefix)]
        finally:
            await storage.close()


class IngesterProcess:
    """A running ingester."""

    def __init__(self, setup: IngesterSetup, fault: str, options: dict[str, str]) -> None:
        self.setup = setup
        self._log = (setup.folder / "log").open("ab")
        environ = {**os.environ, **setup.env, "SPANYARD_FAULT_LOG": str(setup.folder / "faults")}
        if fault:
            environ["SPANYARD_FAULT"] = fault
        self.port = own_port()
        self._process = subprocess.Popen(
            [*_command(setup, {"port": str(self.port), **options})],
            env=environ,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def wait_killed(self, timeout: float = 60) -> None:
        """Wait until its fault point has killed it."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the fault point was not passed\n{self.tail()}")
        assert code == -signal.SIGKILL, f"ended with {code}\n{self.tail()}"

    def wait_until_loaded(self, timeout: float = 60) -> None:
        """Wait until nothing is pending."""
        deadline = time.monotonic() + timeout
        while any(k.endswith((".jsonl", ".zst")) for k in self.setup.keys("observability/")):
            self.check(deadline)

    def check(self, deadline: float) -> None:
        """Wait a little; fail when it has ended or the time is over."""
        assert self._process.poll() is None, f"it ended\n{self.tail()}"
        assert time.monotonic() < deadline, f"not done in time\n{self.tail()}"
        time.sleep(0.05)

    def stop(self, timeout: float = 60) -> None:
        """SIGTERM, and an orderly end."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout)
        assert code == 0, f"ended with {code}\n{self.tail()}"

    def post(self, path: str, body: dict[str, Any], timeout: float = 60) -> dict[str, Any] | None:
        """The answer of its server, as soon as it answers; None when it died over it."""
        deadline = time.monotonic() + timeout
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            method="POST",
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    answer: dict[str, Any] = json.load(response)
                    return answer
            except (OSError, HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError):
                    with error:
                        if error.code != 503:
                            raise
                if self._process.poll() is not None:
                    return None
            assert time.monotonic() < deadline, f"no answer\n{self.tail()}"
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of the log."""
        return (self.setup.folder / "log").read_text("utf-8", "replace")[-4000:]


def _command(setup: IngesterSetup, options: dict[str, str]) -> Sequence[str]:
    chosen = {
        "storage": setup.url,
        "clickhouse": setup.clickhouse,
        "temp-dir": str(setup.folder),
        "owner": "one",
        "list-interval": "50ms",
        "coalesce": "10ms",
        "clickhouse-pool": "2",
        **options,
    }
    flags = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "spanyard_ingester", *flags]
