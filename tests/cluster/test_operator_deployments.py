"""Deployments on a real API server with the real apps controllers; the tests play the kubelet."""

import asyncio
import base64
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.resources import crds
from spanyard_core.resources.kinds import PLURALS
from spanyard_operator.context import Context
from tests.cluster.apiserver import ApiServer
from tests.cluster.controllers import play_kubelet, running_controllers
from tests.cluster.operating import operating
from tests.fakes.processes import wait_for

MERGE = "application/merge-patch+json"
SPANYARD = "/apis/spanyard.dev/v1alpha1"
PATIENCE = 60.0
CRASHED = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {
        "terminated": {"exitCode": 3, "reason": "Error", "message": "no database\n"}
    },
    "restartCount": 4,
}  # fmt: skip
Object = dict[str, Any]


@pytest.fixture(scope="module")
def api(api_server: ApiServer) -> Iterator[ApiServer]:
    """With our kinds and the apps controllers."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for kind in PLURALS:
        assert api_server.request("POST", definitions, crds.definition(kind)).status in {201, 409}
    for plural in PLURALS.values():
        path = f"{SPANYARD}/namespaces/default/{plural}"
        wait_for(f"{plural} are served", lambda p=path: api_server.request("GET", p).status == 200)
    with running_controllers(api_server):
        yield api_server


@dataclass
class Team:
    """One namespace, as a test uses it."""

    api: ApiServer
    namespace: str
    folder: Path

    def at(self, plural: str, name: str = "", group: str = SPANYARD) -> str:
        return f"{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def make(self, kind: str, name: str, spec: Object | None = None, **more: Any) -> Object:
        body = {
            "apiVersion": "spanyard.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
            "spec": spec or {}, **more,
        }  # fmt: skip
        answer = self.api.request("POST", self.at(PLURALS[kind]), body)  # type: ignore[index]
        assert answer.status == 201, answer.message
        return answer.body

    def build(self, name: str, digest: str = "a") -> None:
        """One that succeeded."""
        source = {"git": {"url": "https://git.example.com/x"}}
        self.make("Build", name, {"project": "shop", "source": source})
        artifact = {"key": f"builds/{name}/artifact", "digest": "sha256:" + digest * 64, "size": 1}
        status = {"phase": "Succeeded", "artifact": artifact}
        path = self.at("builds", name) + "/status"
        answer = self.api.request("PATCH", path, {"status": status}, kind=MERGE)
        assert answer.status == 200, answer.message

    def change(self, spec: Object, name: str = "web") -> None:
        answer = self.api.request("PATCH", self.at("deployments", name), {"spec": spec}, kind=MERGE)
        assert answer.status == 200, answer.message

    def status(self, name: str = "web") -> Object:
        found: Object = self.api.request("GET", self.at("deployments", name)).body["status"]
        return found

    def child(self, name: str = "web-server") -> Object:
        return self.api.request("GET", self.at("deployments", name, "/apis/apps/v1")).body

    def items(self, plural: str, group: str = "/api/v1") -> list[Object]:
        found: list[Object] = self.api.request("GET", self.at(plural, group=group)).body["items"]
        return found

    def pods(self, revision: int) -> list[Object]:
        wanted = str(revision)
        return [
            pod
            for pod in self.items("pods")
            if pod["metadata"]["labels"]["spanyard.dev/revision"] == wanted
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def events(self) -> set[str]:
        return {
            event["reason"]
            for event in self.items("events")
            if event["involvedObject"]["kind"] == "Deployment"
            and event["involvedObject"]["apiVersion"].startswith("spanyard.dev")
        }

    def forget(self, plural: str, name: str, group: str = SPANYARD) -> None:
        assert self.api.request("DELETE", self.at(plural, name, group)).status in {200, 202}

    def operating(self, **settings: Any) -> AbstractAsyncContextManager[Context]:
        config = self.api.kubeconfig(self.folder / "kubeconfig")
        return operating(config, self.namespace, self.folder, **settings)


@pytest.fixture
def team(api: ApiServer, tmp_path: Path, request: pytest.FixtureRequest) -> Team:
    name = f"team-{abs(hash(request.node.name)) % 10**8}"
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    made = Team(api, name, tmp_path)
    made.make("Project", "shop")
    return made


async def until(what: str, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


async def becomes_ready(team: Team, revision: int, replicas: int = 1) -> None:
    """The kubelet makes each pod of a revision ready as it comes; the revision then serves."""

    def served() -> bool:
        for pod in team.pods(revision):
            play_kubelet(team.api, pod, ready=True)
        status = team.status()
        ready = status.get("readyReplicas", 0) == status.get("replicas", 0) == replicas
        return status.get("revision") == revision and ready

    await until(f"revision {revision} serves", served)


def ready(status: Object) -> str:
    return next(c["status"] for c in status["conditions"] if c["type"] == "Ready")


def stalled(status: Object) -> str:
    found = (c for c in status.get("conditions", []) if c["type"] == "Stalled")
    return next((c["reason"] for c in found), "")


def states(status: Object) -> list[str]:
    return [r["state"] for r in status["revisions"]]


SERVER = {"project": "shop", "follow": True, "command": "node server.js"}


async def test_a_build_becomes_a_server_with_an_address_in_few_writes(team: Team) -> None:
    async with team.operating() as operator:
        team.make("Deployment", "web", {**SERVER, "expose": {"ingress": {}}})
        await until(
            "it waits for a build",
            lambda: team.status().get("reason") == "WaitingForBuild",
        )
        assert team.child().get("code") == 404
        before = sum(operator.kube.writes.values())
        team.build("shop-1")
        await becomes_ready(team, 1)
        status = team.status()
        assert (ready(status), status["build"]) == ("True", "shop-1")
        assert status["endpoint"] == f"http://web-server.{team.namespace}.svc"
        assert status["collector"]["mode"] == "hostPath"
        assert status["observedGeneration"] == 1
        # account, apps Deployment, Service, Ingress, and a status when it starts and when it serves
        assert sum(operator.kube.writes.values()) - before <= 6, operator.kube.writes
    pod = team.pods(1)[0]
    names = [one["name"] for one in pod["spec"]["initContainers"]]
    assert names == ["spanyard-collector", "spanyard-fetch"]
    assert pod["spec"]["serviceAccountName"] == "spanyard-runner"
    service = team.items("services")[0]
    assert service["spec"]["ports"][0]["targetPort"] == 8080
    ingress = team.items("ingresses", "/apis/networking.k8s.io/v1")[0]
    assert ingress["spec"]["defaultBackend"]["service"]["name"] == "web-server"
    async with team.operating() as operator:
        await until("it is looked at again", lambda: len(operator.queue.results))
        await asyncio.sleep(1)
        assert not operator.kube.writes, "a restart changes nothing"
        team.change({"expose": None})
        await until(
            "the way in is closed",
            lambda: not team.items("ingresses", "/apis/networking.k8s.io/v1"),
        )
        team.forget("deployments", "web")
        await until(
            "nothing is left", lambda: not team.items("pods") and not team.items("services")
        )


async def test_a_bad_revision_leaves_the_old_one_serving_and_says_why(team: Team) -> None:
    team.build("shop-1", "a")
    async with team.operating():
        team.make("Deployment", "web", {**SERVER, "replicas": 2, "progressDeadline": "20s"})
        await becomes_ready(team, 1, replicas=2)
        team.build("shop-2", "b")
        await until("a pod of it starts", lambda: team.pods(2))
        await until("it is said", lambda: team.status()["reason"] == "RollingOut")
        assert ready(team.status()) == "True"
        for pod in team.pods(2):
            play_kubelet(team.api, pod, **CRASHED)
        await until("it is given up", lambda: stalled(team.status()) == "CrashLoop")
        status = team.status()
        assert (ready(status), status["revision"], status["build"]) == ("True", 1, "shop-1")
        assert (status["failure"]["exitCode"], status["failure"]["lastLines"]) == (
            3,
            ["no database"],
        )
        assert status["failure"]["pod"] == team.pods(2)[0]["metadata"]["name"]
        assert states(status) == ["Serving", "Failed"]
        assert status["readyReplicas"] == 2
        await until("it is told", lambda: {"RollingOut", "RevisionRefused"} <= team.events())
        # A rollback is one field; what ran before gets a new number.
        team.change({"follow": None, "buildRef": {"name": "shop-1"}})
        await becomes_ready(team, 3, replicas=2)
        status = team.status()
        assert (stalled(status), status["build"]) == ("", "shop-1")
        assert [(r["number"], r["state"]) for r in status["revisions"]] == [
            (2, "Failed"), (3, "Serving"),
        ]  # fmt: skip


async def test_scale_suspend_and_an_autoscaler_each_have_their_say(team: Team) -> None:
    team.build("shop-1")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 3}}
    async with team.operating():
        team.make("Deployment", "web", SERVER)
        await becomes_ready(team, 1)
        ours = team.at("deployments", "web") + "/scale"
        assert team.api.request("PATCH", ours, {"spec": {"replicas": 2}}, kind=MERGE).status == 200
        await becomes_ready(team, 1, replicas=2)
        assert team.api.request("GET", ours).body["status"]["replicas"] == 2
        selector = team.api.request("GET", ours).body["status"]["selector"]
        assert selector == "spanyard.dev/deployment=web"
        # An autoscaler of the child: left alone, over changes of the spec too.
        theirs = team.at("deployments", "web-server", "/apis/apps/v1") + "/scale"
        theirs += "?fieldManager=kube-controller-manager"
        assert team.api.request("PATCH", theirs, scale, kind=MERGE).status == 200
        await becomes_ready(team, 1, replicas=3)
        team.change({"port": 9000})
        await becomes_ready(team, 2, replicas=3)
        assert team.child()["spec"]["replicas"] == 3
        team.change({"suspend": True})
        await until("all are stopped", lambda: not team.items("pods"))
        await until("it is said", lambda: not team.status().get("revision"))
        assert team.status()["reason"] == "Suspended"
        team.change({"suspend": None})
        await becomes_ready(team, 2, replicas=2)
        assert states(team.status())[-1] == "Serving"


async def test_a_changed_secret_rolls_and_is_not_written_anywhere(team: Team) -> None:
    def secret(value: str) -> Object:
        data = {"k": base64.b64encode(value.encode()).decode()}
        return {"metadata": {"name": "model"}, "data": data}

    key = {"valueFrom": {"secretKeyRef": {"name": "model", "key": "k"}}}
    team.build("shop-1")
    async with team.operating():
        team.make("Deployment", "web", {**SERVER, "env": [{"name": "KEY", **key}]})
        await until("it is missed", lambda: stalled(team.status()) == "SecretMissing")
        assert "k in the Secret model" in team.status()["message"]
        assert (
            team.api.request("POST", team.at("secrets", group="/api/v1"), secret("one")).status
            == 201
        )
        await becomes_ready(team, 1)
        path = team.at("secrets", "model", "/api/v1")
        assert team.api.request("PATCH", path, secret("two-secret"), kind=MERGE).status == 200
        await becomes_ready(team, 2)
        path = team.at("secrets", "model", "/api/v1")
        assert team.api.request("DELETE", path).status == 200
        await until("it is missed again", lambda: stalled(team.status()) == "SecretMissing")
        assert (ready(team.status()), team.status()["revision"]) == ("True", 2)
    everything = str([team.child(), team.status(), team.items("pods")])
    assert "two-secret" not in everything
    assert secret("two-secret")["data"]["k"] not in everything


async def test_somebody_elses_objects_of_the_same_name_are_never_touched(team: Team) -> None:
    labels = {"app": "theirs"}
    theirs: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web-server"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "server", "image": "theirs"}]},
            },
        },
    }
    service = {"metadata": {"name": "web-server"}, "spec": {"ports": [{"port": 80}]}}
    services = team.at("services", group="/api/v1")
    assert (
        team.api.request("POST", team.at("deployments", group="/apis/apps/v1"), theirs).status
        == 201
    )
    assert team.api.request("POST", services, service).status == 201
    before = [team.child()["spec"], team.items("services")]
    team.build("shop-1")
    async with team.operating():
        team.make("Deployment", "web", SERVER)
        await until("it is said", lambda: stalled(team.status()) == "NameTaken")
        assert "a Deployment web-server" in team.status()["message"]
        assert [team.child()["spec"], team.items("services")] == before
        team.forget("deployments", "web-server", "/apis/apps/v1")
        team.change({"port": 9000})  # else it would look again in half a minute
        await until("the other one is named", lambda: "a Service" in team.status()["message"])
        assert team.items("services") == before[1]


async def test_what_the_api_server_refuses_is_told_with_our_field(team: Team) -> None:
    bad: list[tuple[Object, str, str]] = [
        ({"securityContext": {"privilegd": True}}, "InvalidSpec", "spec.securityContext.privilegd"),
        ({"securityContext": {"runAsUser": -3}}, "InvalidSpec", "spec.securityContext.runAsUser"),
        ({"expose": {"ingress": {"spec": {"ruls": []}}}}, "InvalidSpec", "spec.expose.ingress.spec.ruls"),
        ({"expose": {"httpRoute": {}}}, "InvalidSpec", "no kind HTTPRoute"),
        ({"buildRef": {"name": "none"}, "follow": None}, "BuildMissing", "none"),
    ]  # fmt: skip
    none = {"securityContext": None, "expose": None, "follow": True, "buildRef": None}
    team.build("shop-1")
    async with team.operating():
        team.make("Deployment", "web", SERVER)
        await becomes_ready(team, 1)
        for spec, reason, words in bad:
            team.change(spec)
            await until(words, lambda r=reason, w=words: stalled(team.status()) == r and w in team.status()["message"])  # fmt: skip
            assert team.status()["revision"] == 1, "the old one goes on"
            team.change(none)
            await until("mended", lambda: not stalled(team.status()))
        assert len(team.status()["revisions"]) <= 2


async def test_pods_that_pod_security_refuses_are_told(team: Team) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{team.namespace}"
    assert (
        team.api.request("PATCH", path, {"metadata": {"labels": label}}, kind=MERGE).status == 200
    )
    team.build("shop-1")
    async with team.operating():
        team.make("Deployment", "web", {**SERVER, "collector": {"capture": "hostPath"}})
        await until(
            "it is said", lambda: team.status().get("failure", {}).get("reason") == "PodRefused"
        )
        assert 'violates PodSecurity "restricted:latest"' in team.status()["failure"]["message"]
        # `auto` takes the way that the namespace allows, with a Role for it.
        team.change({"collector": None})
        await becomes_ready(team, 2)
        assert team.status()["collector"]["mode"] == "api"
        assert [r["metadata"]["name"] for r in team.items("roles", "/apis/rbac.authorization.k8s.io/v1")] == ["spanyard-collector"]  # fmt: skip


async def test_kubectl_means_the_other_deployments(team: Team, kubectl: Path) -> None:
    team.build("shop-1")
    config = team.api.kubeconfig(team.folder / "kubectl")

    def said(*arguments: str) -> str:
        command = [str(kubectl), f"--kubeconfig={config}", "-n", team.namespace, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    async with team.operating():
        team.make("Deployment", "web", SERVER)
        await becomes_ready(team, 1)
        assert "web-server" in await asyncio.to_thread(said, "get", "deployment")
        await asyncio.to_thread(said, "scale", "sdep/web", "--replicas=2")
        await becomes_ready(team, 1, replicas=2)
        line = (await asyncio.to_thread(said, "get", "sdep", "--no-headers")).split()
        assert line[:7] == ["web", "shop", "True", "Serving", "2", "1", "shop-1"]
        rollout = await asyncio.to_thread(said, "rollout", "status", "deployment/web-server")
        assert "successfully rolled out" in rollout


@pytest.fixture
def kubectl() -> Path:
    from tests.cluster.binaries import built  # only this test needs it

    return built(["kubectl"]).path("kubectl")
