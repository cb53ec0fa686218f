"""Bytes that the gateway takes itself: objects that go away while it looks."""

from pathlib import Path

import pytest

from spanyard_core.clock import SystemClock
from spanyard_core.storage.directory import DirectoryStorage
from spanyard_core.tickets import Signer
from spanyard_gateway.objects.model import Stored
from spanyard_gateway.objects.through import ThroughGateway

KEY, DONE = "incoming/a/1", "done/a/1"


@pytest.mark.parametrize("then", [None, "incoming"], ids=["gone", "another in its way"])
async def test_an_object_that_is_moved_while_it_is_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str | None
) -> None:
    storage = DirectoryStorage(tmp_path)
    through = ThroughGateway(storage, Signer.generate(), SystemClock())
    await storage.write(KEY, b"hello")
    assert await through.look(KEY) == Stored(5)
    exists = storage.exists

    async def moved(key: str) -> bool:
        there = await exists(key)
        await storage.move(KEY, DONE)
        if then is not None:
            await storage.write(then, b"")
        return there

    monkeypatch.setattr(storage, "exists", moved)
    assert await through.look(KEY) is None
    assert await through.look(DONE) == Stored(5)
    await storage.close()
