"""OpenTelemetry's SDKs in pods, installed from their registries and configured by nothing but what the
operator injects: what they send is there, by the gateway.

They run as steps of builds, whose pods get the same variables as servers (that the same SDKs are heard
by a collector is in `tests/contract/test_otel_autoconfigured.py`).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import sources
from tests.cluster.stack import TEAM, Stack, eventually

pytestmark = [pytest.mark.slow]

SDKS = Path(__file__).parents[1] / "contract" / "otel_sdks"
BUILDS: dict[str, dict[str, Any]] = {
    "otel-node": {
        "builder": "test-node",
        "install": "npm ci --no-audit --no-fund --ignore-scripts",
        "build": "mkdir made && node agent.mjs",
    },
    "otel-python": {
        "builder": "test-python",
        "install": "python3 -m pip install -q --target .packages --require-hashes -r requirements.lock",
        "build": "mkdir made && PYTHONPATH=.packages python3 .packages/bin/opentelemetry-instrument python3 agent.py",
    },
}


@pytest.fixture(scope="module")
def sent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Each in a project of its own."""
    folder = tmp_path_factory.mktemp("sdks") / "src"
    shutil.copytree(SDKS, folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    digest = sources.uploaded(stack, folder)
    for name, given in BUILDS.items():
        spec = {**given, "builder": {"image": stack.cluster.image(given["builder"])}}
        stack.cluster.apply(
            sources.project(name),
            sources.build(name, name, {"archive": {"digest": digest}}, output="made", **spec),
        )
    return stack


@pytest.mark.parametrize("name", BUILDS)
def test_traces_logs_and_metrics_arrive(name: str, sent: Stack) -> None:
    def items(path: str, **query: str) -> list[dict[str, Any]]:
        answer = sent.found(f"/projects/{TEAM}.{name}/{path}", **query) or {}
        return list(answer.get("items", []))

    done = sent.wait_for_phase("Build", name, "Failed", "Succeeded", within=600)
    assert done["status"]["phase"] == "Succeeded", json.dumps(done["status"], indent=1)
    [told] = eventually("the log record", lambda: items("logs", text="4711"), sent)
    assert told["message"] == "order 4711 is late"
    # Lines and spans are objects of their own: one may be loaded before the other.
    spans = eventually(
        "the trace", lambda: (sent.found(f"/traces/{told['traceId']}") or {}).get("spans"), sent
    )
    assert [span["name"] for span in spans] == ["question"]
    assert spans[0]["service"] == name
    points = eventually("the metric", lambda: items("metrics", name="questions"), sent)
    assert [point["value"] for point in points] == [3]
