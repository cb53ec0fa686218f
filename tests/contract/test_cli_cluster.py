"""The command line and a cluster: how the gateway is found and reached, and who asks."""

import json
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from spanyard_core.serve import Address, problem, serving
from spanyard_local.command_line import main
from tests.fakes.forwarding_api import TOKEN, ForwardingApi, running_api, service
from tests.fakes.threads import in_a_thread

BIG = "x" * 3_000_000


class FakeGateway:
    """Answers with who asks."""

    def __init__(self) -> None:
        self.tokens = {TOKEN}
        self.asked: list[tuple[str, str, str]] = []
        self.bodies: list[bytes] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        who = request.headers.get("Authorization", "")
        self.asked.append((request.method, request.path_qs, who))
        self.bodies.append(await request.read())
        if who.removeprefix("Bearer ") not in self.tokens:
            return problem(401, "Not signed in", "nobody is known by this token")
        if request.path == "/builds":
            return problem(403, "Forbidden", "'me' has not `get builds` in the namespace 'team'")
        if request.path == "/projects/secret.shop":
            return problem(
                403, "Forbidden", "'me' has not `get projects` in the namespace 'secret'"
            )
        if request.path.startswith("/projects/"):
            return problem(404, "No such project", "there is none")
        if request.path == "/projects":
            ids = ["team.shop", "team.other", "far.shop"]
            items = [
                {"id": i, "records": 1, "firstDay": None, "lastDay": None, "note": BIG} for i in ids
            ]
            return web.json_response({"items": items, "nextCursor": None})
        return web.json_response({"applied": []})


@asynccontextmanager
async def running_gateway(gateway: FakeGateway) -> AsyncIterator[Address]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    async with serving(app, "127.0.0.1", 0, grace=0.1) as address:
        gateway.port = address.port
        yield address


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    made = FakeGateway()
    with in_a_thread(running_gateway(made), "gateway"):
        yield made


