"""Ledgers for tests, on a storage that fails on demand."""

import random

from spanyard_core.errors import ObjectExistsError, StorageError
from spanyard_core.storage import Storage
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.operations import (
    LoadedObject,
    Note,
    Operation,
    Plan,
)
from tests.unit.ingester.bench import JumpingClock


def plan(attempt: int, first: int = 1, last: int = 10, writer: str = "w") -> Plan:
    item = LoadedObject(
        key=f"observability/logs/a.b/{writer}-{first}-{last}",
        size=1,
        sha256="00",
        project="a.b",
        writer=writer,
        first=first,
        last=last,
    )
    return Plan(attempt=attempt, table="logs", day="2026-11-21", objects=[item])


def note(text: str = "") -> list[Operation]:
    return [Note(text=text)]


class Losing:
    """A storage that fails on demand, before or after the deed."""

    def __init__(self, storage: Storage) -> None:
        self.inner = storage
        self.fail: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        how = self.fail.pop(0) if self.fail else ""
        if how == "before":
            raise StorageError("reset")
        await self.inner.write(key, data, if_absent=if_absent)
        if how == "after":
            raise StorageError("reset")
        if how == "twice":  # the client library tried again by itself
            raise ObjectExistsError(key)


def ledger(storage: object, owner: str = "one", seed: int = 1, clock: object = None) -> Ledger:
    return Ledger(
        storage,  # type: ignore[arg-type]
        clock or JumpingClock(),  # type: ignore[arg-type]
        random.Random(f"{owner}{seed}"),
        owner=owner,
    )
