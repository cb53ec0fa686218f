"""The children of a Deployment, by value."""

import shutil
import signal
import subprocess
from typing import Any

import pytest

from spanyard_core.resources.deployments import choose, content, revision_hash
from spanyard_core.resources.kinds import (
    Deployment,
    EnvVar,
    Expose,
    HealthCheck,
    KeyReference,
    LocalReference,
    Resources,
    Revision,
    ValueFrom,
)
from spanyard_operator.deployments import manifests
from spanyard_operator.deployments.environment import MissingKeyError, referenced, values
from spanyard_operator.deployments.pod import Around, placement_hash, template
from spanyard_operator.deployments.wishes import wanted
from spanyard_operator.pod.parts import SOURCE
from spanyard_operator.settings import OperatorSettings
from tests.unit.operator.servers import finished, server

SETTINGS = OperatorSettings(
    storage="file:///objects",
    gateway="http://gateway",
    https_proxy="http://proxy:3128",
    ca_config_map="authorities",
    image_pull_secrets=["ours"],
)
REV = Revision(number=1, hash="a", state="Starting")
PLAIN = OperatorSettings(storage="file:///objects", gateway="http://gateway")


def around(settings: OperatorSettings = PLAIN, **changes: Any) -> Around:
    return Around(settings=settings, account="spanyard-runner", default_image="python:3", **changes)