@pytest.fixture
def api(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ForwardingApi]:
    """A cluster in which that gateway has one pod; the kubeconfig of its user is in force."""
    for name in ("SPANYARD_SERVER", "SPANYARD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    with in_a_thread(running_api(), "API server") as api:
        api.pods, api.ready = {"gateway-1": gateway.port}, {"gateway-1"}
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
        yield api


class Said:
    """Runs commands, and has what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(words)
        out = self._capsys.readouterr()
        assert ended.value.code == code, out
        return out.out + out.err


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def login_file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "spanyard" / "login.json"


def test_a_login_is_tried_and_kept_without_a_token(
    api: ForwardingApi, gateway: FakeGateway, say: Said, tmp_path: Path
) -> None:
    told = say("login")
    assert f"gateway spanyard/spanyard-gateway through {api.url}, namespace team" in told
    file = login_file(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert TOKEN not in file.read_text()
    assert json.loads(file.read_text())["context"] == "test"

    projects = json.loads(say("projects", "-o", "json"))
    assert [p["id"] for p in projects] == ["team.shop", "team.other", "far.shop"]
    assert projects[0]["note"] == BIG, "megabytes pass"
    assert {who for _, _, who in gateway.asked} == {f"Bearer {TOKEN}"}
    mine = json.loads(say("projects", "-n", "team", "-o", "json"))
    assert [p["id"] for p in mine] == ["team.shop", "team.other"]

    assert say("logout") == "logged out\n"
    assert not file.exists()
    assert say("logout") == "nobody was logged in\n"


def test_a_context_needs_no_login(api: ForwardingApi, gateway: FakeGateway, say: Said) -> None:
    assert "far.shop" in say("projects", "--context", "test")
    assert "there is no context 'none'" in say("projects", "--context", "none", code=2)


def test_a_project_that_one_may_not_see_is_told_from_one_that_is_not_there(
    api: ForwardingApi, gateway: FakeGateway, say: Said
) -> None:
    say("login")
    told = say("logs", "secret.shop", code=2)
    assert "has not `get projects` in the namespace 'secret'" in told
    assert "no project 'team.shpo'; did you mean" in say("logs", "team.shpo", code=1)


def test_a_pod_that_has_gone_is_replaced_by_one_that_is_ready(
    api: ForwardingApi, gateway: FakeGateway, say: Said
) -> None:
    from spanyard_local.cli.login import _client
    from spanyard_local.cluster.connection import Connection
    from spanyard_local.cluster.login import Login

    connection = Connection(Login(context="test"))
    client = _client(connection)
    client.get("/projects")
    api.pods, api.ready = {"gateway-2": gateway.port, "gateway-3": "not listening"}, {"gateway-2"}
    client.get("/projects")
    assert api.connections == 2
    connection.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda api: api.services.clear(), "there is no gateway of Spanyard in this cluster"),
        (
            lambda api: api.services.append(service("b", "two", {})),
            "several gateways: spanyard/spanyard-gateway, b/two; name one's namespace",
        ),
        (lambda api: api.ready.clear(), "has 1 pods, none of them ready; `kubectl get pods -n"),
        (
            lambda api: api.pods.update({"gateway-1": "connection refused"}),
            "does not answer: the pod: connection refused",
        ),
        (
            lambda api: api.forbidden.add("/api/v1/namespaces/spanyard/pods/gateway-1/portforward"),
            "you may not forward ports of pods in the namespace spanyard (403)",
        ),
        (lambda api: api.tokens.clear(), "Unauthorized"),
    ],
    ids=["none", "two", "not ready", "nobody listens", "no right", "an old token"],
)
def test_what_is_in_the_way_is_said(
    api: ForwardingApi, say: Said, change: Any, words: str, tmp_path: Path
) -> None:
    change(api)
    with pytest.raises(SystemExit) as ended:
        main(["login"])
    assert ended.value.code in {1, 3}
    told = say._capsys.readouterr().err
    assert words in told
    assert not login_file(tmp_path).exists()


def test_who_may_not_list_all_services_looks_where_it_usually_is(
    api: ForwardingApi, say: Said
) -> None:
    api.forbidden.add("/api/v1/services")
    assert "logged in" in say("login")


def test_a_certificate_is_nothing_that_a_gateway_could_check(
    api: ForwardingApi, gateway: FakeGateway, say: Said, tmp_path: Path
) -> None:
    api.kubeconfig(tmp_path / "kubeconfig", token="")
    assert "Name a ServiceAccount of yours" in say("login", code=1)
    gateway.tokens = {"of-the-account"}
    told = say("login", "--service-account", "team/me")
    assert "commands ask with the rights of the ServiceAccount team/me" in told
    assert "POST /api/v1/namespaces/team/serviceaccounts/me/token" in api.asked
    assert "far.shop" in say("projects")
    assert gateway.asked[-1][2] == "Bearer of-the-account"
    assert "not of the form NAMESPACE/NAME" in say("login", "--service-account", "me", code=2)


def test_refusals_of_the_gateway_say_what_to_do(
    api: ForwardingApi, gateway: FakeGateway, say: Said
) -> None:
    say("login")
    assert "'me' has not `get builds` in the namespace 'team'" in say("builds", code=2)
    gateway.tokens = set()
    assert "log in again with `spanyard login --context CONTEXT`" in say("projects", code=2)
    direct = f"http://127.0.0.1:{gateway.port}"
    assert "`spanyard login` takes a kubeconfig" in say("projects", "--server", direct, code=2)


def test_a_gateway_of_its_own_address_is_asked_with_the_token_of_the_login_or_a_file(
    api: ForwardingApi, gateway: FakeGateway, say: Said, tmp_path: Path, monkeypatch: Any
) -> None:
    direct = f"http://127.0.0.1:{gateway.port}"
    say("login", "--server", direct)
    say("projects")
    assert api.connections == 0
    say("projects", "--server", direct)
    assert {who for _, _, who in gateway.asked} == {f"Bearer {TOKEN}"}
    say("logout")
    (tmp_path / "token").write_text("of-a-pod\n")
    gateway.tokens.add("of-a-pod")
    monkeypatch.setenv("SPANYARD_TOKEN_FILE", str(tmp_path / "token"))
    say("projects", "--server", direct)
    assert gateway.asked[-1][2] == "Bearer of-a-pod"


def test_a_deployed_folder_goes_into_the_namespace_that_is_meant(
    api: ForwardingApi, gateway: FakeGateway, say: Said, tmp_path: Path
) -> None:
    file = tmp_path / "shop.yaml"
    head = "apiVersion: spanyard.dev/v1alpha1\nkind: Project\nmetadata: {name: shop%s}\n"
    file.write_text(head % "")
    for words, namespace in (
        (["--context", "test"], "team"),
        (["--context", "test", "-n", "other"], "other"),
    ):
        say("deploy", "-f", str(file), "--no-wait", *words)
        [manifest] = json.loads(gateway.bodies[-1])["manifests"]
        assert manifest["metadata"] == {"name": "shop", "namespace": namespace}
    file.write_text(head % ", namespace: mine")
    told = say("deploy", "-f", str(file), "--context", "test", "-n", "other", code=2)
    assert "its namespace is 'mine', and --namespace says 'other'" in told
