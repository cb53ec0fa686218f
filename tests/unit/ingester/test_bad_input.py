"""Bad input on the simulated warehouse: the good is loaded, the bad is told with its place."""

import msgspec
import zstandard

from spanyard_core.chunks import encode_facts
from tests.fakes.objects import chunk, log_chunk, log_line
from tests.unit.ingester.bench import Bench


async def test_bad_lines_go_to_quarantine_and_the_rest_is_loaded(bench: Bench) -> None:
    instead = {3: b'{"cut\n', 5: b"{}\n", 8: b"\n"}
    key = await bench.put(log_chunk("w", 1, 10, instead=instead))
    await bench.put(log_chunk("v", 1, 10))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("w") == [1, 2, 4, 6, 7, 9, 10]
    assert bench.seqs("v") == list(range(1, 11))
    rows = sorted(bench.bad.values(), key=lambda row: row.line)
    assert [(row.key, row.line, row.bytes) for row in rows] == [
        (key, 3, b'{"cut'),
        (key, 5, b"{}"),
        (key, 8, b""),
    ]
    offsets = [2 * len(log_line("w", 1)), 3 * len(log_line("w", 1)) + 6]
    assert [row.offset for row in rows[:2]] == offsets
    assert not await bench.keys("observability/")


async def test_the_seqs_of_bad_lines_count_as_dealt_with(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 10, instead={3: b"nonsense\n"}))
    ingester = await bench.started()
    await ingester.drain()
    [ranges] = ingester.ledger.state.handled.values()
    assert list(ranges) == [(1, 10)]
    assert not ingester.ledger.state.drops
    assert not ingester.ledger.state.unfiled


async def test_an_object_of_nothing_but_bad_lines_is_done(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 3, instead=dict.fromkeys((1, 2, 3), b"{}\n")))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.stored() == []
    assert len(bench.bad) == 3
    assert [key.split("/")[0] for key in await bench.keys()] == ["processed"]


async def test_too_many_bad_lines_reject_the_whole_object(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 30, instead=dict.fromkeys(range(1, 21), b"{}\n")))
    await bench.put(log_chunk("v", 1, 3))
    ingester = await bench.started(max_bad_lines=10)
    await ingester.drain()
    assert bench.stored() == [("v", 1), ("v", 2), ("v", 3)]
    [row] = bench.bad.values()
    assert "more than 10 bad lines" in row.reason
    assert row.line == 0
    assert await bench.keys("quarantine/") == [row.key.replace("observability", "quarantine")]


