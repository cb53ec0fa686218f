"""OTLP over HTTP, as the specification says: statuses, encodings, limits."""

import asyncio
import contextlib
import gzip
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanyard_core.serve import serving
from spanyard_sidecar.otlp.bodies import Room
from spanyard_sidecar.otlp.receiver import Receiver
from spanyard_sidecar.otlp.server import ServerSettings, otlp_routes
from tests.unit.sidecar.otlp.machine import Machine, expected
from tests.unit.sidecar.otlp.requests import span_request, to_json

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


class Server:
    """A receiver behind real HTTP."""

    def __init__(self, machine: Machine, session: aiohttp.ClientSession, url: str) -> None:
        self.machine = machine
        self.session = session
        self.url = url

    async def post(
        self, path: str, data: Any, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        async with self.session.post(
            self.url + path, data=data, headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            return response.status, dict(response.headers), await response.read()

    async def half_a_request(
        self, length: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that announces `length` bytes, sends three, and then nothing more."""
        port = int(self.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Length: %d\r\n\r\nabc" % length
        )
        await writer.drain()
        return reader, writer


@contextlib.asynccontextmanager
async def serve(
    *,
    settings: ServerSettings | None = None,
    max_decoded: int = 20 << 20,
    limit: int = 1 << 30,
) -> AsyncIterator[Server]:
    async with contextlib.AsyncExitStack() as stack:
        machine = await stack.enter_async_context(Machine(limit=limit).running())
        machine.receiver = Receiver(machine.log, machine.clock, max_decoded=max_decoded)
        app = web.Application()
        app.add_routes(otlp_routes(machine.receiver, settings))
        address = await stack.enter_async_context(
            serving(app, "127.0.0.1", 0, auto_decompress=False)
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Server(machine, session, address.url)


def status_of(body: bytes) -> str:
    return str(Status.FromString(body).message)


async def test_protobuf_is_answered_in_protobuf_and_json_in_json() -> None:
    async with serve() as server:
        status, headers, body = await server.post(
            "/v1/traces", span_request(2).SerializeToString(), PROTOBUF
        )
        assert (status, headers["Content-Type"], body) == (200, "application/x-protobuf", b"")
        status, headers, body = await server.post(
            "/v1/traces", to_json(span_request(2, name="j")), JSON | {"Accept": "*/*"}
        )
        assert (status, headers["Content-Type"], body) == (200, "application/json", b"{}")
        assert server.machine.names() == expected(2) + expected(2, "j")


async def test_a_content_type_may_have_parameters() -> None:
    async with serve() as server:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        status, _, _ = await server.post("/v1/traces", to_json(span_request(1)), headers)
        assert status == 200


@pytest.mark.parametrize("kind", ["protobuf", "json"])
async def test_gzip_is_taken(kind: str) -> None:
    async with serve() as server:
        request = span_request(50)
        body = request.SerializeToString() if kind == "protobuf" else to_json(request)
        headers = (PROTOBUF if kind == "protobuf" else JSON) | {"Content-Encoding": "gzip"}
        status, _, _ = await server.post("/v1/traces", gzip.compress(body), headers)
        assert status == 200
        assert server.machine.names() == expected(50)


async def test_a_gzip_bomb_is_refused() -> None:
    async with serve(max_decoded=1_000_000) as server:
        bomb = gzip.compress(bytes(30_000_000), 9)
        status, _, body = await server.post(
            "/v1/traces", bomb, PROTOBUF | {"Content-Encoding": "gzip"}
        )
        assert status == 413
        assert "1000000 bytes" in status_of(body)
        assert server.machine.receiver.counts.answers == {("traces", 413): 1}


async def test_gzip_that_is_none_is_bad_data() -> None:
    async with serve() as server:
        headers = PROTOBUF | {"Content-Encoding": "gzip"}
        for data in (b"\x1f\x8b\x08nonsense", gzip.compress(b"x" * 5000)[:-20], b"plain"):
            status, _, body = await server.post("/v1/traces", data, headers)
            assert status == 400
            assert status_of(body)


async def test_partial_success_names_the_count_and_the_reason() -> None:
    async with serve() as server:
        request = span_request(3)
        request.resource_spans[0].scope_spans[0].spans[0].span_id = b""
        _, _, body = await server.post("/v1/traces", request.SerializeToString(), PROTOBUF)
        partial = ExportTraceServiceResponse.FromString(body).partial_success
        assert partial.rejected_spans == 1
        assert "valid span id" in partial.error_message
        _, _, body = await server.post("/v1/traces", to_json(request), JSON)
        told = json.loads(body)["partialSuccess"]
        assert told["rejectedSpans"] == "1"
        assert "valid span id" in told["errorMessage"]

        metrics = ExportMetricsServiceRequest()
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add()
        metric.name = "m"
        metric.gauge.data_points.add()
        _, _, body = await server.post("/v1/metrics", metrics.SerializeToString(), PROTOBUF)
        assert ExportMetricsServiceResponse.FromString(body).partial_success.rejected_data_points
        _, _, body = await server.post("/v1/metrics", to_json(metrics), JSON)
        assert json.loads(body)["partialSuccess"]["rejectedDataPoints"] == "1"

        bad = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":5}]}]}]}'
        _, _, body = await server.post("/v1/logs", bad, JSON)
        assert json.loads(body)["partialSuccess"]["rejectedLogRecords"] == "1"


async def test_a_warning_refuses_nothing() -> None:
    async with serve() as server:
        body = (
            b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"\xff"}}]}]}]}'
        )
        _, _, answer = await server.post("/v1/logs", body, JSON)
        partial = json.loads(answer)["partialSuccess"]
        assert "rejectedLogRecords" not in partial
        assert "UTF-8" in partial["errorMessage"]
        assert ExportLogsServiceResponse().partial_success.rejected_log_records == 0


async def test_nonsense_is_400_with_a_status_in_the_encoding_of_the_request() -> None:
    async with serve() as server:
        status, headers, body = await server.post("/v1/traces", b"\xff\xff", PROTOBUF)
        assert (status, headers["Content-Type"]) == (400, "application/x-protobuf")
        assert "export request for traces" in status_of(body)
        status, headers, body = await server.post("/v1/traces", b"{", JSON)
        assert (status, headers["Content-Type"]) == (400, "application/json")
        assert "export request for traces" in json.loads(body)["message"]


async def test_unknown_types_encodings_and_methods_are_refused() -> None:
    async with serve() as server:
        for content_type in ("text/plain", "application/grpc", ""):
            headers = {"Content-Type": content_type} if content_type else {}
            status, _, _ = await server.post("/v1/traces", b"x", headers)
            assert status == 415
        for encoding in ("deflate", "br", "zstd", "gzip, gzip"):
            status, _, body = await server.post(
                "/v1/traces", b"", PROTOBUF | {"Content-Encoding": encoding}
            )
            assert status == 415
            assert encoding in status_of(body)
        async with server.session.get(server.url + "/v1/traces", headers=PROTOBUF) as response:
            assert response.status == 405
            assert response.headers["Allow"] == "POST"
            assert "POST" in status_of(await response.read())
        async with server.session.post(server.url + "/v1/profiles") as response:
            assert response.status == 404


async def test_an_empty_request_is_a_success() -> None:
    async with serve() as server:
        assert (await server.post("/v1/logs", b"", PROTOBUF))[0] == 200
        assert (await server.post("/v1/logs", b"{}", JSON))[0] == 200


async def test_a_body_over_the_limits_is_413() -> None:
    async with serve(settings=ServerSettings(max_packed=5_000), max_decoded=10_000) as server:
        status, _, body = await server.post("/v1/traces", b"x" * 10_001, PROTOBUF)
        assert status == 413
        assert "10001 bytes" in status_of(body)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b"x" * 1000

        status, _, body = await server.post("/v1/traces", chunks(), PROTOBUF)
        assert status == 413
        packed = gzip.compress(random.Random(1).randbytes(6000))
        headers = PROTOBUF | {"Content-Encoding": "gzip"}
        status, _, body = await server.post("/v1/traces", packed, headers)
        assert status == 413
        assert "5000 is most" in status_of(body)


async def test_a_full_spool_is_503_with_a_time_to_wait() -> None:
    async with serve(limit=1000) as server:
        status, headers, body = await server.post(
            "/v1/traces", span_request(5).SerializeToString(), PROTOBUF
        )
        assert status == 503
        assert int(headers["Retry-After"]) >= 1
        assert "full" in status_of(body)
        assert server.machine.log.counts.turned_away == 1


async def test_a_body_that_does_not_arrive_gives_its_room_back() -> None:
    settings = ServerSettings(read_timeout=1.0, room=30_000, wait_for_room=5)
    async with serve(settings=settings, max_decoded=30_000) as server:
        reader, writer = await server.half_a_request(length=30_000)
        assert (await reader.readline()).split()[1] == b"503"
        writer.write(b"x" * (30_000 - 3))  # too late
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        body = span_request(1).SerializeToString()
        async with asyncio.timeout(60):  # where a machine stands still, its second may be over too
            while (answer := await server.post("/v1/traces", body, PROTOBUF))[0] == 503:
                pass
        assert answer[0] == 200


async def test_large_requests_at_once_wait_for_room_and_all_get_through() -> None:
    settings = ServerSettings(room=400_000, wait_for_room=120)
    async with serve(settings=settings, max_decoded=400_000) as server:
        bodies = [
            span_request(1, name=f"r{i}", size=300_000).SerializeToString() for i in range(12)
        ]
        answers = await asyncio.gather(
            *(server.post("/v1/traces", body, PROTOBUF) for body in bodies)
        )
        assert {status for status, _, _ in answers} == {200}
        assert len(server.machine.names()) == 12


async def test_without_room_in_time_the_client_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, take = asyncio.Event(), Room.take

    async def noted(self: Room, size: int, *, timeout: float) -> None:
        await take(self, size, timeout=timeout)
        taken.set()

    monkeypatch.setattr(Room, "take", noted)
    settings = ServerSettings(room=30_000, wait_for_room=0.05)
    async with serve(settings=settings, max_decoded=30_000) as server:
        _, writer = await server.half_a_request(length=25_000)
        await taken.wait()
        status, headers, _ = await server.post("/v1/traces", b"y" * 20_000, PROTOBUF)
        assert status == 503
        assert headers["Retry-After"] == "1"
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_goes_away_in_the_middle_does_no_harm() -> None:
    async with serve() as server:
        _, writer = await server.half_a_request(length=1000)
        writer.close()
        await writer.wait_closed()
        status, _, _ = await server.post(
            "/v1/traces", span_request(1).SerializeToString(), PROTOBUF
        )
        assert status == 200


async def test_something_unexpected_keeps_the_clients_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    async with serve() as server:
        monkeypatch.setattr("spanyard_sidecar.otlp.receiver.decode", broken)
        status, headers, body = await server.post("/v1/traces", b"x", PROTOBUF)
        assert status == 503
        assert "Retry-After" in headers
        assert "secret" not in status_of(body)
