"""Pods of builds, as a real kubelet told them, and what is made of them.

`pods/*.json` were taken from a cluster of Kubernetes 1.34 with containerd, one for each way to end;
what the others need is changed in them.
"""

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.kube import KubeError
from spanyard_core.resources.kinds import Build
from spanyard_operator.classify import Verdict, classify
from spanyard_operator.waits import FOR_EVER, refused

PODS = Path(__file__).parent / "pods"
EARLY, LATE = "2026-11-22T01:00:00Z", "2026-11-22T09:00:00Z"


def build(**spec: Any) -> Build:
    spec = {
        "source": {"git": {"url": "https://git.example.com/r.git"}},
        "install": "npm ci",
        **spec,
    }
    return msgspec.convert(
        {"metadata": {"name": "b", "namespace": "team"}, "spec": {"project": "p", **spec}}, Build
    )


BUILT = {"install": "", "build": "npm run build"}


def taken(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = json.loads((PODS / f"{name}.json").read_text("utf-8"))
    return found["pod"], found["events"]


def verdict(name: str, *, now: str = EARLY, lines: list[str] = [], **spec: Any) -> Verdict:  # noqa: B006 - read only
    pod, events = taken(name)
    return classify(build(**spec), pod, events, now=now, lines=lines)


def status_of(pod: dict[str, Any], container: str) -> dict[str, Any]:
    both = (pod["status"].get(p, []) for p in ("initContainerStatuses", "containerStatuses"))
    return next(s for part in both for s in part if s["name"] == container)


class TestEnds:
    @pytest.mark.parametrize(
        ("pod", "step", "reason", "code", "said"),
        [
            ("exit3", "install", "StepFailed", 3, "install ended with exit code 3"),
            ("oom", "install", "OutOfMemory", 137, "install used more memory than 64Mi"),
            ("notfound", "install", "CommandNotFound", 127, "npm ci was not found"),
            ("segv", "install", "StepKilled", 139, "by SIGSEGV"),
            ("rev", "fetch", "RevisionNotFound", 1, "no branch, tag or commit nope"),
            ("nosource", "fetch", "SourceNotFound", 1, "git.example.com/zzz.git"),
            ("unreach", "fetch", "SourceUnreachable", 1, "git.example.com/r.git did not answer"),
            ("archive", "fetch", "SourceNotFound", 1, "sources/0000"),
        ],
    )
    def test_a_step_that_failed_says_why(
        self, pod: str, step: str, reason: str, code: int, said: str
    ) -> None:
        found = verdict(pod)
        assert found.outcome == "failed"
        assert found.ended
        assert found.failure is not None
        failure = found.failure
        assert (failure.reason, failure.step, failure.exit_code) == (reason, step, code)
        assert said in failure.message
        assert failure.pod == f"{pod}-build-1"
        assert found.steps[-1].name == step
        assert found.steps[-1].exit_code == code

    def test_an_output_that_is_not_there_fails_the_last_step(self) -> None:
        found = verdict("output", **BUILT)
        assert found.failure is not None
        assert (found.failure.reason, found.failure.step) == ("OutputMissing", "publish")
        assert [(s.name, s.exit_code) for s in found.steps] == [
            ("fetch", 0), ("build", 0), ("publish", 1),
        ]  # fmt: skip

    def test_success_has_commit_artifact_and_times(self) -> None:
        found = verdict("ok", build="npm run build")
        assert (found.outcome, found.failure, found.ended) == ("succeeded", None, True)
        assert len(found.source.commit) == 40
        assert found.artifact.key == "builds/team.ok/artifact-1.tar.zst"
        assert found.artifact.digest.startswith("sha256:")
        assert found.artifact.size == 74
        assert [s.name for s in found.steps] == ["fetch", "install", "build", "publish"]
        assert all(s.started_at <= s.finished_at for s in found.steps)

    def test_what_a_commit_says_of_itself_is_cleaned_before_it_gets_into_a_status(self) -> None:
        pod, _ = taken("ok")
        end = status_of(pod, "spanyard-fetch")["state"]["terminated"]
        said = {"commit": "c" * 40, "subject": "\x1b[2Jmends it" + "!" * 300,
                "author": "a\nb <c@localhost>", "committed_at": "yesterday"}  # fmt: skip
        end["message"] = json.dumps(said)
        source = classify(build(build="x"), pod, now=LATE).source
        assert source.subject == f"[2Jmends it{'!' * (200 - 12)}…"
        assert (source.author, source.committed_at) == ("a b", "")
        end["message"] = json.dumps({**said, "committed_at": "2026-09-21T14:13:20Z"})
        source = classify(build(build="x"), pod, now=LATE).source
        assert source.committed_at == "2026-09-21T14:13:20Z"

    def test_while_the_collector_drains_the_log_may_get_more(self) -> None:
        pod, _ = taken("ok")
        pod["status"]["phase"] = "Running"
        status_of(pod, "spanyard-collector")["state"] = {"running": {"startedAt": EARLY}}
        found = classify(build(build="x"), pod, now=LATE)
        assert (found.outcome, found.ended) == ("succeeded", False)

    def test_what_the_collector_could_not_send_is_told(self) -> None:
        pod, _ = taken("ok")
        end = {"exitCode": 3, "message": "3 objects are not stored", "reason": "Error"}
        status_of(pod, "spanyard-collector")["state"] = {"terminated": end}
        assert classify(build(build="x"), pod, now=LATE).unsent == "3 objects are not stored"

    def test_the_last_lines_name_the_command_and_the_full_disk(self) -> None:
        found = verdict("notfound", lines=["hello", "/bin/sh: 1: pnpm: not found"])
        assert found.failure is not None
        assert found.failure.message.startswith("pnpm was not found")
        assert found.failure.last_lines[-1].endswith("not found")
        found = verdict("exit3", lines=["npm error ENOSPC: no space left on device, write"])
        assert found.failure is not None
        assert found.failure.reason == "NoSpace"

    def test_a_program_of_ours_that_says_nothing_is_our_failure(self) -> None:
        pod, _ = taken("rev")
        status_of(pod, "spanyard-fetch")["state"]["terminated"]["message"] = "Traceback: oh"
        failure = classify(build(), pod, now=LATE).failure
        assert failure is not None
        assert failure.reason == "InternalError"
        assert "Traceback: oh" in failure.message

    @pytest.mark.parametrize(
        ("message", "reason", "said"),
        [
            ('failed to create task: exec: "/bin/sh": stat /bin/sh: no such file or directory',
             "CommandNotFound", "/bin/sh was not found"),
            ("container init was OOM-killed (memory limit too low?)", "OutOfMemory", "64Mi"),
            ("mount denied", "PodRefused", "mount denied"),
        ],
    )  # fmt: skip
    def test_a_container_that_could_not_start_says_why(
        self, message: str, reason: str, said: str
    ) -> None:
        pod, _ = taken("oom")
        end = {"exitCode": 128, "reason": "StartError", "message": message,
               "startedAt": "1970-01-01T00:00:00Z", "finishedAt": EARLY}  # fmt: skip
        status_of(pod, "install")["state"] = {"terminated": end}
        found = classify(build(), pod, now=LATE)
        assert found.failure is not None
        assert found.failure.reason == reason
        assert said in found.failure.message
        assert found.steps[-1].started_at == EARLY


def evicted(message: str) -> dict[str, Any]:
    pod, _ = taken("oom")
    pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
    end = status_of(pod, "install")["state"]["terminated"]
    end |= {"reason": "ContainerStatusUnknown", "exitCode": 137}
    return pod


class TestTakenAway:
    def test_a_deleted_pod_is_lost_and_its_step_did_not_fail(self) -> None:
        found = verdict("deleted")
        assert found.outcome == "lost"
        assert found.failure is not None
        assert found.failure.reason == "NodeLost"

    def test_a_pod_deleted_after_its_step_failed_has_failed(self) -> None:
        pod, _ = taken("exit3")
        pod["metadata"] |= {"deletionTimestamp": LATE, "deletionGracePeriodSeconds": 20}
        assert classify(build(), pod, now=LATE).outcome == "failed"

    def test_an_eviction_for_the_nodes_need_is_lost(self) -> None:
        found = classify(build(), evicted("The node was low on resource: memory."), now=LATE)
        assert found.outcome == "lost"
        assert found.failure is not None
        assert found.failure.reason == "Evicted"

    @pytest.mark.parametrize(
        "message",
        [
            "Pod ephemeral local storage usage exceeds the total limit of containers 50Mi. ",
            'Container install exceeded its local ephemeral storage limit "50Mi". ',
            'Usage of EmptyDir volume "spanyard-work" exceeds the limit "1Gi". ',
        ],
    )
    def test_an_eviction_for_its_own_limit_is_a_failure(self, message: str) -> None:
        found = classify(build(), evicted(message), now=LATE)
        assert found.outcome == "failed"
        assert found.failure is not None
        assert found.failure.reason == "NoSpace"

    @pytest.mark.parametrize(
        ("reason", "means"),
        [("EvictionByEvictionAPI", "Evicted"), ("PreemptionByScheduler", "Evicted"),
         ("DeletionByTaintManager", "NodeLost"), ("DeletionByPodGC", "NodeLost")],
    )  # fmt: skip
    def test_a_disruption_is_lost(self, reason: str, means: str) -> None:
        pod, _ = taken("oom")
        end = status_of(pod, "install")["state"]["terminated"]
        end |= {"reason": "Error", "exitCode": 143}
        pod["status"]["conditions"].append(
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "told",
             "lastTransitionTime": "2026-11-22T00:00:00Z"}
        )  # fmt: skip
        found = classify(build(), pod, now=LATE)
        assert found.outcome == "lost"
        assert found.failure is not None
        assert found.failure.reason == means

    def test_a_node_that_shuts_down_or_forgets_a_container_loses_the_attempt(self) -> None:
        pod, _ = taken("segv")
        pod["status"] |= {"phase": "Failed", "reason": "Terminated",
                          "message": "Pod was terminated in response to imminent node shutdown."}  # fmt: skip
        assert classify(build(), pod, now=LATE).outcome == "lost"
        pod, _ = taken("segv")
        status_of(pod, "install")["state"]["terminated"]["reason"] = "ContainerStatusUnknown"
        assert classify(build(), pod, now=LATE).outcome == "lost"

    def test_a_pod_that_the_kubelet_did_not_admit_is_lost(self) -> None:
        pod, _ = taken("unsched")
        pod["status"] = {"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected"}
        found = classify(build(), pod, now=LATE)
        assert (found.outcome, found.ended) == ("lost", True)

    @pytest.mark.parametrize("name", ["imgpull", "segv"])
    def test_a_pod_that_was_ended_for_its_time_is_not_lost(self, name: str) -> None:
        pod, _ = taken(name)
        pod["status"] |= {"phase": "Failed", "reason": "DeadlineExceeded"}
        status_of(pod, "spanyard-collector")["state"] = {"terminated": {"exitCode": 0}}
        found = classify(build(), pod, now=LATE)
        assert (found.outcome, found.ended, found.unsent) == ("failed", True, "")
        assert found.failure is not None
        assert found.failure.reason == "Timeout"

    def test_a_pod_that_is_gone_is_lost(self) -> None:
        found = classify(build(), None, now=LATE)
        assert (found.outcome, found.ended) == ("lost", True)


