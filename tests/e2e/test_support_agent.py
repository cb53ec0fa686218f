"""The example does what its README says, and its counts are exact."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.unit.sdk.conftest import SpansDir

EXAMPLE = Path(__file__).parents[2] / "examples" / "support-agent"
QUESTIONS = 20


class Run:
    """One run of the server and its client."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.spans = SpansDir(folder / "spans")
        self.environment = {
            **os.environ,
            "SPANYARD_SPANS_DIR": str(folder / "spans"),
            "SUPPORT_AGENT_PACE": "0",
            "SUPPORT_AGENT_EMITTED": str(folder / "emitted"),
            "PORT": "0",
            **variables,
        }

    def client(self, url: str, *flags: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "support_agent.client", "--url", url, *flags],
            cwd=EXAMPLE,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout.splitlines()

    def go(self, *flags: str) -> tuple[list[str], dict[str, Any]]:
        """What the client printed, and the counts that the server wrote at its end."""
        out, err = self.folder / "stdout", self.folder / "stderr"
        with (
            out.open("wb") as stdout,
            err.open("wb") as stderr,
            subprocess.Popen(
                [sys.executable, "-m", "support_agent"],
                cwd=EXAMPLE,
                env=self.environment,
                stdout=stdout,
                stderr=stderr,
            ) as process,
        ):
            try:
                printed = self.client(self._url(out, process), *flags)
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(timeout=60)
        assert code == 0, err.read_text()
        self.stdout, self.stderr = out.read_bytes(), err.read_bytes()
        return printed, json.loads((self.folder / "emitted").read_text())

    def _url(self, out: Path, process: "subprocess.Popen[bytes]") -> str:
        for _ in range(6000):
            line, end, _ = out.read_text().partition("\n")
            if end:
                return f"http://127.0.0.1:{line.rsplit(' ', 1)[1]}"
            assert process.poll() is None, "the server ended before it listened"
            threading.Event().wait(0.01)
        raise TimeoutError


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str], dict[str, Any]]:
    run = Run(tmp_path_factory.mktemp("agent"))
    printed, emitted = run.go(
        f"--questions={QUESTIONS}", "--burst=2500", "--long-line=1500000", "--concurrency=4"
    )
    return run, printed, emitted


Finished = tuple[Run, list[str], dict[str, Any]]


def test_every_line_that_was_printed_was_counted(finished: Finished) -> None:
    run, _, emitted = finished
    assert emitted["lines"] == {
        "stdout": run.stdout.count(b"\n"),
        "stderr": run.stderr.count(b"\n"),
    }
    assert run.stdout.endswith(b"\n")
    assert emitted["lines"]["stdout"] > 2500 + QUESTIONS * 3
    assert b"Traceback" in run.stderr


def test_every_record_in_span_files_was_counted_and_keeps_its_schema(finished: Finished) -> None:
    run, _, emitted = finished
    signals = ("traces", "spans", "logs", "metrics", "scores")
    found = {signal: len(run.spans.lines(signal)) for signal in signals}  # type: ignore[arg-type]
    assert emitted["spanFiles"] == {"enabled": True, **found}
    assert emitted["dropped"] == {}
    assert found["traces"] == 2 * QUESTIONS
    assert found["scores"] == 2 * QUESTIONS


def test_lines_are_plain_and_json_long_and_longer_than_a_mebibyte(finished: Finished) -> None:
    lines = finished[0].stdout.splitlines()
    kinds = Counter("json" if line.startswith(b"{") else "plain" for line in lines)
    assert min(kinds.values()) > 800
    assert all(json.loads(line)["msg"] for line in lines if line.startswith(b"{"))
    lengths = sorted(map(len, lines))[-3:]
    assert lengths[0] > 16 * 1024
    assert lengths[-1] > 1 << 20


