"""Quarantine actions: load something after all, or give it up. Each may be pressed twice.

A replayed line becomes a plain object named after its quarantine id, created only if absent: the
ledger then loads it once for ever, however often and however interrupted the button is pressed. A
replayed object goes back to where it was pending.
"""

import hashlib
from dataclasses import replace
from typing import Any, Protocol

from spanyard_core.clock import Clock
from spanyard_core.errors import (
    BadRecordError,
    ObjectExistsError,
    ObjectNotFoundError,
    SpanyardError,
)
from spanyard_core.faults import fault_point
from spanyard_core.object_names import PENDING, PlainName, parse_key
from spanyard_core.records import SIGNALS
from spanyard_core.storage.protocol import Storage
from spanyard_ingester.filing import Filer, utc
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import (
    BadLine,
    Delete,
    Operation,
    Replay,
    quarantine_key,
)
from spanyard_ingester.warehouse import QuarantineRow, QuarantineStatus, Warehouse


class QuarantineStore(Protocol):
    """Rows of the quarantine. Raises DatabaseUnavailableError while it cannot answer."""

    async def get(self, name: str) -> QuarantineRow | None:
        """The row with this id in its latest version; None when there is none."""
        ...


class NotInQuarantineError(SpanyardError):
    """Nothing has this id."""


class CannotReplayError(SpanyardError):
    """It is in quarantine, but cannot be loaded in this way; the message says what can be done."""


class Quarantine:
    """Replay and delete."""

    def __init__(
        self,
        store: QuarantineStore,
        storage: Storage,
        warehouse: Warehouse,
        ledger: Ledger,
        filer: Filer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._storage = storage
        self._warehouse = warehouse
        self._ledger = ledger
        self._filer = filer
        self._clock = clock

    async def replay(self, name: str, text: str | None = None) -> dict[str, Any]:
        """Load it after all, a line with a corrected `text` if given.

        Raises NotInQuarantineError, CannotReplayError, BadRecordError (the text is not one line),
        StorageError and DatabaseError (press again).
        """
        row = await self._row(name)
        if row.status == "deleted":
            raise CannotReplayError(f"{name} was deleted from the quarantine")
        key = await (self._replay_line(row, text) if row.line else self._replay_object(row, text))
        await self._mark(row, "replayed")
        return {"id": name, "status": "replayed", "key": key}

    async def delete(self, name: str) -> dict[str, Any]:
        """Give it up: its text is cleared, a rejected object deleted.

        A line's text stays in the object that it came in, until that is deleted.
        """
        row = await self._row(name)
        await self._ledger.append(
            lambda state: [] if name in state.deleted else [Delete(ids=[name])],
            subject=f"delete {name}",
        )
        if not row.line:
            await self._storage.delete(quarantine_key(row.key))
        await self._mark(replace(row, bytes=b""), "deleted")
        return {"id": name, "status": "deleted"}

    async def _row(self, name: str) -> QuarantineRow:
        row = await self._store.get(name)
        if row is None:
            raise NotInQuarantineError(f"nothing in quarantine has the id {name[:80]!r}")
        return row

    async def _mark(self, row: QuarantineRow, status: QuarantineStatus) -> None:
        now = utc(self._clock.time_ns())
        # A clock that went back must not let the older row win.
        later = max(now, row.updated_at)
        await self._warehouse.quarantine_add([replace(row, status=status, updated_at=later)])

    async def _replay_line(self, row: QuarantineRow, text: str | None) -> str:
        if row.signal not in SIGNALS:
            raise CannotReplayError(f"the signal {row.signal!r} is unknown; nothing can load it")
        key = PlainName(row.signal, row.project, f"replay-{row.id}").key()  # type: ignore[arg-type]  # checked above
        parse_key(key)  # raises for a project that is none
        if row.id in self._ledger.state.replayed:
            return key  # written, and told to the ledger; where it is by now is the ledger's matter
        data = await self._text(row) if text is None else _one_line(text)
        try:
            await self._storage.write(key, data, if_absent=True)
        except ObjectExistsError:
            if await self._storage.digest(key) != hashlib.sha256(data).hexdigest():
                raise CannotReplayError(
                    f"{row.id} is being replayed already, with another text"
                ) from None
        fault_point("replay.written")
        await self._tell(row.id, key)
        return key

    async def _text(self, row: QuarantineRow) -> bytes:
        """The line as it was, whole."""
        line = BadLine(
            id=row.id, line=row.line, offset=row.offset, size=row.size, reason=row.reason
        )
        found = await self._filer.raw.lines(row.key, [line], most=max(row.size, 1))
        data = found.get(row.id, b"")
        if len(data) != row.size:
            if len(row.bytes) < row.size:
                raise CannotReplayError(
                    f"the object {row.key} is gone, and the quarantine keeps only the first "
                    f"{len(row.bytes)} of {row.size} bytes; replay with a corrected text"
                )
            data = row.bytes
        return data + b"\n"

    async def _replay_object(self, row: QuarantineRow, text: str | None) -> str:
        if text is not None:
            raise BadRecordError(f"{row.id} is a whole object; only a line can be given a new text")
        if not row.key.startswith(f"{PENDING}/"):
            raise CannotReplayError(
                f"{row.key} was found bad by a rebuild and lies where it was; rebuild again"
            )
        try:
            await self._storage.read(quarantine_key(row.key), length=1)
        except ObjectNotFoundError:
            if row.id in self._ledger.state.replayed:
                return row.key  # moved back before
            raise CannotReplayError(f"{quarantine_key(row.key)} is not there any more") from None
        await self._tell(row.id, row.key)
        fault_point("replay.written")
        await self._storage.move(quarantine_key(row.key), row.key)
        return row.key

    async def _tell(self, name: str, key: str) -> None:
        def build(state: LedgerState) -> list[Operation]:
            return [] if name in state.replayed else [Replay(id=name, key=key)]

        await self._ledger.append(build, subject=f"replay {name}")


def _one_line(text: str) -> bytes:
    line = text.removesuffix("\n")
    if "\n" in line or not line.strip():
        raise BadRecordError("the corrected text must be one line of JSON, without line breaks")
    try:
        return line.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise BadRecordError(f"the corrected text is not Unicode: {error.reason}") from error