def made(deployment: Deployment, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = template(deployment, around(**changes))["spec"]
    return spec


def container(deployment: Deployment, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = made(deployment, **changes)["containers"][0]
    return found


def env(found: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in found["env"]}


def test_an_artifact_runs_in_its_folder_by_nobody_in_particular() -> None:
    spec = made(server(), fetch={"name": "spanyard-fetch"}, collector={"name": "c"})
    found = spec["containers"][0]
    assert found["image"] == "python:3"
    assert found["workingDir"] == SOURCE
    assert found["command"][:2] == ["/bin/sh", "-c"]
    assert found["command"][3:] == ["server", "node server.js"]
    assert [one["name"] for one in spec["initContainers"]] == ["c", "spanyard-fetch"]
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "spanyard-runner"
    assert env(found) == {
        "HOST": "0.0.0.0", "PYTHONUNBUFFERED": "1", "HOME": "/spanyard/home", "PORT": "8080",
    }  # fmt: skip


def test_an_image_runs_as_itself_but_never_as_root() -> None:
    spec = made(server(image="team/web:1"))
    found = spec["containers"][0]
    assert found["image"] == "team/web:1"
    assert "command" not in found
    blank = made(server(image="team/web:1", command="  "))
    assert "command" not in blank["containers"][0]
    assert "workingDir" not in found
    assert "volumes" not in spec
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert found["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "HOME" not in env(found)


def test_the_users_security_context_wins_field_by_field() -> None:
    deployment = server(
        security_context={"readOnlyRootFilesystem": True, "capabilities": {"add": ["NET_BIND_SERVICE"]}},
        pod_security_context={"runAsUser": 1000, "fsGroup": None},
    )  # fmt: skip
    spec = made(deployment)
    assert spec["securityContext"]["runAsUser"] == 1000
    assert "fsGroup" not in spec["securityContext"]
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "readOnlyRootFilesystem": True,
    }


def test_the_users_variables_win_and_are_left_as_they_are_written() -> None:
    deployment = server(
        port=9000,
        env=[
            EnvVar(name="HOST", value="::"),
            EnvVar(name="MODEL", value="$(HOST) costs $5 or $$"),
            EnvVar(
                name="KEY",
                value_from=ValueFrom(secret_key_ref=KeyReference(name="model", key="k")),
            ),
        ],
    )
    found = env(container(deployment, telemetry=[{"name": "OTEL_SERVICE_NAME", "value": "web"}]))
    assert found["HOST"] == "::"
    assert found["MODEL"] == "$$(HOST) costs $$5 or $$$$"  # Kubernetes makes one of two
    assert found["KEY"] == {"secretKeyRef": {"name": "model", "key": "k"}}
    assert found["PORT"] == "9000"
    assert found["OTEL_SERVICE_NAME"] == "web"


def test_proxies_authorities_and_registries_of_the_installation_are_in_the_pod() -> None:
    deployment = server(image_pull_secrets=[LocalReference(name="team")])
    spec = made(deployment, settings=SETTINGS)
    found = spec["containers"][0]
    assert env(found)["https_proxy"] == "http://proxy:3128"
    assert env(found)["NODE_EXTRA_CA_CERTS"] == "/spanyard/ca/ca.crt"
    assert {"name": "spanyard-ca", "configMap": {"name": "authorities"}} in spec["volumes"]
    assert spec["imagePullSecrets"] == [{"name": "team"}, {"name": "ours"}]


def test_placement_resources_account_and_grace_are_passed_on() -> None:
    toleration = {"key": "gpu", "operator": "Exists"}
    spec = made(
        server(
            node_selector={"disk": "fast"},
            tolerations=[toleration],
            service_account_name="mine",
            termination_grace_period="1m500ms",
            resources=Resources(limits={"memory": "512Mi"}),
        )
    )
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [toleration]
    assert spec["serviceAccountName"] == "mine"
    assert "automountServiceAccountToken" not in spec, "an account of one's own is for its token"
    assert spec["terminationGracePeriodSeconds"] == 76, (
        "5 s to drain, 60.5 s, and a reserve of 10 s"
    )
    assert spec["containers"][0]["resources"] == {"limits": {"memory": "512Mi"}}


def test_probes_are_those_of_a_laptop() -> None:
    health = HealthCheck(path="/healthz", period="10s", timeout="1500ms", failure_threshold=2)
    found = container(server(health=health))
    how = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 2}
    assert found["startupProbe"] == {**how, "periodSeconds": 1, "failureThreshold": 60}
    assert found["readinessProbe"] == {**how, "periodSeconds": 10, "failureThreshold": 2}
    assert found["livenessProbe"] == {**how, "periodSeconds": 10, "failureThreshold": 6}
    assert container(server())["readinessProbe"]["tcpSocket"] == {"port": 8080}


def test_a_rollout_takes_nothing_from_what_serves() -> None:
    child = manifests.apps_deployment(server(progress_deadline="90s"), {}, REV, replicas=2)
    assert child["metadata"]["name"] == "web-server"
    assert child["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert child["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert child["spec"]["progressDeadlineSeconds"] == 90
    assert child["spec"]["replicas"] == 2


def test_replicas_of_somebody_else_are_not_mentioned() -> None:
    assert "replicas" not in manifests.apps_deployment(server(), {}, REV, replicas=None)["spec"]


def test_the_service_leads_to_the_port_and_is_the_endpoint() -> None:
    child = manifests.service(server(port=9000))
    assert child["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": 9000, "protocol": "TCP"}
    ]
    selector = child["spec"]["selector"]
    assert selector["spanyard.dev/deployment"] == "web"
    apps = manifests.apps_deployment(server(), {}, REV, replicas=1)
    assert apps["spec"]["selector"]["matchLabels"] == selector
    assert manifests.endpoint(server()) == "http://web-server.team.svc"


BACKEND = {"service": {"name": "web-server", "port": {"name": "http"}}}
OTHER = {"service": {"name": "other", "port": {"number": 1}}}


@pytest.mark.parametrize(
    ("asked", "spec"),
    [
        ({}, {"defaultBackend": BACKEND}),
        (
            {"ingressClassName": "nginx", "rules": [{"host": "x.example"}]},
            {
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": "x.example",
                        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]},
                    }
                ],
            },
        ),
        (
            {"rules": [{"http": {"paths": [{"path": "/a", "pathType": "Exact"}, {"path": "/b", "backend": OTHER}]}}]},
            {"rules": [{"http": {"paths": [
                {"path": "/a", "pathType": "Exact", "backend": BACKEND},
                {"path": "/b", "pathType": "Prefix", "backend": OTHER},
            ]}}]},
        ),
    ],
)  # fmt: skip
def test_an_ingress_leads_to_the_service(asked: dict[str, Any], spec: dict[str, Any]) -> None:
    said = {"metadata": {"annotations": {"a": "b"}, "labels": {"l": "m"}}, "spec": asked}
    child = manifests.ingress(server(expose=Expose(ingress=said)))
    assert child is not None
    assert child["spec"] == spec
    assert child["metadata"]["annotations"] == {"a": "b"}
    assert child["metadata"]["labels"]["l"] == "m"
    assert manifests.ingress(server()) is None


def test_a_route_leads_to_the_service_where_it_says_nothing_else() -> None:
    redirect = {"filters": [{"type": "RequestRedirect"}]}
    other = {"backendRefs": [{"name": "other", "port": 1}]}
    spec = {"parentRefs": [{"name": "gate"}], "rules": [{"matches": []}, redirect, other]}
    child = manifests.http_route(server(expose=Expose(http_route={"spec": spec})))
    ours = [{"name": "web-server", "port": 80}]
    assert child is not None
    assert child["spec"]["rules"] == [{"matches": [], "backendRefs": ours}, redirect, other]
    bare = manifests.http_route(server(expose=Expose(http_route={})))
    assert bare is not None
    assert bare["spec"]["rules"] == [{"backendRefs": ours}]


