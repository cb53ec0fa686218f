"""A search means the same live and stored: random queries over random records, in the engine and in memory."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from spanyard_core.clickhouse import Database, database
from spanyard_core.clickhouse.schema import migrate
from spanyard_core.records import AnyLine, LogLine, Signal, SpanLine
from spanyard_gateway.live.channels import Filter, parse_channel
from spanyard_gateway.live.records import Record, block_of_lines
from spanyard_gateway.live.searching import search_test
from spanyard_gateway.live.stored import Target
from spanyard_gateway.queries.live import ClickHouseStored
from spanyard_gateway.queries.search import Conditions, joined
from spanyard_gateway.reader import Reader
from spanyard_gateway.search.bound import bound
from spanyard_gateway.settings import GatewaySettings
from tests.fakes.engine import engine_url
from tests.fakes.gateway_api import load
from tests.fakes.gateway_records import at

PROJECT = "local.support"
RECORDS, QUERIES, AT_ONCE = 400, 300, 25
WORDS = ["time", "out", "Timeout", "Überlast", "ÜBER", "straße", "a_b", "x.y", "503", "日本", "Σας", "%", "“q”"]  # fmt: skip
GLUE = [" ", "-", ", ", " : ", "", "\t", '"', "\\"]
KEYS = ["user.id", "http.status", "deep", "a key", "it's", "Ü", "long"]
PLAIN = ["level:error", "level:>=warn", "level:info,fatal", "stream:stderr", "-stream:*", "span:*"]
OF_SPANS = ["error:true", "open:no", "root:false", "status:unset,ok", "kind:client", "-error:true"]

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


class Made:
    """What one seed makes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def text(self, most: int = 5) -> str:
        found = ""
        for _ in range(self.rng.randint(1, most)):
            found += self.rng.choice(WORDS) + self.rng.choice(GLUE)
        return found

    def value(self) -> Any:
        rng = self.rng
        return rng.choice([
            self.text(2), rng.randint(-5, 600), rng.randint(-40, 40) / 8, True, None, "", "u-17",
            {"a": [1, 2.5, "z"], "b": None}, ["x", "y,"], "503", "12.50", "y" * rng.choice([255, 256, 257]), 1e21, 3e-7, 2.0,
        ])  # fmt: skip

    def attributes(self) -> dict[str, Any]:
        rng = self.rng
        found = {key: self.value() for key in rng.sample(KEYS, rng.randint(0, 4))}
        for key, values in {
            "gen_ai.tool.name": ["web_search", "mail"], "tool.name": ["other"],
            "gen_ai.request.model": ["m-1", "m-2"], "gen_ai.operation.name": ["chat"],
            "gen_ai.usage.input_tokens": [10, "20", "x", 1.5], "gen_ai.usage.output_tokens": [5],
            "gen_ai.usage.cost": [0.5, "1e-3", "nix"], "gen_ai.prompt": [self.text()],
            "output.value": [self.text(), {"text": self.text(2)}], "session.id": ["s-1"],
        }.items():  # fmt: skip
            if rng.random() < 0.3:
                found[key] = rng.choice(values)
        return found

    def identity(self, seq: int, writer: str) -> dict[str, Any]:
        rng = self.rng
        deployment = rng.choice(["agent", "other", ""])
        return {
            "project": PROJECT, "writer": writer, "seq": seq, "deployment": deployment,
            "pod": f"{deployment}-{rng.choice(['3', 'server-5d8f7c'])}-x1y2z", "container": rng.choice(["server", "proxy"]),
            "service": rng.choice(["agent", ""]), "build": rng.choice(["", "local.b-1"]),
            "stream": rng.choice(["stdout", "stderr", ""]), "recorded_at": at(seq),
            "trace_id": rng.choice("ab") * 32, "attributes": self.attributes(),
        }  # fmt: skip

    def line(self, seq: int) -> AnyLine:
        return LogLine(
            **self.identity(seq, "uid/server/0@e"), timestamp=at(seq), message=self.text(),
            level=self.rng.choice(["debug", "info", "warn", "error", "fatal"]),
            span_id=self.rng.choice(["", "1" * 16]),
        )  # fmt: skip

    def span(self, seq: int) -> AnyLine:
        rng = self.rng
        return SpanLine(
            **self.identity(seq, "uid/spans@e"), id=f"{seq:016x}", name=rng.choice(["chat m-1", "answer", self.text(2)]),
            start_time=at(seq), end_time=rng.choice([None, at(seq + rng.randint(0, 4) * 10**9)]),
            parent_span_id=rng.choice(["", "2" * 16]), status=rng.choice(["ok", "error", "unset"]),
            status_message=rng.choice(["", self.text(2)]), span_kind=rng.choice(["internal", "client"]),
        )  # fmt: skip

    def quoted(self, text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def term(self, signal: Signal) -> str:
        rng = self.rng
        star = rng.choice(["", "", "*"])
        words = self.quoted(self.text(3)[: rng.randint(1, 12)])
        field = rng.choice(
            ["", "message:", "text:", *(["input:", "output:"] if signal == "spans" else [])]
        )
        key = f"@{self.quoted(rng.choice(KEYS))}:"
        sign, number = (
            rng.choice([">", ">=", "<", "<=", ""]),
            rng.choice(["0", "5", "2.5", "-1", "503"]),
        )
        labels = [
            "service:agent",
            "deployment:agent,other",
            "revision:3",
            "revision:5d8f*",
            "build:*",
            "pod:agent*",
            f"trace:{'A' * 32}",
            "container:server",
        ]
        shared = [
            field + words + star, words, key + words + star, key + "*", key + (sign or ">") + number,
            key + number, key + self.quoted("y" * rng.choice([255, 256, 257])), key + "u-17,true,12.5", rng.choice(labels),
        ]  # fmt: skip
        own = PLAIN if signal == "logs" else [
            *OF_SPANS, f"duration:{sign}2s", f"tokens:{sign}{number}", f"input_tokens:{sign}{number}", f"cost:{sign}{number}",
            "tool:web_search,other", "-tool:*", "model:m-*", "session:s-1", "operation:chat", "name:chat*", "name:answer", "parent:*", "tokens:*",
        ]  # fmt: skip
        return rng.choice(shared if rng.random() < 0.6 else own)

    def query(self, signal: Signal, depth: int = 0) -> str:
        rng = self.rng
        if depth > 2 or rng.random() < 0.4:
            return self.term(signal)
        parts = [self.query(signal, depth + 1) for _ in range(rng.randint(1, 3))]
        joined_parts = rng.choice([" ", " AND ", " OR "]).join(parts)
        return f"{rng.choice(['', '-', 'NOT '])}({joined_parts})"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Database, dict[Signal, list[Record]]]]:
    folder: Path = tmp_path_factory.mktemp("agree")
    made = Made(7)
    lines: dict[Signal, list[AnyLine]] = {
        "logs": [made.line(i) for i in range(1, RECORDS + 1)],
        "spans": [made.span(i) for i in range(1, RECORDS + 1)],
    }
    records: dict[Signal, list[Record]] = {}
    async with database(engine_url()) as db:
        await migrate(db)
        for attempt, (signal, written) in enumerate(lines.items(), start=1):
            await load(db, folder, attempt, signal, written)
            encoded = msgspec.json.Encoder().encode_lines(written)
            records[signal] = list(block_of_lines(written[0].writer, 1, encoded).records)
        yield db, records


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("signal", ["logs", "spans"])
async def test_sql_and_the_test_of_live_records_pick_the_same(
    loaded: tuple[Database, dict[Signal, list[Record]]], signal: Any, index: bool
) -> None:
    db, records = loaded
    made = Made(11 + index)
    if index:
        names = ("message_index",) if signal == "logs" else ("input_index", "output_index")
        for name in (*names, "attribute_index"):
            change = f"ALTER TABLE {signal} MATERIALIZE INDEX {name} SETTINGS mutations_sync = 2"
            await db.command(change)
    hits = 0
    count = QUERIES // 4 if index else QUERIES
    for _ in range(count // AT_ONCE):
        queries = [made.query(signal) for _ in range(AT_ONCE)]
        params: dict[str, Any] = {}
        columns = []
        for query in queries:
            conditions = Conditions(known=len(params))
            columns.append(joined(bound(query, signal), conditions.leaf))
            params |= conditions.params
        # One question each where the index is to answer: it does not look into a list of columns.
        if index:
            stored = [
                {
                    row["seq"]
                    for row in await db.rows(f"SELECT seq FROM {signal} WHERE {column}", params)
                }
                for column in columns
            ]
        else:
            rows = await db.rows(
                f"SELECT seq, [{', '.join(f'toBool({c})' for c in columns)}] AS met FROM {signal}",
                params,
            )
            stored = [{row["seq"] for row in rows if row["met"][i]} for i in range(AT_ONCE)]
        for query, expected in zip(queries, stored, strict=True):
            test = search_test(query, [signal])
            live = {record.seq for record in records[signal] if test(record)}
            assert live == expected, query
            hits += 0 < len(live) < RECORDS
    assert hits > count / 3


async def test_the_newest_stored_records_are_those_of_the_search(
    loaded: tuple[Database, dict[Signal, list[Record]]],
) -> None:
    db, records = loaded
    stored = ClickHouseStored(
        Reader(GatewaySettings(storage="file:///x", clickhouse="chdb:///x"), db)
    )
    target = Target("local", "support")
    signals = parse_channel("project:local.support").signals
    for query, some in (
        ("time -level:error", {"logs"}),
        ("tool:web_search", {"spans"}),
        ("time", {"logs", "spans"}),
    ):
        test = search_test(query, signals)
        rows = await stored.newest(target, signals, Filter(q=query), 1000, {})
        wanted = [
            (signal, record.seq) for signal in signals for record in records[signal] if test(record)
        ]
        found = [
            ("logs" if hasattr(row.record, "message") else "spans", row.record.seq) for row in rows
        ]
        assert sorted(found) == sorted(wanted)
        assert {signal for signal, _ in found} == some
