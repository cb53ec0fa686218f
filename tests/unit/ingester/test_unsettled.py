"""What is loaded and not yet where it stays, and who waits for it."""

from typing import Any

import pytest

from spanyard_core.errors import StorageError
from spanyard_core.object_names import parse_key
from spanyard_ingester.ingester import Ingester
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    Done,
    Forget,
    Forgotten,
    LoadedObject,
    Operation,
    processed_key,
    scope_of_name,
)
from spanyard_ingester.planner import Ready
from tests.fakes.objects import log_chunk
from tests.unit.ingester.bench import Bench


async def committed(bench: Bench, ingester: Ingester) -> str:
    """An object that this ingester has loaded and not moved."""
    key = await bench.put(log_chunk("w", 1, 10))
    await ingester.list_once()
    while await ingester.examine_once() or await ingester.load_once():
        pass
    return key


async def test_what_waits_in_this_process_is_settled_at_once(bench: Bench) -> None:
    ingester = await bench.started()
    key = await committed(bench, ingester)
    began = bench.clock.now
    await ingester.unsettled.wait([key])
    assert await bench.keys() == [processed_key(key)]
    assert not ingester.ledger.state.digests
    assert bench.clock.now == began


async def test_what_an_ingester_left_that_is_gone_is_taken_over(bench: Bench) -> None:
    survivor = await bench.started("two")
    key = await committed(bench, await bench.started())
    await survivor.ledger.refresh()
    began = bench.clock.now
    await survivor.unsettled.wait([key])
    assert await bench.keys() == [processed_key(key)]
    assert 5 < bench.clock.now - began < 15, "others tell every five seconds"


async def test_what_cannot_be_settled_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingester = await bench.started()
    key = await committed(bench, ingester)

    async def refuse(*_: object) -> None:
        raise StorageError("no space")

    monkeypatch.setattr(bench.storage, "move", refuse)
    began = bench.clock.now
    with pytest.raises(StorageError, match=r"1 loaded objects .* again later. no space"):
        await ingester.unsettled.wait([key])
    assert 20 < bench.clock.now - began < 60
    await ingester.unsettled.wait(["observability/other"])


def forget(name: str, key: str, state: LedgerState) -> Operation:
    scope = scope_of_name(parse_key(key))
    return Forget(
        id=name,
        table="logs",
        ranges={scope: [(1, 10)]},
        writers={scope: "w"},
        keys=[key],
        before=state.floor + 1,
    )


async def test_what_is_forgotten_while_it_is_looked_at_is_not_done(bench: Bench) -> None:
    ingester = await bench.started()
    await bench.put(log_chunk("w", 1, 10))
    await ingester.drain()
    [key] = await bench.keys()
    ledger, settler = ingester.ledger, ingester.settler
    twin = LoadedObject(
        key="observability/twin",
        size=1,
        sha256="",
        project="team.shop",
        writer="w",
        first=1,
        last=10,
    )
    await ledger.append(
        lambda state: [
            forget("one", key, state),
            Forgotten(id="one"),
            Done(attempt=1, table="logs", objects=[twin]),
        ],
        subject="plan",
    )
    digest = settler._digest

    async def and_forget(*given: Any) -> str:
        if "two" not in ledger.state.forgetting:
            await ledger.append(lambda state: [forget("two", key, state)], subject="plan")
        return await digest(*given)

    settler._digest = and_forget  # type: ignore[method-assign]
    settler.covered(Ready(key, parse_key(key), 0, 0.0))
    await settler.run_once()
    assert key in ledger.state.reload
    assert not ledger.state.is_handled(scope_of_name(parse_key(key)), 1, 10)
