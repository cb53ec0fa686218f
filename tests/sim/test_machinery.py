"""The simulator's own parts: time, processes, requests that outlive their callers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from spanyard_core.errors import ObjectExistsError, StorageError
from tests.sim.bucket import Bucket, Fate, Weather
from tests.sim.clock import START_NS, SimClock, WallClock
from tests.sim.disk import Disk
from tests.sim.loop import DeadlockError, LivelockError, SimLoop, run
from tests.sim.process import Process, ProcessKilled


class TestTime:
    def test_an_hour_passes_at_once(self) -> None:
        async def main() -> tuple[float, int]:
            wall = WallClock()
            clock = SimClock(wall)
            await clock.sleep(3600)
            wall.jump(-7200)
            return round(clock.monotonic(), 3), round(clock.time_ns(), -7)

        assert run(main()) == (3600.0, START_NS - 3600 * 10**9)

    def test_timeouts_are_virtual_too(self) -> None:
        async def main() -> float:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.sleep(60)
            return asyncio.get_running_loop().time()

        assert run(main()) == pytest.approx(5.0, abs=1e-3)

    def test_waiting_for_nothing_is_a_deadlock(self) -> None:
        async def main() -> None:
            await asyncio.Event().wait()

        with pytest.raises(DeadlockError):
            run(main())

    def test_spinning_is_a_livelock(self) -> None:
        async def main() -> None:
            while True:
                await asyncio.sleep(0)

        with pytest.raises(LivelockError):
            run(main())

    def test_the_same_program_takes_the_same_course(self) -> None:
        async def main() -> list[str]:
            course: list[str] = []

            async def step(name: str) -> None:
                for _ in range(3):
                    await asyncio.sleep(rng.random())
                    course.append(name)

            rng = random.Random(7)
            async with asyncio.TaskGroup() as group:
                for name in "abcdef":
                    group.create_task(step(name))
            return course

        assert run(main()) == run(main())

    def test_an_exception_that_nobody_saw_is_noted(self) -> None:
        async def fail() -> None:
            raise ValueError("unseen")

        async def main() -> list[str]:
            task = asyncio.create_task(fail())
            await asyncio.sleep(1)
            del task
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimLoop)
            return loop.errors

        assert "unseen" in run(main())[0]


class TestKilling:
    def test_a_killed_process_does_nothing_more(self) -> None:
        async def main() -> bytes:
            disk = Disk(sync_seconds=0)
            disk.mkdir("/d")
            process = Process("victim")
            files, clock = disk.view(process), SimClock(WallClock(), process)
            file = files.open_append("/d/a")

            async def victim() -> None:
                try:
                    while True:
                        file.write(b"x")
                        await clock.sleep(1)
                finally:
                    file.write(b"last words")

            process.start(victim())
            await asyncio.sleep(2.5)
            process.kill()
            await asyncio.sleep(100)
            with pytest.raises(ProcessKilled):
                files.unlink("/d/a")
            with pytest.raises(ProcessKilled):
                clock.time_ns()
            return bytes(disk.inode("/d/a").data)

        assert run(main()) == b"xxx"

    def test_it_may_die_by_its_own_hand(self) -> None:
        async def main() -> list[str]:
            done = []
            process = Process("victim")
            clock = SimClock(WallClock(), process)

            async def child() -> None:
                await asyncio.sleep(2)
                done.append("child")

            async def victim() -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
                    await asyncio.sleep(1)
                    try:
                        process.kill()
                        process.check()
                    finally:
                        await clock.sleep(1)
                        done.append("after")

            process.start(victim())
            await asyncio.sleep(100)
            return done

        assert run(main()) == []

    def test_it_leaves_no_lock_and_no_open_file(self) -> None:
        async def main() -> tuple[bool, bool]:
            disk = Disk()
            disk.mkdir("/d")
            process = Process("victim")
            disk.view(process).open_append("/d/a")
            disk.lock("/d/a", process)
            process.at_end(lambda: disk.unlock(process))
            number = disk.view().stat("/d/a").inode
            process.kill()
            locked = disk.is_locked("/d/a")
            disk.unlink("/d/a")
            return locked, disk.create("/d/b").number == number

        assert run(main()) == (False, True)

    def test_its_callers_see_the_connection_break(self) -> None:
        async def main() -> list[str]:
            process = Process("server")
            seen = []

            async def serve(seconds: float) -> str:
                await asyncio.sleep(seconds)
                return "answer"

            async def ask(seconds: float) -> None:
                try:
                    seen.append(await process.call(serve(seconds)))
                except ConnectionError as error:
                    seen.append(type(error).__name__)

            asking = asyncio.gather(ask(1), ask(10))
            await asyncio.sleep(5)
            process.kill()
            await asking
            await ask(1)
            return seen

        assert run(main()) == ["answer", "ConnectionResetError", "ConnectionRefusedError"]

    def test_generators_of_the_dead_end_silently(self) -> None:
        async def main() -> list[str]:
            process = Process("victim")

            async def numbers() -> AsyncIterator[int]:
                try:
                    while True:
                        await asyncio.sleep(1)
                        yield 1
                finally:
                    await asyncio.sleep(1)

            async def victim() -> None:
                async for _ in numbers():
                    pass

            process.start(victim())
            await asyncio.sleep(5)
            process.kill()
            await asyncio.sleep(5)
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimLoop)
            return loop.errors

        assert run(main()) == []


def _bucket(**shares: Any) -> Bucket:
    weather = Weather(random.Random(1), latency=0.1, **shares)
    return Bucket(WallClock().time_ns, weather=weather, page=3)


class TestBucket:
    @staticmethod
    def outcome(bucket: Bucket, call: Coroutine[Any, Any, Any]) -> str:
        async def main() -> str:
            try:
                await call
            except StorageError as error:
                return type(error).__name__
            return "done"

        return run(main())

    def test_a_lost_answer_is_an_error_and_the_object_is_there(self) -> None:
        bucket = _bucket(answer_lost=1.0)
        assert self.outcome(bucket, bucket.view().write("k", b"1")) == "StorageError"
        assert bucket.objects["k"].data == b"1"

    def test_a_request_that_failed_did_nothing(self) -> None:
        bucket = _bucket(not_done=1.0)
        assert self.outcome(bucket, bucket.view().write("k", b"1")) == "StorageError"
        assert bucket.objects == {}

    def test_a_client_that_retries_by_itself_finds_its_own_object(self) -> None:
        bucket = _bucket(tried_twice=1.0)
        call = bucket.view().write("k", b"1", if_absent=True)
        assert self.outcome(bucket, call) == ObjectExistsError.__name__
        assert bucket.objects["k"].data == b"1"

    def test_a_move_may_end_between_copy_and_delete(self) -> None:
        bucket = _bucket()
        bucket.put("a", b"1", False)
        fates = iter((Fate.DONE, Fate.NOT_DONE))
        bucket.weather.fate = lambda: next(fates)  # type: ignore[method-assign]
        assert self.outcome(bucket, bucket.view().move("a", "b")) == "StorageError"
        assert set(bucket.objects) == {"a", "b"}

    def test_a_zombie_lands_after_its_sender_has_died(self) -> None:
        async def main() -> tuple[bool, bool]:
            bucket = _bucket(zombie=1.0)
            process = Process("victim")
            process.start(bucket.view(process).write("k", b"1"))
            await asyncio.sleep(0.01)
            process.kill()
            await asyncio.sleep(0.2)
            before = "k" in bucket.objects
            await asyncio.sleep(100)
            return before, "k" in bucket.objects

        assert run(main()) == (False, True)

    def test_a_listing_goes_on_while_objects_come(self) -> None:
        async def main() -> list[str]:
            bucket = _bucket()
            for n in range(0, 20, 2):
                bucket.put(f"k{n:02}", b"", False)
            seen = []
            async for info in bucket.view().list("k"):
                seen.append(info.key)
                bucket.put(f"k{int(info.key[1:]) + 5:02}", b"", False)
                if len(seen) > 30:
                    break
            return seen

        seen = run(main())
        assert seen == sorted(set(seen))
        assert set(seen) >= {f"k{n:02}" for n in range(0, 20, 2)}
