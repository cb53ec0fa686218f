"""Applications that write nonsense: the collector takes it all, and the chain stays whole.

What stdout says is a log line whatever its bytes. What a span file says wrongly is in quarantine,
with its text. What OTLP gets wrongly is answered, never with a failure of ours.
"""

import fcntl
import gzip
import http.client
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.fakes.chain import Collector, Place, Pod, Server, assert_once, send_otlp
from tests.fakes.processes import wait_for
from tests.limits.spooling import LIMIT_BYTES
from tests.unit.sidecar.otlp.requests import REQUESTS, span_request

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place((tmp_path_factory.mktemp("bucket") / "bucket").as_uri())


@pytest.fixture(scope="module")
def server(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), place) as running:
        yield running


def quarantine(server: Server, pod: Pod) -> list[dict[str, Any]]:
    return list(server.items(f"/quarantine?project={pod.project}"))


# -- stdout -----------------------------------------------------------------------------------------

FRAGMENTS: list[bytes | str] = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\r",
        b"\x1b[31m",
        b"\x7f",
    ),
    *("\u2028", "\ufeff", "é", "😀", "\u0301", "\ud7ff"),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\x", b":", b",", b" ", b"\t"),
    *(b"1e999", b"-0", b"NaN", b"Infinity", b"null", b"true", b"18446744073709551616", b"0.1e-400"),
    *(b'"msg":', b'"message":null', b'"level":', b'"level":"ERROR"', b'"level":70', b'"trace_id":'),
    *(b'"severity":{}', b"level=warn", b"ERROR", b"trace_id=", b"0" * 32, b"f" * 16, b"{}" * 50),
    *(b"2026-11-21T14:45:00Z stdout F ", b"stderr P x", b"[" * 600, b'{"a":' * 600, b"x" * 20_000),
]


def nasty_line(rng: random.Random) -> bytes:
    parts = rng.choices(FRAGMENTS, k=rng.randint(0, 12))
    text = b"".join(
        part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts
    )
    if rng.random() < 0.4:  # JSON that is almost right
        text = b'{"msg":"m","x":' + text + b"}"
    return text.replace(b"\n", b"")


