"""Root tasks: one that ends, ends all."""

import asyncio
import gc

import pytest

from spanyard_core.tasks import RootTaskEndedError, run_root_tasks


async def forever(seen: list[str] | None = None) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        if seen is not None:
            seen.append("stopped")


async def test_a_task_that_returns_is_an_error_and_ends_the_others() -> None:
    seen: list[str] = []

    async def returns() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RootTaskEndedError, match="the poll loop ended"):
        async with asyncio.timeout(60):  # without the guard it would wait for ever
            await run_root_tasks({"poll loop": returns(), "uploader": forever(seen)})
    assert seen == ["stopped"]


async def test_a_task_that_fails_ends_the_others_with_its_own_error() -> None:
    seen: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await run_root_tasks({"poll loop": fails(), "uploader": forever(seen)})
    assert seen == ["stopped"]


async def test_two_failures_are_both_told() -> None:
    async def fails(text: str) -> None:
        raise OSError(text)

    with pytest.raises(ExceptionGroup) as caught:
        await run_root_tasks({"a": fails("one"), "b": fails("two")})
    assert sorted(str(e) for e in caught.value.exceptions) == ["one", "two"]


async def test_an_orderly_stop_cancels_and_awaits_all() -> None:
    seen: list[str] = []
    stop = asyncio.Event()

    async def stopper() -> None:
        await asyncio.sleep(0.01)
        stop.set()

    helper = asyncio.create_task(stopper())

    async def until() -> None:
        await stop.wait()

    await run_root_tasks({"a": forever(seen), "b": forever(seen)}, until=until())
    assert seen == ["stopped", "stopped"]
    await helper


async def test_a_failure_while_waiting_for_the_stop_is_raised() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("disk")

    async def until() -> None:
        await asyncio.Event().wait()

    with pytest.raises(OSError, match="disk"):
        await run_root_tasks({"a": fails(), "b": forever()}, until=until())


async def test_a_failure_while_stopping_is_raised() -> None:
    async def fails_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("flush failed")

    async def until() -> None:
        await asyncio.sleep(0)

    with pytest.raises(OSError, match="flush failed"):
        await run_root_tasks({"a": fails_late(), "b": forever()}, until=until())


async def test_a_task_that_ends_while_stopping_is_no_error() -> None:
    async def swallows() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async def until() -> None:
        await asyncio.sleep(0)

    await run_root_tasks({"a": swallows()}, until=until())


async def test_cancelling_the_group_cancels_the_tasks() -> None:
    seen: list[str] = []
    group = asyncio.create_task(run_root_tasks({"a": forever(seen)}))
    await asyncio.sleep(0.01)
    group.cancel()
    with pytest.raises(asyncio.CancelledError):
        await group
    assert seen == ["stopped"]


async def test_tasks_are_named_in_words() -> None:
    names: list[str] = []

    async def tells() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())

    with pytest.raises(RootTaskEndedError):
        await run_root_tasks({"poster of hints": tells()})
    assert names == ["poster of hints"]


async def test_tasks_that_never_began_leave_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    async def at_once() -> None:
        pass

    await run_root_tasks({"work": forever()}, until=at_once())
    gc.collect()
    assert [str(w.message) for w in recwarn] == []
