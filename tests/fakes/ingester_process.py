"""The real ingester as a process of its own, to be killed at its fault points."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

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

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"

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
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of the bucket."""
        return sorted(
            key
            for path in self.bucket.rglob("*")
            if path.is_file() and (key := str(path.relative_to(self.bucket))).startswith(prefix)
        )


class IngesterProcess:
    """A running ingester."""

    def __init__(self, setup: IngesterSetup, fault: str, options: dict[str, str]) -> None:
        self.setup = setup
        self._log = (setup.folder / "log").open("ab")
        environ = {**os.environ, "SPANYARD_FAULT_LOG": str(setup.folder / "faults")}
        if fault:
            environ["SPANYARD_FAULT"] = fault
        self._process = subprocess.Popen(
            [*_command(setup, options)],
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

    def stop(self, timeout: float = 30) -> None:
        """SIGTERM, and an orderly end."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout)
        assert code == 0, f"ended with {code}\n{self.tail()}"

    def tail(self) -> str:
        """The end of the log."""
        return (self.setup.folder / "log").read_text("utf-8", "replace")[-4000:]


def _command(setup: IngesterSetup, options: dict[str, str]) -> Sequence[str]:
    chosen = {
        "storage": f"file://{setup.bucket}",
        "clickhouse": setup.clickhouse,
        "temp-dir": str(setup.folder),
        "port": "0",
        "owner": "one",
        "list-interval": "50ms",
        "coalesce": "10ms",
        "clickhouse-pool": "2",
        **options,
    }
    flags = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "spanyard_ingester", *flags]
