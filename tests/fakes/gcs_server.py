"""A GCS server for tests: the XML API that the storage uses, as a process on loopback.

`with running_gcs() as server:` starts it (about 0.3 s). It is written here because the emulators
in the registries refuse the plain PUT of the XML API. Faults: see `gcs_server_http`.
"""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.gcs_server_objects import BUCKET, READER_TOKEN, WRITER_TOKEN

_REPOSITORY = Path(__file__).resolve().parents[2]
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class GcsServer:
    """A running server with one bucket, in memory."""

    port: int
    pid: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For `open_storage`; credentials are in `env` and in `options`."""
        return self.url_for("")

    def url_for(self, prefix: str, *, bucket: str = BUCKET) -> str:
        """A storage of its own under `prefix`."""
        return f"gs://{bucket}/{prefix}?endpoint={self.endpoint}"

    @property
    def env(self) -> dict[str, str]:
        """Credentials as a process finds them in its environment."""
        return {"GOOGLE_BEARER_TOKEN": WRITER_TOKEN}

    @property
    def options(self) -> dict[str, str]:
        """Credentials as `open_storage(url, options=…)` takes them."""
        return {"bearer_token": WRITER_TOKEN}

    @property
    def reader_options(self) -> dict[str, str]:
        """Credentials that may read and list, but not write."""
        return {"bearer_token": READER_TOKEN}

    def fail(self, *faults: dict[str, Any]) -> None:
        """Replace the faults; without arguments the server is whole again."""
        self._control("POST", "/_control/faults", list(faults))

    def trust(self, public_pem: str) -> None:
        """Take addresses that this key signed."""
        self._control("POST", "/_control/signer", {"pem": public_pem})

    def requests(self) -> list[dict[str, Any]]:
        """Method, key, query and status of each request since the last call."""
        found: list[dict[str, Any]] = self._control("GET", "/_control/requests")["requests"]
        return found

    def open_uploads(self) -> int:
        """Multipart uploads that were begun and neither completed nor aborted."""
        found: int = self._control("GET", "/_control/requests")["open_uploads"]
        return found

    def _control(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def running_gcs() -> Iterator[GcsServer]:
    """Start a server with an empty bucket; end it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.gcs_server_http"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_REPOSITORY,
        start_new_session=True,  # Ctrl-C goes to the tests, which stop it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the GCS server ended at once ({process.wait()}); see stderr")
            yield GcsServer(int(line), process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
