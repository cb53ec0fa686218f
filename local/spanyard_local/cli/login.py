"""`spanyard login`, `logout`, `port-forward`: the gateway of a cluster, by a kubeconfig."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from spanyard_core.errors import SettingError, SpanyardError
from spanyard_local.cli import interrupts
from spanyard_local.cli.context import Context
from spanyard_local.cli.parser import OK, Command, add_context
from spanyard_local.server_client import ServerClient, Way

if TYPE_CHECKING:
    from spanyard_local.cluster.connection import Connection
    from spanyard_local.cluster.login import Login

DEFAULT_PORT = 8080
_LOOK_EVERY_S = 0.5
_ACCOUNT_PARTS = 2


def _cluster_arguments(parser: argparse.ArgumentParser) -> None:
    add_context(parser)
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="another kubeconfig than kubectl's"
    )
    parser.add_argument(
        "--gateway-namespace", default="", metavar="NAME", help="where the gateway is installed"
    )


def _login_arguments(parser: argparse.ArgumentParser) -> None:
    _cluster_arguments(parser)
    parser.add_argument(
        "-n", "--namespace", default="", metavar="NAME",
        help="of what names none (that of the kubeconfig's context)",
    )  # fmt: skip
    parser.add_argument(
        "--server", default="", metavar="URL",
        help="the gateway's own address; without one it is reached through the API server",
    )  # fmt: skip
    parser.add_argument(
        "--service-account", default="", metavar="NAMESPACE/NAME",
        help="ask as this ServiceAccount: for kubeconfigs that have a client certificate",
    )  # fmt: skip


def _login_of(context: Context) -> "Login":
    from spanyard_local.cluster.login import Login

    given = context.given
    account = getattr(given, "service_account", "")
    if account and len([part for part in account.split("/") if part]) != _ACCOUNT_PARTS:
        raise SettingError(f"service-account: {account!r} is not of the form NAMESPACE/NAME")
    file = given.kubeconfig
    if file is not None and not file.is_file():
        raise SettingError(f"kubeconfig: {str(file)!r} is no file")
    return Login(
        context=given.context or _current_context(str(file) if file else ""),
        kubeconfig=str(file.resolve()) if file else "",
        server=getattr(given, "server", "").rstrip("/"),
        namespace=getattr(given, "namespace", ""),
        gateway_namespace=given.gateway_namespace,
        service_account=account,
    )


def _current_context(kubeconfig: str) -> str:
    """The one that counts now: a login stays with its cluster when kubectl goes elsewhere."""
    import yaml

    given = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    for name in given.split(os.pathsep):
        try:
            document = yaml.safe_load(Path(name).expanduser().read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue  # what is wrong with it is said by who uses it
        if isinstance(document, dict) and document.get("current-context"):
            return str(document["current-context"])
    return ""


def _login(context: Context) -> int:
    from spanyard_local.cluster.connection import Connection
    from spanyard_local.cluster.login import write_login

    login = _login_of(context)
    connection = Connection(login)
    try:
        client = _client(connection)
        client.get("/projects", {"limit": 1})
        reached = login.server or f"{connection.gateway} through {connection.api_server}"
        namespace = connection.namespace
    finally:
        connection.close()
    file = write_login(login)
    context.terminal.print(f"logged in: gateway {reached}, namespace {namespace}")
    if login.service_account:
        context.note(f"commands ask with the rights of the ServiceAccount {login.service_account}")
    context.note(f"kept in {file}; tokens are asked for anew each time")
    return OK


def _client(connection: "Connection") -> ServerClient:
    address = connection.address()
    way = None if connection.login.server else Way(connection.gateway, connection.problem)
    return ServerClient(address, token=connection.token, way=way)


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def _logout(context: Context) -> int:
    from spanyard_local.cluster.login import forget_login

    context.terminal.print("logged out" if forget_login() else "nobody was logged in")
    return OK


def _forward_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "deployment", nargs="?", default="", help="a deployment's server instead of the gateway"
    )
    _cluster_arguments(parser)
    parser.add_argument("-n", "--namespace", default="", metavar="NAME", help="of the deployment")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"here; 0 takes a free one ({DEFAULT_PORT})"
    )


def _forward(context: Context) -> int:
    from spanyard_local.cluster.connection import Connection
    from spanyard_local.cluster.login import read_login

    given = context.given
    kept = read_login()
    named = given.context or given.kubeconfig or given.gateway_namespace
    login = kept if kept is not None and not named else _login_of(context)
    if login.server and not given.deployment:
        raise SpanyardError(
            f"the login names the gateway's own address, {login.server}: nothing has to be "
            "forwarded. Name a cluster with --context to forward all the same"
        )
    connection = Connection(login)
    try:
        if given.deployment:
            namespace, dot, name = given.deployment.rpartition(".")
            place = namespace if dot else given.namespace or connection.namespace
            address = connection.server_address(place, name, given.port)
        else:
            address = connection.address(given.port)
        context.terminal.print(address)
        context.note(f"leads to {connection.gateway}; Ctrl-C ends it")
        told = ""
        while True:
            interrupts.sleep(_LOOK_EVERY_S)
            problem = connection.problem()
            if problem and problem != told:
                context.note(problem)
            told = problem
    except KeyboardInterrupt:
        return OK
    finally:
        connection.close()


COMMANDS = [
    Command(
        name="login",
        help="work with the gateway of a cluster",
        description="Finds the gateway of a cluster by a kubeconfig, tries it, and keeps which one "
        "it is: later commands ask it where no `spanyard up` runs nearby. It is reached through the "
        "API server, without kubectl, with the token of the kubeconfig's user; tokens are not kept.",
        examples=(
            ("spanyard login", "the cluster that kubectl uses"),
            ("spanyard login --context prod -n team", "another one; names are of `team`"),
            ("spanyard login --server https://spanyard.example.com", "by its own address"),
            ("spanyard login --service-account team/me", "for kubeconfigs with a certificate"),
        ),
        arguments=_login_arguments,
        run=_login,
        outputs=(),
        server=False,
    ),
    Command(
        name="logout",
        help="forget the cluster",
        description="Forgets what `spanyard login` kept.",
        examples=(("spanyard logout", "later commands ask this machine's gateway again"),),
        arguments=_no_arguments,
        run=_logout,
        outputs=(),
        exits="0 done",
        server=False,
    ),
    Command(
        name="port-forward",
        help="open a port that leads to a cluster's gateway, or to a server there",
        description="Listens on this machine and leads what comes there to the gateway of a "
        "cluster, or to the server of a deployment, through the API server: for browsers and other "
        "programs. Who asks the gateway still has to show a token.",
        examples=(
            ("spanyard port-forward", "http://127.0.0.1:8080 is the gateway until Ctrl-C"),
            ("spanyard port-forward support --port 9000", "the server of a deployment"),
            ("spanyard port-forward --context prod --port 0", "of another cluster, a free port"),
        ),
        arguments=_forward_arguments,
        run=_forward,
        outputs=(),
        server=False,
    ),
]
