"""The pod of a build: what each container sees, and what the user's shell gets."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.resources.kinds import Build
from spanyard_operator.pod.build_pod import _STEP, TOLD, build_pod, cache_claim
from spanyard_operator.pod.parts import SOURCE, literal
from spanyard_operator.settings import OperatorSettings

GIT = {"git": {"url": "https://git.example.com/r.git", "revision": "v1",
               "secretRef": {"name": "git-token"}}}  # fmt: skip
DIGEST = "sha256:" + "a" * 64


def settings(**more: Any) -> OperatorSettings:
    return OperatorSettings(storage="s3://b", gateway="http://gateway:8080", **more)


def made(*, with_settings: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    build = msgspec.convert(
        {
            "metadata": {"name": "web-3", "namespace": "team", "uid": "u-1"},
            "spec": {"project": "web", "source": GIT, **spec},
        },
        Build,
    )
    return build_pod(build, 2, settings(**(with_settings or {})), "api")


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])}


def env(container: dict[str, Any]) -> dict[str, Any]:
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names)), "the API server keeps one of them, nobody knows which"
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {m["name"]: m for m in container["volumeMounts"]}


def test_the_steps_follow_each_other_and_only_those_with_a_command_are_there() -> None:
    both = made(install="npm ci", build="npm run build")
    assert list(containers(both)) == [
        "spanyard-collector", "spanyard-fetch", "install", "build", "spanyard-publish",
    ]  # fmt: skip
    assert [c["name"] for c in both["spec"]["containers"]] == ["spanyard-publish"]
    none = made(source={"artifact": {"digest": DIGEST}})
    assert list(containers(none)) == ["spanyard-collector", "spanyard-fetch", "spanyard-publish"]


def test_users_containers_see_neither_token_nor_git_credentials_nor_our_files() -> None:
    pod = made(install="npm ci", cache={})
    step = containers(pod)["install"]
    assert {m["name"] for m in step["volumeMounts"]} == {
        "spanyard-work", "spanyard-cache", "spanyard-spans",
    }  # fmt: skip
    work = [m for m in step["volumeMounts"] if m["name"] == "spanyard-work"]
    assert all(m["subPath"] for m in work)
    assert pod["spec"]["automountServiceAccountToken"] is False
    fetch = mounts(containers(pod)["spanyard-fetch"])
    assert {"spanyard-git", "spanyard-private", "spanyard-token"} <= set(fetch)
    assert "spanyard-git" not in mounts(containers(pod)["spanyard-publish"])


def test_no_credential_stands_in_the_pod() -> None:
    assert "git-token" in json.dumps(made()["spec"]["volumes"])
    assert "git-token" not in json.dumps(made()["spec"]["initContainers"])


def test_every_container_keeps_pod_security_restricted() -> None:
    pod = made(install="x", build="y")
    security = pod["spec"]["securityContext"]
    assert security["runAsNonRoot"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for name, container in containers(pod).items():
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False, name
        assert own["capabilities"] == {"drop": ["ALL"]}, name
        assert own["readOnlyRootFilesystem"] is (name not in {"install", "build"}), name


def test_commands_and_values_reach_the_shell_as_they_were_written() -> None:
    command = "echo $(date) $$ $(HOME) ${X}"
    step = containers(made(install=command, env=[{"name": "A", "value": "$(B) $$"}]))["install"]
    assert step["command"][-1] == command.replace("$", "$$")
    assert env(step)["A"] == "$$(B) $$$$"
    assert step["workingDir"] == SOURCE
    below = containers(made(install="x", source={**GIT, "subPath": "a/b"}))["install"]
    assert below["workingDir"] == f"{SOURCE}/a/b"


def test_what_the_spec_sets_wins_over_what_we_set() -> None:
    given = [{"name": "HOME", "value": "/elsewhere"}, {"name": "HTTPS_PROXY", "value": "mine"},
             {"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]  # fmt: skip
    pod = made(install="x", env=given, with_settings={"https_proxy": "http://proxy:3128"})
    found = env(containers(pod)["install"])
    assert (found["HOME"], found["HTTPS_PROXY"]) == ("/elsewhere", "mine")
    assert found["T"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert found["https_proxy"] == "http://proxy:3128"
    assert (found["CI"], found["SPANYARD_BUILD"]) == ("1", "team.web-3")
    assert env(containers(pod)["spanyard-fetch"])["HTTPS_PROXY"] == "http://proxy:3128"


def test_settings_of_the_cluster_reach_the_pod() -> None:
    pod = made(
        install="x",
        builder={"image": "node:22", "imagePullSecrets": [{"name": "mine"}]},
        cache={"mountPath": "/c"},
        nodeSelector={"pool": "builds"},
        tolerations=[{"key": "k", "operator": "Exists"}],
        serviceAccountName="robot",
        with_settings={"image_pull_secrets": ["mine", "ours"], "ca_config_map": "company-ca"},
    )
    spec = pod["spec"]
    step = containers(pod)["install"]
    assert step["image"] == "node:22"
    assert spec["imagePullSecrets"] == [{"name": "mine"}, {"name": "ours"}]
    assert spec["nodeSelector"] == {"pool": "builds"}
    assert spec["tolerations"] == [{"key": "k", "operator": "Exists"}]
    assert spec["serviceAccountName"] == "robot"
    assert env(step)["SPANYARD_CACHE"] == "/c"
    assert env(step)["SSL_CERT_FILE"] == "/spanyard/ca/ca.crt"
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["spanyard-ca"]["configMap"] == {"name": "company-ca"}
    assert volumes["spanyard-cache"]["persistentVolumeClaim"] == {"claimName": "web-cache"}
    for container in containers(pod).values():
        assert {m["name"] for m in container["volumeMounts"]} <= set(volumes)


def test_every_attempt_has_a_pod_and_an_artifact_of_its_own() -> None:
    pod = made()
    assert pod["metadata"]["name"] == "web-3-build-2"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    publish = env(containers(pod)["spanyard-publish"])
    assert publish["SPANYARD_ARTIFACT_KEY"] == "builds/team.web-3/artifact-2.tar.zst"
    assert json.loads(publish["SPANYARD_META"])["attempt"] == 2


def test_a_cache_has_a_claim_that_the_builds_of_the_project_share() -> None:
    build = msgspec.convert(
        {"metadata": {"name": "b", "namespace": "team"},
         "spec": {"project": "web", "source": GIT, "cache": {"size": "3Gi"}}}, Build
    )  # fmt: skip
    claim = cache_claim(build)
    assert claim is not None
    assert claim["metadata"]["name"] == "web-cache"
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"


class TestShell:
    """What wraps a command, outside of a container: there it ends its command, not everything."""

    def start(self, command: str, folder: Path) -> "subprocess.Popen[str]":
        script = _STEP.replace(TOLD, str(folder))
        return subprocess.Popen(
            ["/bin/sh", "-c", script, "install", command],
            stdout=subprocess.PIPE, text=True, cwd=folder, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip

    @pytest.mark.parametrize("code", [0, 3, 127])
    def test_the_exit_code_is_the_commands(self, code: int, tmp_path: Path) -> None:
        with self.start(f"exit {code}", tmp_path) as shell:
            assert shell.wait(60) == code

    def test_the_command_has_the_commit_and_no_input(self, tmp_path: Path) -> None:
        (tmp_path / "commit").write_text("abc\n")
        with self.start('echo "$SPANYARD_COMMIT"; cat', tmp_path) as shell:
            assert shell.communicate(timeout=60)[0] == "abc\n"

    def test_sigterm_reaches_the_command_which_may_take_its_time(self, tmp_path: Path) -> None:
        said = tmp_path / "said"
        command = f"trap 'sleep 0.3; echo bye > {said}; exit 5' TERM; echo up; sleep 20 & wait"
        with self.start(command, tmp_path) as shell:
            assert shell.stdout is not None
            assert shell.stdout.readline() == "up\n"
            time.sleep(0.1)  # the command's own `wait`
            shell.send_signal(signal.SIGTERM)
            assert shell.wait(60) == 5
        assert said.read_text() == "bye\n"

    def test_sigterm_before_the_command_has_begun_ends_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "commit")  # the shell waits until somebody writes
        with self.start("sleep 60", tmp_path) as shell:
            told = once_it_is_read(tmp_path / "commit")
            shell.send_signal(signal.SIGTERM)
            os.close(told)
            assert shell.wait(60) == 128 + signal.SIGTERM


def once_it_is_read(fifo: Path) -> int:
    """Wait until somebody has opened it for reading; gives its other end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # ENXIO: nobody yet
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.01)
    pytest.fail("nobody reads it")


def test_a_literal_survives_what_kubernetes_replaces() -> None:
    assert literal("$(A) $$ $x") == "$$(A) $$$$ $$x"