def test_spans_nest_and_say_what_models_and_tools_did(finished: Finished) -> None:
    spans = {span["id"]: span for span in finished[0].spans.ended()}
    operations = Counter(
        span.get("attributes", {}).get("gen_ai.operation.name") for span in spans.values()
    )
    assert operations["invoke_agent"] == QUESTIONS
    assert operations["chat"] == 2 * QUESTIONS
    assert operations["execute_tool"] > QUESTIONS
    for span in spans.values():
        parent = spans.get(span.get("parentSpanId", ""))
        if span["name"].startswith("invoke_agent"):
            assert parent is None
            assert span["attributes"]["gen_ai.conversation.id"]
        else:
            assert parent is not None
            assert parent["traceId"] == span["traceId"]
        if span["name"].startswith("chat"):
            attributes = span["attributes"]
            assert attributes["gen_ai.usage.input_tokens"] > 0
            assert 0 < attributes["gen_ai.usage.cost"] < 0.01
            assert json.loads(attributes["gen_ai.input.messages"])[0]["role"] == "user"
    failed = [s for s in spans.values() if s.get("status") == "error"]
    assert {s["name"] for s in failed} == {"execute_tool refund"}
    retried = [s for s in spans.values() if any(e["name"] == "retry" for e in s.get("events", []))]
    assert len(retried) > len(failed) > 0


def test_the_same_seed_gives_the_same_answers(finished: Finished, tmp_path: Path) -> None:
    def answers(printed: list[str]) -> list[str]:
        return [line.split("  ", 1)[1] for line in printed[:QUESTIONS]]

    printed, emitted = Run(tmp_path, SPANYARD_SPANS_DIR="").go(f"--questions={QUESTIONS}")
    assert answers(printed) == answers(finished[1])
    assert emitted["spanFiles"] == {"enabled": False}


# -- OpenTelemetry ---------------------------------------------------------------------------------


@contextmanager
def otlp_server() -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Takes OTLP over HTTP and keeps it."""
    kinds: dict[str, Any] = {
        "/v1/traces": ExportTraceServiceRequest,
        "/v1/logs": ExportLogsServiceRequest,
        "/v1/metrics": ExportMetricsServiceRequest,
    }
    got: dict[str, list[Any]] = {path: [] for path in kinds}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got[self.path].append(kinds[self.path].FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def test_the_order_service_sends_otlp_in_the_agents_traces(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with otlp_server() as (url, got):
        run.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        run.environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
        _, emitted = run.go(f"--questions={QUESTIONS}")
    spans = [
        span
        for request in got["/v1/traces"]
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    logs = [
        record
        for request in got["/v1/logs"]
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    points = [
        point
        for request in got["/v1/metrics"]
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in [*metric.histogram.data_points, *metric.sum.data_points]
    ]
    assert emitted["otlp"] == {"spans": len(spans), "logs": len(logs), "metrics": len(points)}
    assert len(spans) == len(logs) > 5
    assert points
    tools = {s["id"]: s for s in run.spans.ended() if s["name"] == "execute_tool lookup_order"}
    for span in spans:
        tool = tools[span.parent_span_id.hex()]
        assert tool["traceId"] == span.trace_id.hex()
    assert {s.status.code for s in spans} == {0, 2}


def test_it_ends_also_when_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    """Its terminal, or the process that read its output, is gone: its counts are written still."""
    run = Run(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "support_agent"],
        cwd=EXAMPLE, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            assert b"listens on port" in process.stdout.readline()
            process.stdout.close()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        finally:
            process.kill()
    assert json.loads((tmp_path / "emitted").read_text())["lines"]["stdout"] == 1


def test_it_says_what_is_wrong_and_ends(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for variables, told in (
            ({"PORT": port}, f"cannot listen on 127.0.0.1:{port}"),
            ({"PORT": "many"}, "PORT is 'many', not a number"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "support_agent"],
                cwd=EXAMPLE, env=Run(tmp_path, **variables).environment, check=False,
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
            assert told in done.stderr