class TestWaits:
    @pytest.mark.parametrize(
        ("pod", "step", "reason", "said"),
        [
            ("secretenv", "install", "SecretMissing", "in the Secret nosuch"),
            ("secretkey", "install", "SecretMissing", "nokey in the Secret has"),
            ("cmkey", "install", "SecretMissing", "nokey in the ConfigMap kube-root-ca.crt"),
            ("gitsecret", "fetch", "SecretMissing", "spec.source.git.secretRef: "),
            ("imgpull", "install", "ImagePullFailed", "localhost/spanyard/none:1"),
            ("unsched", "fetch", "Unschedulable", "didn't match Pod's node affinity"),
        ],
    )
    def test_what_keeps_a_step_from_starting_is_told(
        self, pod: str, step: str, reason: str, said: str
    ) -> None:
        found = verdict(pod)
        assert (found.outcome, found.step) == ("waiting", step)
        assert found.failure is not None
        assert found.failure.reason == reason
        assert said in found.failure.message
        assert not found.ended

    @pytest.mark.parametrize("pod", ["secretenv", "secretkey", "cmkey", "gitsecret", "imgpull"])
    def test_after_a_while_it_has_failed(self, pod: str) -> None:
        assert verdict(pod).look_again is not None
        assert verdict(pod, now=LATE).outcome == "failed"

    def test_room_on_a_node_is_waited_for_until_the_build_is_out_of_time(self) -> None:
        found = verdict("unsched", now=LATE)
        assert (found.outcome, found.look_again) == ("waiting", None)

    def test_an_image_name_that_is_none_fails_at_once(self) -> None:
        pod, events = taken("imgname")
        started = status_of(pod, "spanyard-fetch")["state"]["terminated"]["finishedAt"]
        found = classify(build(), pod, events, now=started)
        assert found.outcome == "failed"
        assert found.failure is not None
        assert found.failure.reason == "ImagePullFailed"

    def test_the_kubelets_two_words_for_a_pull_make_one_text(self) -> None:
        pod, _ = taken("imgpull")
        waiting = status_of(pod, "install")["state"]["waiting"]
        assert waiting["reason"] == "ImagePullBackOff"
        first = classify(build(), pod, now=EARLY).failure
        waiting["reason"] = "ErrImagePull"
        waiting["message"] = waiting["message"].partition("ErrImagePull: ")[2]
        assert classify(build(), pod, now=EARLY).failure == first

    def test_a_collector_that_does_not_start_is_told_as_such(self) -> None:
        pod, _ = taken("imgpull")
        for name in ("spanyard-fetch", "install"):
            status_of(pod, name)["state"] = {"waiting": {"reason": "PodInitializing"}}
        collector = status_of(pod, "spanyard-collector")
        collector["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
        collector["lastState"] = {"terminated": {"exitCode": 2, "message": "project: is required"}}
        found = classify(build(), pod, now=EARLY)
        assert (found.outcome, found.step) == ("waiting", "fetch")
        assert found.failure is not None
        assert "exit code 2: project: is required" in found.failure.message

    def test_a_step_that_runs_is_not_waited_for(self) -> None:
        pod, _ = taken("imgpull")
        status_of(pod, "install")["state"] = {"running": {"startedAt": EARLY}}
        found = classify(build(), pod, now=LATE)
        assert (found.outcome, found.step, found.failure) == ("running", "install", None)
        assert (found.steps[-1].name, found.steps[-1].started_at) == ("install", EARLY)
        pod["status"]["phase"] = "Pending"
        del pod["status"]["initContainerStatuses"]
        assert classify(build(), pod, now=LATE).outcome == "running"


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "said", "reason", "patience"),
        [
            (403, 'pods "b" is forbidden: violates PodSecurity "restricted:latest": …',
             "PodRefused", 30.0),
            (403, 'pods "b" is forbidden: exceeded quota: q, requested: pods=1', "PodRefused",
             FOR_EVER),
            (422, 'Pod "b" is invalid: spec.tolerations[0].operator: …', "InvalidSpec", 0.0),
        ],
    )  # fmt: skip
    def test_a_pod_that_the_api_server_refuses(
        self, status: int, said: str, reason: str, patience: float
    ) -> None:
        wait = refused(KubeError(said, status=status, reason="x"), "b-build-1")
        assert (wait.failure.reason, wait.patience) == (reason, patience)
        assert said in wait.failure.message


def test_no_verdict_depends_on_what_a_status_lacks() -> None:
    """Fields come one by one; whatever is missing, there is a verdict."""
    for path in sorted(PODS.glob("*.json")):
        pod, events = taken(path.stem)
        for part in list(pod["status"]):
            less = copy.deepcopy(pod)
            del less["status"][part]
            assert classify(build(), less, events, now=LATE).outcome
        assert classify(build(), {**pod, "status": {}}, events, now=LATE).outcome
