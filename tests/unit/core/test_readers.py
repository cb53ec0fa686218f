"""Threads that hold up nobody's end."""

import asyncio
import queue
import threading
import time
from typing import Any

import pytest

from spanyard_core.clickhouse.readers import Readers


async def test_so_many_jobs_run_at_a_time_and_the_others_wait() -> None:
    readers = Readers(2, "test")
    running = 0
    most = 0
    lock = threading.Lock()
    together = threading.Barrier(2)

    def job() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)  # for the other one that runs
        time.sleep(0.005)  # and for a third one that should not
        with lock:
            running -= 1
        return 7

    assert await asyncio.gather(*(readers.run(job) for _ in range(8))) == [7] * 8
    assert most == 2
    assert readers.close(60)


async def test_an_error_is_the_callers() -> None:
    readers = Readers(1, "test")

    def job() -> None:
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        await readers.run(job)
    assert readers.close(60)


async def test_who_waits_and_gives_up_is_not_run() -> None:
    readers = Readers(1, "test")
    go_on, started = threading.Event(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        started.set()
        go_on.wait(30)

    holding = asyncio.create_task(readers.run(first))
    assert await asyncio.to_thread(started.wait, 30)
    waiting = asyncio.create_task(readers.run(lambda: ran.append("waiting")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    await holding
    await readers.run(lambda: ran.append("later"))
    assert ran == ["later"]
    assert readers.close(60)


async def test_closing_does_not_wait_for_what_does_not_end() -> None:
    readers = Readers(1, "test")
    go_on, started = threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        go_on.wait(60)

    holding = asyncio.create_task(readers.run(stuck))
    assert await asyncio.to_thread(started.wait, 30)
    waiting = asyncio.create_task(readers.run(stuck))
    await asyncio.sleep(0)
    assert not readers.close(0.01)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    await holding


def test_closing_waits_for_no_job_that_a_thread_took_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TakenMeanwhile(queue.SimpleQueue[Any]):
        looks = 0

        def empty(self) -> bool:
            self.looks += 1
            return self.looks > 1

    readers = Readers(1, "test")
    monkeypatch.setattr(readers, "_jobs", TakenMeanwhile())
    closing = threading.Thread(target=readers.close, args=(0,), daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()


def test_nothing_is_started_before_it_is_needed() -> None:
    # By their name: threads of other tests may come and go meanwhile.
    assert Readers(5, "needed-by-nobody").close(0)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("needed-by-nobody")]
