"""A real Kubernetes API server on loopback: etcd and kube-apiserver, nothing else.

The quick tier of the cluster tests: CRDs, CEL, status, scale, RBAC. Up in about ten seconds. Both
programs die with the process that started them, also when that is killed.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.binaries import BinariesMissingError, built
from tests.fakes.ports import own_port

START_SECONDS = 120.0
"""On two busy cores; ten are usual."""
_PR_SET_PDEATHSIG = 1
_PREFIX = "spanyard-api-"


@dataclass(frozen=True)
class Answer:
    """What the API server said to one request."""

    status: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class ApiServer:
    """One that runs. `request` is a client of it with all rights."""

    host: str
    port: int
    token: str
    certificate: Path

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """One request; raises OSError when nobody answers."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection(self.host, self.port, context=trust, timeout=60)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": kind,
            "Accept": accept,
        }
        try:
            sent = json.dumps(body) if body is not None else None
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            return Answer(answer.status, _object(answer.read()))
        finally:
            connection.close()

    def kubeconfig(self, file: Path) -> Path:
        """A kubeconfig for `kubectl`."""
        place = f"https://{self.host}:{self.port}"
        cluster = {"server": place, "certificate-authority": str(self.certificate)}
        made = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file.write_text(json.dumps(made), "utf-8")
        return file


def _object(data: bytes) -> dict[str, Any]:
    try:
        made = json.loads(data)
    except ValueError:
        return {"message": data.decode(errors="replace")}
    return made if isinstance(made, dict) else {"message": str(made)}


@contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """An API server of its own, empty. Raises BinariesMissingError when it cannot be had here."""
    binaries = built()
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        client, peer, port = (own_port() for _ in range(3))
        etcd_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        etcd = stack.enter_context(
            _child(
                [
                    str(binaries.path("etcd")),
                    f"--data-dir={folder / 'etcd'}",
                    f"--listen-client-urls={etcd_url}",
                    f"--advertise-client-urls={etcd_url}",
                    f"--listen-peer-urls={peer_url}",
                    f"--initial-advertise-peer-urls={peer_url}",
                    f"--initial-cluster=default={peer_url}",
                    "--unsafe-no-fsync=true",  # it dies with the test
                    "--log-level=warn",
                ],
                folder / "etcd.log",
            )
        )
        token = secrets.token_hex(16)
        tokens, key = folder / "tokens.csv", folder / "service-accounts.key"
        tokens.write_text(f"{token},tester,tester,system:masters\n", "utf-8")
        _make_key(key)
        api = stack.enter_context(
            _child(
                [
                    str(binaries.path("kube-apiserver")),
                    f"--etcd-servers={etcd_url}",
                    "--bind-address=127.0.0.1",
                    f"--secure-port={port}",
                    f"--cert-dir={folder / 'certificates'}",
                    f"--token-auth-file={tokens}",
                    "--authorization-mode=RBAC",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-key-file={key}",
                    f"--service-account-signing-key-file={key}",
                    "--service-cluster-ip-range=10.96.0.0/16",
                    "--disable-admission-plugins=ServiceAccount",
                    "--endpoint-reconciler-type=none",
                ],
                folder / "api.log",
            )
        )
        server = ApiServer("127.0.0.1", port, token, folder / "certificates" / "apiserver.crt")
        _wait(server, etcd, api, folder)
        yield server


def _wait(
    server: ApiServer, etcd: "subprocess.Popen[bytes]", api: "subprocess.Popen[bytes]", folder: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        for name, process in (("etcd", etcd), ("api", api)):
            if process.poll() is not None:
                log = (folder / f"{name}.log").read_text("utf-8", "replace")[-3000:]
                raise RuntimeError(f"{name} ended with {process.returncode}: {log}")
        try:
            ready = server.request("GET", "/readyz").status == 200
            if ready and server.request("GET", "/api/v1/namespaces/default").status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass  # it does not listen yet, has no certificate, or answers half
        if time.monotonic() > deadline:
            log = (folder / "api.log").read_text("utf-8", "replace")[-3000:]
            raise RuntimeError(f"the API server was not ready after {START_SECONDS:g} s: {log}")
        time.sleep(0.1)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of its own; what killed runs left behind goes first. A lock says who is alive."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError), left.open("r") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX) as made,
        (Path(made) / "lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(made)


def _make_key(file: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BinariesMissingError("there is no openssl to make a key with: install it")
    subprocess.run([openssl, "genrsa", "-out", str(file), "2048"], check=True, capture_output=True)


@contextmanager
def _child(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            preexec_fn=_dying_with(ctypes.CDLL(None).prctl),  # noqa: PLW1509 - one C call
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _dying_with(prctl: Callable[..., int]) -> Callable[[], None]:
    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return before_exec