@pytest.mark.parametrize(
    "rules", ["nope", ["a"], [{"http": 5}], [{"http": {"paths": "p"}}], [{"http": {"paths": [1]}}]]
)
def test_an_ingress_that_is_none_is_left_to_the_api_server(rules: Any) -> None:
    child = manifests.ingress(server(expose=Expose(ingress={"spec": {"rules": rules}})))
    assert child is not None
    assert child["spec"]["rules"] == rules


@pytest.mark.parametrize("rules", ["nope", ["a"], [{"filters": 5}], [{"filters": ["a"]}]])
def test_a_route_that_is_none_is_left_to_the_api_server(rules: Any) -> None:
    child = manifests.http_route(server(expose=Expose(http_route={"spec": {"rules": rules}})))
    assert child is not None
    found = child["spec"]["rules"]
    assert found == rules or found[0]["filters"] == rules[0]["filters"]


@pytest.mark.parametrize("port", [4318, 4320])
def test_a_port_of_the_collector_is_refused_in_words(port: int) -> None:
    found = wanted(server(port=port), [finished("support-1")], {}, replicas=1)
    assert found.content is None
    assert found.wish.failure is not None
    assert "spec.port" in found.wish.failure.message
    assert "listens on 4318 and 4320" in found.wish.failure.message


# --- what makes a revision ---------------------------------------------------------------------


def hash_of(deployment: Deployment, found: dict[str, str]) -> str:
    choice = choose(deployment, [finished("support-1")])
    return revision_hash(content(deployment, choice, found, pod=placement_hash(deployment.spec)))


def test_where_it_runs_makes_a_revision_in_a_cluster() -> None:
    plain = hash_of(server(), {})
    assert placement_hash(server().spec) == "", "the same hash as on a laptop"
    assert hash_of(server(replicas=4, suspend=True), {}) == plain
    for change in ({"node_selector": {"a": "b"}}, {"service_account_name": "x"},
                   {"security_context": {"privileged": False}}):  # fmt: skip
        assert hash_of(server(**change), {}) != plain


def key(secret: str = "", config: str = "", *, optional: bool = False) -> ValueFrom:
    at = KeyReference(name=secret or config, key="k", optional=optional)
    return ValueFrom(secret_key_ref=at) if secret else ValueFrom(config_map_key_ref=at)


def test_a_changed_secret_makes_a_revision() -> None:
    env = [EnvVar(name="A", value_from=key("s")), EnvVar(name="B", value_from=key(config="c"))]
    assert referenced(env) == [("Secret", "s"), ("ConfigMap", "c")]
    before = values(env, {("Secret", "s"): {"k": "eA=="}, ("ConfigMap", "c"): {"k": "y"}})
    assert before == {"A": "x", "B": "y"}
    after = values(env, {("Secret", "s"): {"k": "/w=="}, ("ConfigMap", "c"): {"k": "y"}})
    assert hash_of(server(), before) != hash_of(server(), after)


def test_a_secret_is_hashed_with_a_salt_and_nothing_else_is() -> None:
    secret = [EnvVar(name="A", value_from=key("s"))]
    plain = [EnvVar(name="A", value="x"), EnvVar(name="B", value_from=key(config="c"))]
    keys = {("Secret", "s"): {"k": "eA=="}, ("ConfigMap", "c"): {"k": "y"}}
    hashes = {hash_of(server(), values(secret, keys, salt=salt)) for salt in ("", "one", "two")}
    assert len(hashes) == 3
    assert values(plain, keys, salt="one") == values(plain, keys)


def test_a_missing_key_is_named_unless_it_may_be_missing() -> None:
    with pytest.raises(MissingKeyError, match=r"spec.env\[A\]: there is no key k in the Secret s"):
        values([EnvVar(name="A", value_from=key("s"))], {})
    assert values([EnvVar(name="A", value_from=key("s", optional=True))], {}) == {}


# --- the first process -------------------------------------------------------------------------


def run(command: str) -> "subprocess.Popen[bytes]":
    script = container(server(command=command))["command"]
    plain = [part.replace("$$", "$") for part in script]  # as Kubernetes hands it to the runtime
    return subprocess.Popen(plain, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("sh -c 'exit 3'", 3),
        ("exec sh -c 'exit 3'", 3),
        ("no-such-program", 127),
        ("sh -c 'kill -9 $$'", 137),
    ],
)
def test_the_exit_code_is_the_commands(command: str, code: int) -> None:
    with run(command) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"Killed" not in said, "the shell's words are not the server's"


def test_sigterm_reaches_the_command_and_its_answer_is_waited_for() -> None:
    assert shutil.which("sh")
    command = "sh -c 'trap \"echo ending; exit 7\" TERM; echo up; while :; do sleep 0.05; done'"
    with run(command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"ending\n"
    assert process.returncode == 7
