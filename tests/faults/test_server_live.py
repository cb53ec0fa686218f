"""`spanyard-server` begins, is killed and is ended while somebody listens: each line once, in order."""

import asyncio
import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from spanyard_core.storage import open_storage
from spanyard_local.live_client import AwayError, Back, Dropped, Lines, LiveClient, Lost, Resume
from tests.fakes.objects import log_chunk
from tests.fakes.ports import own_port
from tests.fakes.processes import Program, fetch, wait_for

WRITER = "pod-uid/server/0@epoch"
LINES, PER_OBJECT = 12_000, 2_000


class Server:
    """One after the other, on the same folder and port."""

    def __init__(self, folder: Path) -> None:
        self.data, self.log = folder / "data", folder / "server.log"
        self.port = own_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> Program:
        return Program(
            "spanyard_local.evaluation",
            ["--data", str(self.data), "--port", str(self.port), "--clickhouse-port", "0"],
            log=self.log,
            environ={"SPANYARD_LIST_INTERVAL": "200ms"},
        )

    def answers(self, path: str) -> tuple[int, Any, bytes]:
        """Status 0 while nobody listens."""
        try:
            status, headers, body = fetch(self.url + path)
        except OSError:
            return 0, {}, b""
        return status, headers, body

    def ready(self) -> bool:
        return self.answers("/readyz")[0] == 200

    def stored(self) -> int:
        body = json.dumps({"query": "SELECT count() AS n FROM logs"}).encode()
        kind = {"Content-Type": "application/json"}
        return int(json.loads(fetch(f"{self.url}/sql", body=body, headers=kind)[2])["data"][0]["n"])


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


async def _write(server: Server) -> None:
    storage = open_storage((server.data / "bucket").as_uri())
    for first in range(1, LINES, PER_OBJECT):
        last = first + PER_OBJECT - 1
        # 24 MB in all: more than waits in the buffers between gateway and listener.
        await storage.write(*log_chunk(WRITER, first, last, message="x" * 2_000))
    await storage.close()


@pytest.mark.kill
async def test_a_server_that_begins_says_so_to_every_question_and_who_listens_waits_for_it(
    server: Server,
) -> None:
    """Then it is killed, and the next one told to end, in the middle of what a listener missed."""
    server.data.mkdir()
    wait = asyncio.to_thread
    with (server.data / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = server.start()
        with one:
            await wait(wait_for, "it answers", lambda: server.answers("/healthz")[0] == 200)
            for path in (
                "/projects",
                "/builds/a.b/logs",
                "/ui/",
                "/ws",
                "/prometheus/api/v1/query",
            ):
                status, headers, body = server.answers(path)
                assert (status, headers["Retry-After"]) == (503, "1"), path
                assert json.loads(body)["title"] == "Starting", path
            with pytest.raises(AwayError, match="cannot take a listener now"):
                async with LiveClient(server.url):
                    pass
            lock.close()
            await wait(wait_for, "it is ready", server.ready)
            await _write(server)
            await wait(wait_for, "all is stored", lambda: server.stored() == LINES)
            await _listens(server, one)


async def _listens(server: Server, first: Program) -> None:
    """Everything from the first line on, over a kill and an end."""
    seqs: list[int] = []
    lost = backs = 0
    programs = [first]
    async with LiveClient(server.url) as live, asyncio.timeout(300):
        await live.subscribe("project:team.shop", resume=Resume(1, {WRITER: 0}))
        # Who ends may have said all before: that it has gone is heard after that then.
        while len(seqs) < LINES or lost < 2:
            event = await live.next(60)
            assert event is not None
            assert not isinstance(event, Dropped), event
            if isinstance(event, Lost):
                lost += 1
            elif isinstance(event, Back):
                backs += 1
            elif isinstance(event, Lines):
                assert event.writer == WRITER
                seqs += [item.seq for item in event.items]
                assert seqs[-1] - seqs[0] + 1 == len(seqs), "in order, without a hole, each once"
                # What an elder said may still wait here: the newest is to be heard first.
                heard = backs == len(programs) - 1
                if heard and len(programs) <= 2 and len(seqs) >= len(programs) * LINES // 6:
                    if len(programs) == 1:
                        first.kill()
                    else:
                        programs[-1].process.terminate()
                        await asyncio.to_thread(programs[-1].process.wait, 60)
                    programs.append(server.start())
    for program in programs[1:]:
        program.kill()
    assert lost == 2
    assert seqs == list(range(1, LINES + 1))
