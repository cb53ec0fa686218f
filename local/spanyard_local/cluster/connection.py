"""A cluster for commands that must not await: its loop runs in a thread beside them."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from spanyard_core.errors import SettingError
from spanyard_core.kube import SERVICE_ACCOUNTS, KubeError
from spanyard_core.kube.client import KubeClient
from spanyard_local.cluster.gateway import Gateway, Way, find_gateway, find_server, way_to
from spanyard_local.cluster.login import Login
from spanyard_local.cluster.portforward import HOST, PodPort, PortForward
from spanyard_local.live_client.errors import NoTokenError

T = TypeVar("T")

TOKEN_S = 3600
"""Lifetime of a ServiceAccount's token that is asked for; it is kept in memory alone."""


class Connection:
    """One cluster by a login. `close` it."""

    def __init__(self, login: Login) -> None:
        """Raises SettingError for a kubeconfig that says too little."""
        self.login = login
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._thread.start()
        self._forward: PortForward | None = None
        self._token = ""
        self._gateway: Gateway | None = None
        self._way: Way | None = None
        try:
            self._kube = self._run(KubeClient.from_kubeconfig(login.kubeconfig, login.context))
        except BaseException:
            self._end()
            raise

    @property
    def namespace(self) -> str:
        """Of what names none."""
        return self.login.namespace or self._kube.namespace

    @property
    def api_server(self) -> str:
        """Its address."""
        return self._kube.access.server

    def address(self, port: int = 0) -> str:
        """Of the gateway, from here: its own one, or of a port that leads there.

        Raises SpanyardError.
        """
        if self.login.server:
            return self.login.server
        return self._run(self._forwarded(port))

    def server_address(self, namespace: str, deployment: str, port: int = 0) -> str:
        """Of a port that leads to a Deployment's server. Raises SpanyardError."""
        return self._run(self._forwarded(port, namespace, deployment))

    @property
    def gateway(self) -> str:
        """Namespace and name of the Service, once an address was asked."""
        return self._gateway.place if self._gateway else self.login.server

    def problem(self) -> str:
        """Why the last connection through the API server failed; empty when it did not."""
        return self._forward.problem if self._forward else ""

    def token(self, renew: bool) -> str:
        """What says who asks. Raises SpanyardError."""
        return self._run(self._who(renew))

    def close(self) -> None:
        """End connections and the thread."""
        self._run(self._closed())
        self._end()

    # --- in the thread -----------------------------------------------------------------------

    async def _forwarded(self, port: int, namespace: str = "", deployment: str = "") -> str:
        if deployment:
            self._gateway = await find_server(self._kube, namespace, deployment)
        else:
            self._gateway = await find_gateway(self._kube, self.login.gateway_namespace)
        way = self._way = await way_to(self._kube, self._gateway)
        self._forward = PortForward(self._kube.access, self._pod)
        bound = await self._forward.open(port)
        return f"{way.scheme}://{HOST}:{bound}{way.base_path}"

    async def _pod(self, look_again: bool) -> PodPort:
        assert self._gateway is not None
        assert self._way is not None
        if look_again:
            self._way = await way_to(self._kube, self._gateway)
        return self._way.to

    async def _who(self, renew: bool) -> str:
        if self.login.service_account:
            if renew or not self._token:
                self._token = await self._asked(self.login.service_account)
            return self._token
        token = await self._kube.access.token(renew)
        if not token:
            raise NoTokenError(
                "the kubeconfig's user has a client certificate, which the API server takes and a "
                "gateway never sees. Name a ServiceAccount of yours with `spanyard login "
                "--service-account NAMESPACE/NAME`: commands then ask with its rights"
            )
        return token

    async def _asked(self, account: str) -> str:
        namespace, _, name = account.partition("/")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_S},
        }
        try:
            made = await self._kube.create(
                SERVICE_ACCOUNTS, body, namespace, name=name, subresource="token"
            )
        except KubeError as error:
            raise NoTokenError(
                f"there is no token for the ServiceAccount {account}: {error}"
            ) from error
        return str(made["status"]["token"])

    async def _closed(self) -> None:
        if self._forward is not None:
            await self._forward.close()
        await self._kube.close()

    # --- the thread --------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def token_of_file(variable: str) -> str | None:
    """The token in the file that a variable names: for pods and CI, which have no kubeconfig."""
    name = os.environ.get(variable)
    if not name:
        return None
    try:
        return Path(name).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{variable}: {name!r} cannot be read: {error}") from error