class TestWholeObjects:
    async def rejected(self, bench: Bench, key: str, data: bytes) -> str:
        """The reason for which an object beside a good one is rejected."""
        await bench.put((key, data))
        await bench.put(log_chunk("good", 1, 3))
        ingester = await bench.started()
        await ingester.drain()
        assert bench.stored() == [("good", 1), ("good", 2), ("good", 3)]
        [row] = bench.bad.values()
        assert row.key == key
        assert row.bytes == data[: 64 * 1024]
        assert key.replace("observability", "quarantine") in await bench.keys()
        return row.reason

    async def test_an_empty_object(self, bench: Bench) -> None:
        key, _ = log_chunk("w", 1, 3)
        assert "does not begin with the frame" in await self.rejected(bench, key, b"")

    async def test_a_frame_cut_short(self, bench: Bench) -> None:
        key, data = log_chunk("w", 1, 100)
        assert "cut short or changed" in await self.rejected(bench, key, data[:-10])

    async def test_a_frame_cut_short_under_a_digest_that_agrees(self, bench: Bench) -> None:
        facts, data = chunk([log_line("w", 1)] * 50, writer="w", first=1, last=50)
        payload = data[len(encode_facts(facts)) : -10]
        import hashlib

        facts = msgspec.structs.replace(facts, sha256=hashlib.sha256(payload).hexdigest())
        reason = await self.rejected(bench, facts.name.key(), encode_facts(facts) + payload)
        assert "cut short" in reason

    async def test_a_changed_byte(self, bench: Bench) -> None:
        key, data = log_chunk("w", 1, 100)
        changed = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        assert "changed" in await self.rejected(bench, key, changed)

    async def test_a_bomb(self, bench: Bench) -> None:
        import hashlib

        payload = zstandard.compress(b"\0" * 50_000_000, 3)
        assert len(payload) < 100_000
        facts, _ = chunk([log_line("w", 1)], writer="w", first=1, last=1)
        facts = msgspec.structs.replace(facts, sha256=hashlib.sha256(payload).hexdigest())
        reason = await self.rejected(bench, facts.name.key(), encode_facts(facts) + payload)
        assert "unpacks to more than" in reason

    async def test_a_frame_of_another_object(self, bench: Bench) -> None:
        key, _ = log_chunk("w", 1, 3)
        _, data = log_chunk("other", 1, 3)
        assert "declares what belongs under the name" in await self.rejected(bench, key, data)

    async def test_a_frame_of_another_project(self, bench: Bench) -> None:
        key, _ = log_chunk("w", 1, 3)
        _, data = log_chunk("w", 1, 3, project="team.bank")
        assert "belongs under the name" in await self.rejected(bench, key, data)

    async def test_more_records_than_its_range(self, bench: Bench) -> None:
        facts, data = chunk([log_line("w", 1)] * 5, writer="w", first=1, last=3)
        assert "declares 5 records" in await self.rejected(bench, facts.name.key(), data)

    async def test_an_unknown_signal(self, bench: Bench) -> None:
        key, data = log_chunk("w", 1, 3)
        key = key.replace("/logs/", "/profiles/")
        assert "unknown signal 'profiles'" in await self.rejected(bench, key, data)


async def test_an_object_with_fewer_lines_than_it_declares_gives_what_it_has(
    bench: Bench,
) -> None:
    lines = [log_line("w", seq) for seq in (1, 2, 4)] + [b""]
    facts, data = chunk(lines, writer="w", first=1, last=4)
    await bench.put((facts.name.key(), data))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("w") == [1, 2, 4]
    assert not await bench.keys("observability/")


async def test_an_object_that_leaves_lines_out_openly_is_loaded_as_it_is(bench: Bench) -> None:
    lines = [log_line("w", seq) for seq in (1, 2, 4)]
    facts, data = chunk(lines, writer="w", first=1, last=4)
    assert facts.records == 3
    await bench.put((facts.name.key(), data))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("w") == [1, 2, 4]
    assert not bench.bad
    assert ingester.loader.counts.refused == 0


async def test_lines_twice_in_one_object_are_stored_once(bench: Bench) -> None:
    await bench.put(log_chunk("w", 1, 5, instead={4: log_line("w", 2)}))
    ingester = await bench.started()
    await ingester.drain()
    assert bench.seqs("w") == [1, 2, 3, 5]
    [row] = bench.bad.values()
    assert "seq 2 stands twice" in row.reason


async def test_rejected_objects_ahead_do_not_hold_a_good_one_up(
    bench: Bench,
) -> None:
    for number in range(120):
        key, _ = log_chunk(f"a{number}", 1, 3)
        await bench.put((key, b"poison"))
    await bench.put(log_chunk("z", 1, 3, project="zoo.last"))
    ingester = await bench.started(max_pending=30)
    await ingester.list_once()
    loaded_after = 0
    while not bench.stored():
        loaded_after += 1
        await ingester.examine_once(30)
        await ingester.load_once()
        await ingester.list_once()
    assert loaded_after <= 120 // 30 + 2
    await ingester.drain()
    assert len(bench.bad) == 120


async def test_foreign_files_are_told_once_and_left_alone(bench: Bench, caplog) -> None:  # type: ignore[no-untyped-def]
    for name in ("readme.txt", "logs/x", "logs/team.shop/..evil", "logs/Team/x.jsonl"):
        await bench.put((f"observability/{name}", b"mine"))
    ingester = await bench.started()
    for _ in range(3):
        await ingester.drain()
    assert len(await bench.keys("observability/")) == 4
    assert ingester.pending.backlog.foreign == 4
    assert sum("foreign file" in record.message for record in caplog.records) == 4
    assert not bench.bad


