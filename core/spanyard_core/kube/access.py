"""Where the API server is and who we are: in a pod, or by a kubeconfig.

A kubeconfig is read here: certificates, tokens and CA as files or in it. Programs that make
credentials (`exec`) are run as their protocol says (client.authentication.k8s.io/v1).
"""

import asyncio
import base64
import json
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from spanyard_core.clock import Clock
from spanyard_core.errors import SettingError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_KEPT_S = 60.0
"""A token file is read again after so long: the kubelet renews it at 80 % of an hour or less."""

TokenSource = Callable[[bool], Awaitable[str]]
"""The token for the next request; True: the last one was refused, get another."""


async def no_token(renew: bool) -> str:
    """Certificates say who we are, or nobody asks."""
    return ""


@dataclass(frozen=True)
class Access:
    """What a client needs to know."""

    server: str
    trust: ssl.SSLContext | None = None
    token: TokenSource = no_token
    namespace: str = "default"
    """Where requests go that name none."""
    proxy: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class TokenFile:
    """A token that somebody renews in a file."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    async def __call__(self, renew: bool) -> str:
        """The token. Raises SettingError when the file cannot be read."""
        if renew or self._clock.monotonic() - self._read_at > TOKEN_KEPT_S:
            self._token = _text(self._file)
            self._read_at = self._clock.monotonic()
        return self._token


def in_cluster(
    clock: Clock, environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> Access:
    """As a pod's service account. Raises SettingError outside a pod."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (folder / "token").exists():
        raise SettingError(
            "this is no pod with a service account (no KUBERNETES_SERVICE_HOST or no "
            f"{folder}/token); name a kubeconfig"
        )
    host = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{host}:{port}",
        trust=_trust(str(folder / "ca.crt"), ""),
        token=TokenFile(folder / "token", clock),
        namespace=_text(folder / "namespace") if (folder / "namespace").exists() else "default",
    )