def test_whatever_stdout_says_is_a_log_line_and_nothing_goes_to_quarantine(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = Pod(tmp_path / "pod", project="team.noise")
    rng = random.Random(11)
    known = [
        b"",
        b"   ",
        b"\x00\x00",
        b"plain \x00 with NUL",
        b"bad \xff\xfe bytes",
        b'{"msg":"deep","a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"msg":"big","n":123456789012345678901234567890}',
        b'{"msg":"twice","a":1,"a":2}',
        b'{"msg":"infinite","a":1e999}',
        b'{"msg":"lone \\ud800 surrogate"}',
        b'{"msg":"year","time":"9999-99-99","level":99999999999999999999}',
        b'{"a.b":1,"a":{"b":2},"msg":"dotted"}',
    ]
    lines = known + [nasty_line(rng) for _ in range(3_000)]
    log = pod.container()
    log.write("stdout", b"\n".join(lines) + b"\n")
    log.close()
    with log.path.open("ab") as file:  # what no runtime writes
        file.write(b"no time at all\n\n \n\xff\xff\xff\n2026-13-45T99:99:99Z stdout F bad time\n")
        file.write(
            b"2026-11-21T14:45:00Z nowhere F a stream\n2026-11-21T14:45:00Z stdout Q a tag\n"
        )
        file.write(b"2026-11-21T14:45:00Z stdout F:later tags\n")
    count = len(lines) + 8
    with pod.collector(place, gateway=server.url, index_wait="0s") as collector:
        collector.wait_records(count)
        assert collector.memory("VmHWM") <= LIMIT_BYTES
        collector.end()
    proof = server.wait_complete(pod.project)
    assert not quarantine(server, pod)
    assert proof["totals"]["stored"] == proof["totals"]["expected"] == count
    messages = [item["message"] for item in server.items(f"/projects/{pod.project}/logs?order=asc")]
    assert len(messages) == count
    for text in ("plain \x00 with NUL", "bad \ufffd\ufffd bytes", "no time at all", "big"):
        assert text in messages
    assert messages.count("") >= 1, "blank lines are records"


# -- span files -------------------------------------------------------------------------------------


def log_event(text: str, **more: object) -> dict[str, object]:
    event = {"type": "log", "timestamp": "2026-11-21T14:45:00Z", "level": "info", "message": text}
    return {**event, **more}


BAD_EVENTS: list[bytes] = [
    b"",
    b" ",
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"{broken",
    b'{"type":"log"}',
    b"\x00\x00\x00",
    b'{"type":"log","message":"\xff\xfe"}',
    json.dumps(log_event("no time", timestamp="yesterday")).encode(),
    json.dumps(log_event("year", timestamp="9999-12-31T23:59:59Z")).encode(),
    json.dumps(log_event("wrong type", traceId=7)).encode(),
    json.dumps(log_event("a level", level="loud")).encode(),
    json.dumps(log_event("attributes", attributes=[])).encode(),
    json.dumps({"type": "span", "id": "1"}).encode(),
    json.dumps({**log_event("of another signal"), "type": "score"}).encode(),
    json.dumps(log_event("no such type", type="gossip")).encode(),
    json.dumps(log_event("two on a line")).encode() * 2,
    json.dumps(log_event("infinite")).encode()[:-1] + b',"attributes":{"a":1e999}}',
    json.dumps(log_event("deep")).encode()[:-1]
    + b',"attributes":'
    + b'{"a":' * 3_000
    + b"1"
    + b"}" * 3_001,
    json.dumps(log_event("long" + "x" * 2_000_000)).encode(),
]


def test_what_a_span_file_says_wrongly_is_in_quarantine_and_the_rest_is_stored(
    tmp_path: Path, place: Place, server: Server
) -> None:
    pod = Pod(tmp_path / "pod", project="team.wrong")
    (pod.spans / "logs").mkdir()
    (pod.spans / "gossip").mkdir()
    path = pod.spans / "logs" / f"{time.time_ns()}-abcdefgh12.jsonl"
    foreign = pod.spans / "logs" / "notes.txt"
    foreign.write_text("not ours")
    good = [f"good {n}" for n in range(len(BAD_EVENTS))]
    with pod.collector(place, gateway=server.url) as collector:
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
        fcntl.flock(file, fcntl.LOCK_EX)
        for text, bad in zip(good, BAD_EVENTS, strict=True):
            claims = {"projectId": "other.project", "writer": "w", "seq": 99, "pod": "not mine"}
            data = json.dumps(log_event(text, **claims)).encode() + b"\n" + bad + b"\n"
            while data:
                data = data[os.write(file, data) :]
        os.write(file, b'{"type":"log","cut')
        os.close(file)
        wait_for("the file is deleted", lambda: not path.exists())
        assert collector.memory("VmHWM") <= LIMIT_BYTES
        collector.end()
    assert foreign.read_text() == "not ours"
    proof = server.wait_loaded(pod.project)
    items = list(server.items(f"/projects/{pod.project}/logs"))
    assert_once([item["message"] for item in items], good, "log records")
    assert {item["pod"] for item in items} == {pod.name}
    told = quarantine(server, pod)
    assert all(item["reason"].startswith("not an event: ") for item in told)
    totals = proof["totals"]
    assert totals["stored"] == len(good)
    assert totals["quarantined"] == len(told)
    assert totals["expected"] == totals["stored"] + totals["quarantined"]
    # Two on a line are one bad line, a line over the limit may be several; none is lost.
    assert len(told) >= len(BAD_EVENTS) + 1
    texts = "\n".join(item["text"] for item in told)
    for sign in ("{broken", "yesterday", "wrong type", "loud", "gossip", "two on a line", "cut"):
        assert sign in texts, sign
    assert not server.proof("other.project")["writers"]


# -- OTLP -------------------------------------------------------------------------------------------

PROTOBUF, JSON = "application/x-protobuf", "application/json"
SIGNALS = ("traces", "logs", "metrics")


@pytest.fixture(scope="module")
def fuzzed(
    place: Place, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pod, Collector]]:
    pod = Pod(tmp_path_factory.mktemp("pod"), project="team.fuzz")
    with pod.collector(place, gateway=server.url) as collector:
        yield pod, collector


class Client:
    """One kept connection, made again when the server closes it."""

    def __init__(self, url: str) -> None:
        self._host = url.removeprefix("http://")
        self._connection: http.client.HTTPConnection | None = None

    def send(self, signal: str, body: bytes, headers: dict[str, str]) -> int:
        for again in (True, False):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, timeout=30)
            try:
                self._connection.request("POST", f"/v1/{signal}", body, headers)
                answer = self._connection.getresponse()
                answer.read()
                return answer.status
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if not again:
                    raise
        raise AssertionError

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def valid_bodies() -> dict[str, list[bytes]]:
    """Requests of each signal, to be spoiled."""
    made: dict[str, list[bytes]] = {PROTOBUF: [], JSON: []}
    made[PROTOBUF].append(span_request(3, name="fuzz").SerializeToString())
    logs = REQUESTS["logs"]()
    record = logs.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = "text"
    record.time_unix_nano = 1
    made[PROTOBUF].append(logs.SerializeToString())
    metrics = REQUESTS["metrics"]()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "m"
    point = metric.histogram.data_points.add()
    point.bucket_counts.extend([1, 2])
    point.explicit_bounds.append(1.0)
    point.count, point.sum, point.time_unix_nano = 3, 1.5, 1
    made[PROTOBUF].append(metrics.SerializeToString())
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "1",
        "name": "s",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": 2,
    }
    made[JSON].append(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode())
    line = {
        "timeUnixNano": "1",
        "body": {"stringValue": "t"},
        "attributes": [{"key": "k", "value": {"intValue": "1"}}],
    }
    made[JSON].append(
        json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [line]}]}]}).encode()
    )
    gauge = {"name": "g", "gauge": {"dataPoints": [{"asDouble": 1, "timeUnixNano": "1"}]}}
    made[JSON].append(
        json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge]}]}]}).encode()
    )
    return made