class TestPlain:
    async def test_events_are_loaded_with_the_line_as_seq(self, bench: Bench) -> None:
        data = (
            b'{"type":"log","id":"x","projectId":"team.shop","level":"info","message":"a",'
            b'"timestamp":"2026-11-21T12:00:00Z","extra":1}\n'
            b'{"type":"log","level":"warn","message":"b","timestamp":"2026-11-21T12:00:00Z",'
            b'"attributes":{"n":18446744073709551616}}'
        )
        await bench.put(("observability/logs/team.shop/20261121_x.jsonl", data))
        ingester = await bench.started()
        await ingester.drain()
        rows = bench.tables.rows("logs")
        assert [(row["seq"], row["message"], row["project"]) for row in rows] == [
            (1, "a", "team.shop"),
            (2, "b", "team.shop"),
        ]
        assert rows[0]["writer"].startswith("plain:")
        assert rows[1]["attributes"] == {"n": 18446744073709551616}
        assert await bench.keys() == ["processed/logs/team.shop/20261121_x.jsonl"]

    async def test_bad_events_go_to_quarantine(self, bench: Bench) -> None:
        good = b'{"type":"score","name":"s","value":1,"timestamp":"2026-11-21T12:00:00Z"}\n'
        lines = [
            good,
            b"\n",
            b'{"type":"log"}\n',
            good.replace(b'"name":"s"', b'"name":""'),
            good.replace(b"2026", b"9999"),
            good.replace(b'"value":1', b'"value":1e999'),
            good.replace(b'"type"', b'"projectId":"team.bank","type"'),
            good,
        ]
        await bench.put(("observability/scores/team.shop/s.jsonl", b"".join(lines)))
        ingester = await bench.started()
        await ingester.drain()
        assert [row["seq"] for row in bench.tables.rows("scores")] == [1, 8]
        reasons = {row.line: row.reason for row in bench.bad.values()}
        assert sorted(reasons) == [2, 3, 4, 5, 6, 7]
        assert reasons[2] == "the line is blank"
        assert "type is 'log'" in reasons[3]
        assert "outside the years" in reasons[5]
        assert "projectId is 'team.bank'" in reasons[7]
        [raw] = [row.bytes for row in bench.bad.values() if row.line == 5]
        assert raw == lines[4].strip()

    async def test_an_empty_object_is_done(self, bench: Bench) -> None:
        await bench.put(("observability/logs/team.shop/empty.jsonl", b""))
        ingester = await bench.started()
        await ingester.drain()
        assert await bench.keys() == ["processed/logs/team.shop/empty.jsonl"]
        assert not bench.bad

    async def test_a_line_without_end_takes_no_memory(self, bench: Bench) -> None:
        good = b'{"type":"log","level":"warn","message":"b","timestamp":"2026-11-21T12:00:00Z"}\n'
        data = good + b"x" * 30_000_000 + b"\n" + good + b"y" * 20_000_000
        await bench.put(("observability/logs/team.shop/long.jsonl", data))
        ingester = await bench.started(max_line=1_000_000)
        import tracemalloc

        tracemalloc.start()
        try:
            await ingester.drain()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 25_000_000
        assert [row["seq"] for row in bench.tables.rows("logs")] == [1, 3]
        assert {row.line: row.size for row in bench.bad.values()} == {2: 30_000_000, 4: 20_000_000}

    async def test_what_is_more_than_a_batch_is_rejected(self, bench: Bench) -> None:
        good = b'{"type":"log","level":"warn","message":"b","timestamp":"2026-11-21T12:00:00Z"}\n'
        await bench.put(("observability/logs/team.shop/big.jsonl", good * 30))
        ingester = await bench.started(batch_rows=20)
        await ingester.drain()
        [row] = bench.bad.values()
        assert "more than a batch does" in row.reason
        assert not bench.stored()