def from_kubeconfig(
    clock: Clock,
    path: str = "",
    context: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """As a context of a kubeconfig says; empty: `KUBECONFIG`, `~/.kube/config`, current context.

    Raises SettingError that names the file and the entry.
    """
    given = path or environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    files = [Path(part).expanduser() for part in given.split(os.pathsep) if part]
    documents = [(file, _document(file)) for file in files if file.exists() or len(files) == 1]
    chosen = context or next(
        (str(d["current-context"]) for _, d in documents if d.get("current-context")), ""
    )
    if not chosen:
        raise SettingError(f"{given}: no current context; name one with --context")
    _, said = _entry(documents, "contexts", "context", chosen, given)
    base, cluster = _entry(documents, "clusters", "cluster", str(said.get("cluster", "")), given)
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise SettingError(f"{given}: the cluster of context {chosen!r} names no server")
    trust = None
    if server.startswith("https://"):
        trust = _trust(
            _beside(base, cluster.get("certificate-authority")),
            _decoded(cluster.get("certificate-authority-data")),
            verify=not cluster.get("insecure-skip-tls-verify"),
        )
    token: TokenSource = no_token
    if said.get("user"):
        base, user = _entry(documents, "users", "user", str(said["user"]), given)
        token = _user(user, base, trust, clock, environ)
    return Access(
        server=server,
        trust=trust,
        token=token,
        namespace=str(said.get("namespace") or "default"),
        proxy=str(cluster.get("proxy-url") or ""),
    )


def _document(file: Path) -> dict[str, Any]:
    import yaml

    try:
        made = yaml.safe_load(_text(file))
    except yaml.YAMLError as error:
        raise SettingError(f"{file} is no YAML: {error}") from error
    if not isinstance(made, dict):
        raise SettingError(f"{file} is no kubeconfig")
    return made


def _entry(
    documents: list[tuple[Path, dict[str, Any]]], group: str, kind: str, name: str, given: str
) -> tuple[Path, dict[str, Any]]:
    for file, document in documents:
        for one in document.get(group) or ():
            if isinstance(one, dict) and one.get("name") == name:
                return file.parent, one.get(kind) or {}
    raise SettingError(f"{given}: there is no {kind} {name!r}")


def _user(
    user: Mapping[str, Any],
    base: Path,
    trust: ssl.SSLContext | None,
    clock: Clock,
    environ: Mapping[str, str],
) -> TokenSource:
    certificate = _decoded(user.get("client-certificate-data"))
    key = _decoded(user.get("client-key-data"))
    certificate = certificate or _read(_beside(base, user.get("client-certificate")))
    key = key or _read(_beside(base, user.get("client-key")))
    if certificate and key and trust is not None:
        _identify(trust, certificate, key)
    if user.get("tokenFile"):
        return TokenFile(Path(_beside(base, user["tokenFile"])), clock)
    if user.get("token"):
        return _fixed(str(user["token"]))
    if isinstance(user.get("exec"), dict):
        return ExecToken(user["exec"], base, trust, environ)
    if user.get("auth-provider"):
        raise SettingError(
            "the kubeconfig's user has an `auth-provider`, which Kubernetes removed in 1.26; "
            "use an `exec` plugin or a token"
        )
    return no_token


def _fixed(token: str) -> TokenSource:
    async def source(renew: bool) -> str:
        return token

    return source


class ExecToken:
    """A program that prints credentials; run again when they end or are refused."""

    def __init__(
        self,
        said: Mapping[str, Any],
        base: Path,
        trust: ssl.SSLContext | None,
        environ: Mapping[str, str],
    ) -> None:
        self._said = said
        self._base = base
        self._trust = trust
        self._environ = environ
        self._token: str | None = None
        self._ends = ""
        self._one = asyncio.Lock()

    async def __call__(self, renew: bool) -> str:
        """The token, empty when the program gives a certificate. Raises SettingError."""
        async with self._one:
            if self._token is None or renew or self._over():
                status = await self._run()
                self._token = str(status.get("token") or "")
                self._ends = str(status.get("expirationTimestamp") or "")
                certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
                if certificate and key and self._trust is not None:
                    _identify(self._trust, str(certificate), str(key))
            return self._token

    def _over(self) -> bool:
        if not self._ends:
            return False
        ends = datetime.fromisoformat(self._ends)
        return (ends - datetime.now(ends.tzinfo)).total_seconds() < 30

    async def _run(self) -> Mapping[str, Any]:
        command = str(self._said.get("command") or "")
        # A relative path with a separator starts at the kubeconfig's folder, as kubectl has it.
        program = _beside(self._base, command) if os.sep in command else command
        info = {
            "apiVersion": self._said.get("apiVersion", "client.authentication.k8s.io/v1"),
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        extra = {str(one["name"]): str(one["value"]) for one in self._said.get("env") or ()}
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *(str(argument) for argument in self._said.get("args") or ()),
                env={**self._environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = self._said.get("installHint") or "install it, or correct the kubeconfig"
            raise SettingError(
                f"the kubeconfig's credential program {command!r} cannot be started "
                f"({error.strerror or error}); {hint}"
            ) from error
        out, err = await process.communicate()
        try:
            status = json.loads(out)["status"] if process.returncode == 0 else None
        except (ValueError, KeyError, TypeError):
            status = None
        if not isinstance(status, dict):
            told = err.decode(errors="replace").strip()[-500:] or "it said nothing"
            raise SettingError(
                f"the kubeconfig's credential program {command!r} gave no credentials "
                f"(exit code {process.returncode}): {told}"
            )
        return status


# --- pieces ----------------------------------------------------------------------------------


def _trust(file: str, data: str, *, verify: bool = True) -> ssl.SSLContext:
    try:
        trust = ssl.create_default_context(cafile=file or None, cadata=data or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(
            f"the cluster's CA cannot be used ({file or 'in it'}): {error}"
        ) from error
    if not verify:
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return trust


def _identify(trust: ssl.SSLContext, certificate: str, key: str) -> None:
    # Python's ssl takes a client's certificate from a file alone.
    with tempfile.NamedTemporaryFile("w", prefix="spanyard-", suffix=".pem") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        try:
            trust.load_cert_chain(file.name)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"the client certificate cannot be used: {error}") from error


def _beside(base: Path, name: object) -> str:
    return str(base / str(name)) if name else ""


def _decoded(data: object) -> str:
    try:
        return base64.b64decode(str(data), validate=False).decode() if data else ""
    except ValueError as error:
        raise SettingError(f"the kubeconfig has data that is no base64 text: {error}") from error


def _read(file: str) -> str:
    return _text(Path(file)) if file else ""


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"cannot read {file}: {error}") from error
