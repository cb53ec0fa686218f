"""What `spanyard up` shows: lines of servers, steps of builds, for people and for scripts."""

import asyncio
import io
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.resources import builds as life
from spanyard_core.resources.kinds import (
    API_VERSION,
    ArtifactStatus,
)
from spanyard_core.resources.reasons import explain
from spanyard_local.podapi import PodIdentity
from spanyard_local.store import ResourceStore
from spanyard_local.terminal import Terminal
from spanyard_local.up_lines import BURST, Lines, Shown
from spanyard_local.up_output import Output, seconds_between, size
from spanyard_local.up_stream import MOST_WAITING
from spanyard_sidecar.ring import Ring, Subscription

NOW = "2026-11-21T12:00:00Z"


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


POD = PodIdentity(namespace="local", pod="web-1-x", uid="u", project="local.shop", deployment="web")


def lines(*messages: str) -> bytes:
    return b"".join(
        json.dumps({"message": m, "stream": "stdout", "container": "server", "seq": 1}).encode()
        + b"\n"
        for m in messages
    )


async def until_shown(shown: list[Shown], count: int) -> None:
    async with asyncio.timeout(30):
        while len(shown) < count:
            await asyncio.sleep(0.01)


class TestLines:
    async def shown(self, feed: Any) -> tuple[list[str], list[int], Mapping[str, int]]:
        shown: list[Shown] = []
        left: list[int] = []
        written: dict[str, int] = {}
        view = Lines(
            shown.append,
            lambda _, count: left.append(count),
            closed=lambda _, counts: written.update(counts),
        )
        await feed(view, shown)
        await view.closed(POD, {"server.0": 7})
        return [s.message for s in shown], left, written

    async def test_each_line_is_shown_once_also_when_a_collector_reads_it_again(self) -> None:
        async def feed(view: Lines, shown: list[Shown]) -> None:
            ring = Ring()
            view.opened(POD, ring)
            ring.publish("server", "w", 1, lines("one", "two"))
            ring.publish("otlp", "u/logs", 1, lines("by OTLP"))
            await until_shown(shown, 2)
            ring = Ring()
            view.opened(POD, ring)
            ring.publish("server", "w", 2, lines("two", "three"))
            await until_shown(shown, 3)
            ring.publish("server", "w", 4, lines("four"))

        shown, left, written = await self.shown(feed)
        assert shown == ["one", "two", "three", "four"]
        assert left == []
        assert written == {"server.0": 7}

    @pytest.mark.slow
    async def test_what_comes_with_the_end_while_it_gives_up_waiting_is_shown(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pause of a second ends at the very moment of the last line and of the end."""
        timed_out, closed = asyncio.Event(), asyncio.Event()
        get = Subscription.get

        async def late(self: Subscription) -> tuple[str, str, int, bytes]:
            try:
                return await get(self)
            except asyncio.CancelledError:
                timed_out.set()
                await closed.wait()
                raise

        monkeypatch.setattr(Subscription, "get", late)

        async def feed(view: Lines, shown: list[Shown]) -> None:
            ring = Ring()
            view.opened(POD, ring)
            async with asyncio.timeout(60):
                await timed_out.wait()
            ring.publish("server", "w", 1, lines("last"))
            asyncio.get_running_loop().call_soon(closed.set)  # when `closed` waits for its feed

        assert (await self.shown(feed))[0] == ["last"]

    async def test_of_a_flood_a_part_is_shown_and_the_rest_is_counted(self) -> None:
        many = 3 * BURST

        async def feed(view: Lines, shown: list[Shown]) -> None:
            ring = Ring(lines=0)
            view.opened(POD, ring)
            for first in range(1, many, 100):
                ring.publish("server", "w", first, lines(*(f"{first + n}" for n in range(100))))

        shown, left, _ = await self.shown(feed)
        assert BURST <= len(shown) < many
        assert len(shown) + sum(left) == many

    async def test_a_line_that_is_none_is_counted_and_no_harm(self) -> None:
        async def feed(view: Lines, shown: list[Shown]) -> None:
            ring = Ring()
            view.opened(POD, ring)
            ring.publish("server", "w", 1, b"{\n" + lines("fine"))

        assert (await self.shown(feed))[:2] == (["fine"], [1])

    async def test_who_was_never_opened_may_be_closed(self) -> None:
        async def feed(view: Lines, shown: list[Shown]) -> None:
            return

        assert await self.shown(feed) == ([], [], {"server.0": 7})


class TestOutput:
    def output(self, **options: bool) -> tuple[Output, io.StringIO]:
        out = io.StringIO()
        return Output(Terminal(out, colours=False, live=False), **options), out

    async def store(self, tmp_path: Path) -> ResourceStore:
        store = ResourceStore(tmp_path, clock=SystemClock())
        await store.open()
        source = {"directory": {"path": "/src"}}
        await store.apply(
            [manifest("Project", "p"), manifest("Build", "b", project="p", source=source)]
        )
        return store

    async def tell(self, store: ResourceStore, output: Output, *statuses: Any) -> None:
        for status in statuses:
            await store.set_status(store.builds()[0], status)
            output.look(store, {("Build", "local.b")})
            output.look(store, {("Build", "local.b")})

    async def test_a_build_is_told_step_by_step_each_once(self, tmp_path: Path) -> None:
        store, (output, out) = await self.store(tmp_path), self.output()
        (build,) = store.builds()
        queued = life.queued(build, now=NOW)
        begun = life.begun(build, now=NOW)
        fetching = life.step_begun(build, begun, "fetch", now=NOW)
        fetched = life.step_ended(fetching, now="2026-11-21T12:00:02.5Z", exit_code=0)
        installing = life.step_begun(build, fetched, "install", now=NOW)
        installed = life.step_ended(installing, now="2026-11-21T12:02:05Z", exit_code=3)
        why = explain("StepFailed", step="install", exit_code=3, last_lines=["\x1b[31mbad"])
        failed = life.failed(build, installed, why, now="2026-11-21T12:02:06Z", log_complete=True)
        await self.tell(
            store, output, queued, begun, fetching, fetched, installing, installed, failed
        )
        output.end()
        told = out.getvalue().splitlines()
        assert told[:5] == [
            "b │ fetch …",
            "b │ ✓ fetch  2.5 s",
            "b │ install …",
            "b │ ✗ install  2 min 5 s, exit code 3",
            "b │ build failed in install: install ended with exit code 3",
        ]
        assert told[5].startswith("b │ → Read the last lines below")
        assert told[6:] == ["b │   ␛[31mbad"]

    async def test_a_step_whose_time_was_up_has_not_ended_well(self, tmp_path: Path) -> None:
        store, (output, out) = await self.store(tmp_path), self.output()
        (build,) = store.builds()
        begun = life.step_begun(build, life.begun(build, now=NOW), "build", now=NOW)
        ended = life.step_ended(begun, now="2026-11-21T12:00:05Z", exit_code=None)
        await self.tell(store, output, ended)
        output.end()
        assert "b │ ✗ build  5.0 s, ended early" in out.getvalue()

    async def test_what_was_there_before_is_no_news(self, tmp_path: Path) -> None:
        store, (output, out) = await self.store(tmp_path), self.output()
        (build,) = store.builds()
        status = life.begun(build, now=NOW)
        done = life.succeeded(build, status, ArtifactStatus(), now=NOW, log_complete=True)
        await store.set_status(build, done)
        output.know(store)
        output.look(store, {("Build", "local.b")})
        output.end()
        assert not out.getvalue()

    async def test_scripts_get_an_event_per_line(self, tmp_path: Path) -> None:
        store, (output, out) = await self.store(tmp_path), self.output(as_json=True)
        await self.tell(store, output, life.begun(store.builds()[0], now=NOW))
        output.say("a sentence")
        output.addresses([("gateway", "http://x", "remark")])
        output.stored({"logs": 3})
        output.end()
        events = [json.loads(line) for line in out.getvalue().splitlines()]
        assert [e["event"] for e in events] == ["build", "note", "addresses", "stored"]
        assert (events[0]["id"], events[0]["status"]["phase"]) == ("local.b", "Building")

    def test_lines_cannot_steer_the_terminal_and_quiet_shows_none(self) -> None:
        for quiet, wanted in ((False, "web │ a    b␛[2J\n"), (True, "")):
            output, out = self.output(quiet=quiet)
            output._line(Shown(POD, "server", "stdout", "info", "a\tb\x1b[2J"))
            output.end()
            assert out.getvalue() == wanted

    def test_a_terminal_that_is_paused_holds_up_nothing_and_misses_a_counted_number(self) -> None:
        go_on = threading.Event()
        texts: list[str] = []

        class Paused(io.StringIO):
            def write(self, text: str) -> int:
                go_on.wait(30)
                texts.append(text)
                return len(text)

        output = Output(Terminal(Paused(), colours=False, live=False))
        many = 2 * MOST_WAITING
        for number in range(many):
            output._line(Shown(POD, "server", "stdout", "info", f"{number}"))
        output.say("what matters is said")
        go_on.set()
        assert output.end(30)
        told = "".join(texts).splitlines()
        (left,) = [line for line in told if "not shown here" in line]
        shown = sum(line.startswith("web │ ") for line in told) - 1
        assert 0 < shown < many
        assert left == f"web │ … {many - shown:,} lines not shown here; all are stored"
        assert "what matters is said" in told

    def test_who_stops_reading_is_noticed_once(self) -> None:
        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        noticed: list[int] = []
        output = Output(Terminal(Gone(), False, False), gone=lambda: noticed.append(1))
        for _ in range(5):
            output.say("hello")
        assert output.end(30)
        assert noticed == [1]

    def test_units(self) -> None:
        assert [size(n) for n in (0, 1_500, 2_500_000, 3 * 10**9)] == [
            "0 bytes", "1.5 kB", "2.5 MB", "3.0 GB"
        ]  # fmt: skip
        assert seconds_between("", NOW) == "?"
