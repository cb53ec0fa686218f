"""OpenTelemetry's own distributions for Python and Node, configured by nothing but the variables that
the operator injects, against a real collector: traces, logs and metrics arrive.

Packages are those of `otel_sdks/`, in locked versions, as an application installs them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.chunks import decode_facts, decoded_blocks
from spanyard_operator.pod.collector import OTLP_PORT, PodOwner, telemetry_env
from tests.fakes.processes import Program, clean_environ, wait_for

pytestmark = [pytest.mark.slow]

HERE = Path(__file__).parent / "otel_sdks"
POD = {"metadata.name": "support-server-1", "metadata.uid": "0f5c-uid"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bin/python`, `bin/node` and both SDKs."""
    folder = tmp_path_factory.mktemp("otel-sdks")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "venv", "-q", "-p", sys.executable, "--allow-existing", str(folder))
    python = str(folder / "bin/python")
    locks = [str(HERE / name) for name in ("requirements.lock", "node.lock")]
    run(uv, "pip", "sync", "-q", "-p", python, "--require-hashes", *locks)
    for name in ("package.json", "package-lock.json", "agent.mjs"):
        shutil.copy(HERE / name, folder)
    run(folder / "bin/npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    return folder


def run(program: Path, *arguments: str, **more: Any) -> str:
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environ = more.pop("env", clean_environ())
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True, timeout=240,
        env={**environ, "PATH": path}, **more,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{program.name} {' '.join(arguments)}: {said[-3000:]}"
    return said


def injected(url: str) -> dict[str, str]:
    """What the kubelet makes of the operator's list; only the collector's port is another one."""
    values: dict[str, str] = {}
    for entry in telemetry_env(PodOwner("team", "support", deployment="support-agent")):
        text = entry.get("value") or POD[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for name, value in values.items():
            text = text.replace(f"$({name})", value)
        values[entry["name"]] = text.replace(f"http://127.0.0.1:{OTLP_PORT}", url)
    assert url in values.values()
    return values


def lines(bucket: Path, signal: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted(bucket.glob(f"observability/{signal}/**/*.zst")):
        data = path.read_bytes()
        _, at = decode_facts(data)
        text = b"".join(decoded_blocks(data[at:]))
        found += [msgspec.json.decode(line) for line in text.splitlines()]
    return found


@pytest.mark.parametrize("language", ["python", "node"])
def test_an_sdk_that_nobody_configured_is_heard(
    language: str, installed: Path, tmp_path: Path
) -> None:
    flags = {"storage": f"file://{tmp_path}/bucket", "project": "team.support",
             "spool": f"{tmp_path}/spool", "otlp-port": "0", "port": "0", "quiet": "100ms",
             "flush-interval": "200ms"}  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    with Program("spanyard_sidecar", words, log=tmp_path / "collector.log") as collector:
        url, _ = collector.addresses(2)
        environ = {**clean_environ(), **injected(url)}
        if language == "python":
            python = str(installed / "bin/python")
            program, arguments = installed / "bin/opentelemetry-instrument", [python, "agent.py"]
            said = run(program, *arguments, env=environ, cwd=HERE)
        else:
            said = run(installed / "bin/node", "agent.mjs", env=environ, cwd=installed)
        assert "error" not in said.lower(), said

        bucket = tmp_path / "bucket"

        def all_there() -> bool:
            return all(lines(bucket, signal) for signal in ("spans", "logs", "metrics"))

        wait_for("spans, logs and metrics", all_there)
    [span] = [line for line in lines(bucket, "spans") if line["name"] == "question"]
    assert span["attributes"]["gen_ai.request.model"] == "m-1"
    [told] = [line for line in lines(bucket, "logs") if "4711" in line["message"]]
    assert (told["message"], told["level"]) == ("order 4711 is late", "warn")
    assert (told["traceId"], told["spanId"]) == (span["traceId"], span["id"])
    [point] = [line for line in lines(bucket, "metrics") if line["name"] == "questions"]
    assert point["value"] == 3
    for line in (span, told, point):
        assert line["project"] == "team.support"
        assert line["service"] == "support-agent"
    assert span["resource"]["k8s.pod.name"] == "support-server-1"
