"""A workload that Spanyard did not deploy, observed by an annotation: the webhook as it is installed."""

from typing import Any

import pytest

from tests.cluster.stack import TEAM, Stack, eventually

pytestmark = pytest.mark.slow

TALK = "import time; [print('foreign', n, flush=True) or time.sleep(0.2) for n in range(100_000)]"


def workload(stack: Stack) -> dict[str, Any]:
    labels = {"app": "foreign"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "foreign", "namespace": TEAM},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "spanyard.dev/collect": "true",
                        "spanyard.dev/project": "foreign",
                    },
                },
                "spec": {
                    "containers": [
                        {
                            "name": "app",
                            "image": stack.cluster.image("test-python"),
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["python3", "-c", TALK],
                        }
                    ],
                    "terminationGracePeriodSeconds": 15,
                },
            },
        },
    }


def pods(stack: Stack) -> list[Any]:
    found = stack.pods("app=foreign")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def without_collector(stack: Stack) -> list[Any]:
    return [pod for pod in pods(stack) if not pod["spec"].get("initContainers")]


def test_a_deployment_of_apps_with_the_annotation_is_read_like_one_of_ours(stack: Stack) -> None:
    stack.cluster.apply(
        {
            "apiVersion": "spanyard.dev/v1alpha1",
            "kind": "Project",
            "metadata": {"name": "foreign", "namespace": TEAM},
            "spec": {},
        },
        workload(stack),
    )
    try:

        def lines() -> Any:
            # A webhook whose operator does not answer in time costs a pod its collector: another one.
            for pod in without_collector(stack):
                name = pod["metadata"]["name"]
                stack.cluster.kubectl("delete", "pod", name, "-n", TEAM, "--wait=false")
            answer = stack.found(f"/projects/{TEAM}.foreign/logs", text="foreign")
            return (answer or {}).get("items")

        found = eventually("its lines in the gateway", lines, stack, within=180)
        assert {line["container"] for line in found} == {"app"}
        (pod,) = pods(stack)
        assert pod["spec"]["initContainers"][0]["name"] == "spanyard-collector"
    finally:
        stack.cluster.kubectl("delete", "deployment.apps", "foreign", "-n", TEAM, "--wait=false")
        stack.cluster.kubectl("delete", "sproj", "foreign", "-n", TEAM, "--wait=false")
