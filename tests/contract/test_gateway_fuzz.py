"""Any request that can be made: never an error of ours, every answer as the document has it."""

import asyncio
import functools
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from yarl import URL

from spanyard_gateway.openapi import openapi_document
from spanyard_gateway.routes import all_endpoints
from tests.fakes.gateway_api import Api, filled, running_gateway
from tests.fakes.odd_records import MULTI, ODD, OPEN, PROJECT, TOLD, at, odd_lines
from tests.fakes.resource_api import MemoryResources, manifests

DOCUMENT = openapi_document(all_endpoints())
OPERATIONS = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]

EMPTY = hashlib.sha256(b"").hexdigest()

odd_text = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "0", "-1", "null", "true", "'", '"', "\\", "%", "\0", "\n", "{}", "💥", "a" * 999, "NaN", "1e999", "../..", "local.odd", "0x1", "٣"]),
)  # fmt: skip
GOOD: dict[str, st.SearchStrategy[str]] = {
    "limit": st.integers(1, 1000).map(str),
    "from": st.sampled_from(["15m", "100000d", at(0), "1970-01-01T00:00:00+00:00"]),
    "to": st.sampled_from(["0s", at(10**9), "2262-01-01T00:00:00-10:00"]),
    "level": st.sampled_from(["info", "warn,error"]),
    "status": st.sampled_from(["ok", "error,unset"]),
    "traceId": st.sampled_from([MULTI, TOLD, OPEN, "f" * 32, "Order/17 ü%"]),
    "spanId": st.sampled_from([f"{1:016x}", "00000000000000e2", "Step 1"]),
    "ids": st.sampled_from([f"{1:016x}", f"{2:016X},Step 1,{1:016x}"]),
    "minDuration": st.sampled_from(["0s", "1ns", "10ms"]),
    "maxDuration": st.sampled_from(["5s", "292d"]),
    "minValue": st.floats(allow_nan=False, allow_infinity=False).map(str),
    "maxValue": st.floats(allow_nan=False, allow_infinity=False).map(str),
    "text": st.sampled_from(["done", "o", "ß", ".*"]),
    "name": st.sampled_from(["first", "done", "m"]),
    "project": st.just(PROJECT),
    "parentSpanId": st.just(f"{1:016x}"),
    "service": odd_text.filter(bool),
    "deployment": odd_text.filter(bool),
    "build": odd_text.filter(bool),
    "pod": odd_text.filter(bool),
    "container": odd_text.filter(bool),
    "revision": odd_text.filter(bool),
    "buckets": st.integers(1, 500).map(str),
}
BODIES = [
    '{"text": "{}"}', '{"x": 1}', '{"cancel": true}', '{"follow": false}', '{"spec": null}',
    *(json.dumps(m) for m in manifests()), json.dumps({"manifests": manifests()}),
    json.dumps({"manifests": [{"kind": "Build", "metadata": 1}, {}]}),
    *(json.dumps({"query": q}) for q in ("SELECT 1", "SELECT count() FROM logs", "DROP TABLE logs")),
]  # fmt: skip
attribute = st.tuples(
    st.one_of(st.sampled_from(sorted(ODD)), odd_text),
    st.one_of(st.sampled_from([str(v) for v in ODD.values()]), odd_text),
)


def value_of(parameter: dict[str, Any]) -> st.SearchStrategy[str]:
    schema = parameter["schema"]
    good = GOOD.get(parameter["name"])
    if "enum" in schema:
        good = st.sampled_from(schema["enum"])
    return st.integers(0, 7).flatmap(lambda n: good if good is not None and n else odd_text)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, Any], Any]:
    method, path, operation = draw(st.sampled_from(OPERATIONS))
    query: list[tuple[str, str]] = []
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        if parameter["in"] == "path":
            known = [MULTI, OPEN, f"{1:016x}", "q1", "local.b", "local.support", EMPTY]
            known = [PROJECT, "local.support"] if "project" in path else known
            text = draw(st.sampled_from(known) if draw(st.integers(0, 5)) else odd_text)
            path = path.replace(f"{{{name}}}", quote(text or "-", safe=""))
        elif name == "attributes":
            query += [(f"attr.{k}", v) for k, v in draw(st.lists(attribute, max_size=2))]
        elif draw(st.integers(0, 3)) == 0:
            query.append((name, draw(value_of(parameter))))
    if draw(st.integers(0, 19)) == 0:
        query.append((draw(odd_text), draw(odd_text)))
    body = None
    if "requestBody" in operation:
        body = draw(st.one_of(st.none(), odd_text, st.sampled_from(BODIES)))
    url = path + ("?" + urlencode(query, errors="surrogatepass") if query else "")
    return method, url, operation, body


@functools.cache
def validator(operation_id: str, status: int) -> Draft202012Validator:
    operation = next(o for _, _, o in OPERATIONS if o["operationId"] == operation_id)
    content = next(iter(operation["responses"][str(status)]["content"].values()))
    return Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    resources = MemoryResources()
    await resources.apply(manifests())
    async with (
        filled(folder, odd_lines().items()) as (db, storage),
        running_gateway(db, storage, resources=resources) as api,
    ):
        await storage.write("builds/local.b/build.log", b"all of it\xff\n")
        yield api


async def ask(api: Api, method: str, url: str, body: Any) -> tuple[int, str, Any]:
    headers = {"Content-Type": "application/json"} if body else {}
    async with api.session.request(
        method, URL(url, encoded=True), data=body, headers=headers
    ) as response:
        raw = await response.read()
        kind = response.content_type
        return response.status, kind, json.loads(raw) if kind.endswith("json") else raw


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="module")
async def test_every_answer_is_what_the_document_says(api: Api) -> None:
    loop = asyncio.get_running_loop()
    statuses: dict[int, int] = {}

    @settings(max_examples=400, suppress_health_check=list(HealthCheck))
    @given(requests())
    def check(made: tuple[str, str, dict[str, Any], Any]) -> None:
        method, url, operation, body = made
        asking = asyncio.run_coroutine_threadsafe(ask(api, method, url, body), loop)
        status, kind, answer = asking.result(60)
        statuses[status] = statuses.get(status, 0) + 1
        assert str(status) in operation["responses"], (method, url, status, answer)
        assert status != 503, (method, url, answer)
        assert kind in operation["responses"][str(status)]["content"], (method, url, kind)
        if kind.endswith("json"):
            errors = list(validator(operation["operationId"], status).iter_errors(answer))
            assert not errors, (method, url, errors[0].message)
        if status == 200 and isinstance(answer, dict) and answer.get("nextCursor"):
            glue = "&" if "?" in url else "?"
            if "cursor=" not in url:
                again = url + glue + "cursor=" + answer["nextCursor"]
                asking = asyncio.run_coroutine_threadsafe(ask(api, method, again, body), loop)
                assert asking.result(60)[0] == 200, again

    # Hypothesis drives from a thread of its own, the server answers in this loop.
    await asyncio.to_thread(check)
    assert statuses[200] > 50 < statuses[400], statuses