VALID = valid_bodies()


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes, dict[str, str]]:
    """A request: valid, spoiled, or noise; packed, badly packed, or not."""
    kind = draw(st.sampled_from([PROTOBUF, JSON]))
    body = draw(
        st.one_of(
            st.binary(max_size=300),
            st.sampled_from(VALID[kind]),
            st.sampled_from(VALID[kind]).flatmap(spoiled),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
                ),
                max_leaves=20,
            ).map(lambda value: json.dumps(value).encode()),
        )
    )
    headers = {"Content-Type": draw(st.sampled_from([kind, kind, kind, "text/plain", ""]))}
    packing = draw(st.sampled_from(["", "", "gzip", "cut gzip", "no gzip", "br"]))
    if packing:
        headers["Content-Encoding"] = "br" if packing == "br" else "gzip"
    if packing == "gzip":
        body = gzip.compress(body)
    elif packing == "cut gzip":
        body = gzip.compress(body)[: draw(st.integers(0, 25))]
    return draw(st.sampled_from(SIGNALS)), body, headers


NAMES = [
    *(
        "resourceSpans",
        "resourceLogs",
        "resourceMetrics",
        "scopeSpans",
        "scopeLogs",
        "scopeMetrics",
    ),
    *("spans", "logRecords", "metrics", "resource", "scope", "attributes", "key", "value", "body"),
    *(
        "stringValue",
        "intValue",
        "arrayValue",
        "kvlistValue",
        "values",
        "traceId",
        "spanId",
        "name",
    ),
    *("timeUnixNano", "startTimeUnixNano", "gauge", "sum", "histogram", "dataPoints", "asInt"),
]


def spoiled(body: bytes) -> st.SearchStrategy[bytes]:
    """`body` with some bytes changed, cut off, or repeated."""

    def spoil(edits: list[tuple[int, int, int]]) -> bytes:
        data = bytearray(body)
        for way, at, value in edits:
            place = at % (len(data) + 1)
            if way == 0 and place < len(data):
                data[place] = value
            elif way == 1:
                del data[place:]
            else:
                data[place:place] = data[place : place + value]
        return bytes(data)

    edit = st.tuples(st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 255))
    return st.lists(edit, min_size=1, max_size=4).map(spoil)


def test_no_otlp_request_makes_a_failure_of_ours(fuzzed: tuple[Pod, Collector]) -> None:
    _, collector = fuzzed
    client = Client(collector.otlp)
    seen: dict[int, int] = {}

    @settings(
        max_examples=500,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    @example(("traces", b"", {"Content-Type": PROTOBUF}))
    @example(
        (
            "traces",
            gzip.compress(bytes(100 << 20)),
            {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"},
        )
    )
    @example(("logs", b"[" * 100_000, {"Content-Type": JSON}))
    @example(("metrics", b'{"a":' * 50_000, {"Content-Type": JSON}))
    def check(request: tuple[str, bytes, dict[str, str]]) -> None:
        status = client.send(*request)
        seen[status] = seen.get(status, 0) + 1
        assert status < 500 or status == 503, status

    try:
        check()
    finally:
        client.close()
    collector.check_alive()
    assert seen[200] > 30, seen
    assert seen[400] > 30, seen
    assert {413, 415} <= set(seen), seen
    assert collector.memory("VmHWM") <= LIMIT_BYTES + 64 * 2**20, "a request may unpack to 64 MiB"


def test_what_was_accepted_of_the_noise_is_stored(
    fuzzed: tuple[Pod, Collector], server: Server
) -> None:
    pod, collector = fuzzed
    body = span_request(5, name="after the noise").SerializeToString()
    assert send_otlp(collector.otlp, "traces", body)[0] == 200
    collector.end()
    server.wait_complete(pod.project)
    assert not quarantine(server, pod), "the receiver accepts what ClickHouse refuses"
    names = [item["name"] for item in server.items(f"/projects/{pod.project}/spans")]
    assert {f"after the noise {i}" for i in range(5)} <= set(names)
