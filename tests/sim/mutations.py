"""Protections taken out, one at a time: what the checker must notice.

Each mutation patches the code under test for the length of a `with` block. What they remove is
named in the design under "Built to be proven" and "Must hold".
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from spanyard_core.files import Buffer, Files
from spanyard_ingester.attempts import Attempts
from spanyard_ingester.ledger import Ledger
from spanyard_ingester.recovery import Recovery
from spanyard_ingester.verify import Stored
from spanyard_sidecar.budget import DiskBudget
from spanyard_sidecar.cri_state import CriState
from spanyard_sidecar.gateway import GatewayIndex
from spanyard_sidecar.model import Block, NewObject, State
from spanyard_sidecar.otlp.receipts import Receipts
from spanyard_sidecar.spanfile import SpanFileSource
from spanyard_sidecar.spool import Spool
from spanyard_sidecar.tailer import CriSource
from spanyard_sidecar.uploader import Uploader
from tests.sim.bucket import SimStorage
from tests.sim.diskfiles import SimAppendFile, SimFiles
from tests.sim.process import current_process
from tests.sim.warehouse import SimWarehouse

Mutation = Callable[[], contextlib.AbstractContextManager[Any]]


@contextlib.contextmanager
def no_directory_sync() -> Iterator[None]:
    """The directory is not synced after the rename."""

    async def sync_dir(self: SimFiles, path: str) -> None:
        self.disk()

    with patch.object(SimFiles, "sync_dir", sync_dir):
        yield


@contextlib.contextmanager
def no_directory_sync_at_recovery() -> Iterator[None]:
    """A spool that is opened again takes what it sees for durable."""
    original = Spool.open.__func__  # type: ignore[attr-defined]  # a class method's function

    async def open_unsynced(cls: type[Spool], files: Files, *args: Any, **kwargs: Any) -> Spool:
        with no_directory_sync():
            found: Spool = await original(cls, files, *args, **kwargs)
        return found

    with patch.object(Spool, "open", classmethod(open_unsynced)):
        yield


@contextlib.contextmanager
def no_file_sync() -> Iterator[None]:
    """An entry is renamed before its bytes are synced."""

    async def write_carelessly(
        files: Files, path: str, parts: Sequence[Buffer], *, faults: str = ""
    ) -> None:
        out = files.open_append(path + ".tmp")
        for part in parts:
            out.write(part)
        out.close()
        files.rename(path + ".tmp", path)
        await files.sync_dir(path.rpartition("/")[0])

    with patch("spanyard_sidecar.spool.write_durably", write_carelessly):
        yield


@contextlib.contextmanager
def upload_before_spool() -> Iterator[None]:
    """Objects go to storage before they are in the spool."""
    storages: dict[object, Any] = {}
    make, commit = Uploader.__init__, Spool.commit

    def remember(self: Uploader, book: Any, storage: Any, **kwargs: Any) -> None:
        storages[book.spool] = storage
        make(self, book, storage, **kwargs)

    async def commit_late(
        self: Spool,
        objects: Sequence[NewObject],
        states: Mapping[str, State | None],
        **kwargs: Any,
    ) -> int:
        for item in objects:
            with contextlib.suppress(Exception):
                await storages[self].write(item.key, b"".join(item.parts), if_absent=True)
        return await commit(self, objects, states, **kwargs)

    with (
        patch.object(Uploader, "__init__", remember),
        patch.object(Spool, "commit", commit_late),
        patch.object(Spool, "__hash__", object.__hash__),
    ):
        yield


@contextlib.contextmanager
def checkpoint_before_delivery() -> Iterator[None]:
    """A reader's place is made durable before the records that it read."""
    commit = Spool.commit

    async def commit_twice(
        self: Spool,
        objects: Sequence[NewObject],
        states: Mapping[str, State | None],
        **kwargs: Any,
    ) -> int:
        if objects and states:
            await commit(self, [], states)
        return await commit(self, objects, {}, **kwargs)

    with patch.object(Spool, "commit", commit_twice):
        yield


@contextlib.contextmanager
def otlp_answered_before_its_sync() -> Iterator[None]:
    """OTLP requests are acknowledged when they are written, not when they are durable."""
    sync = SimAppendFile.sync

    async def sync_others(self: SimAppendFile) -> None:
        if "/otlp/" not in self._path:
            await sync(self)

    with patch.object(SimAppendFile, "sync", sync_others):
        yield


@contextlib.contextmanager
def otlp_resends_not_known() -> Iterator[None]:
    """A request that comes again is stored again."""
    with patch.object(Receipts, "find", lambda self, digest: None):
        yield


@contextlib.contextmanager
def insert_believed() -> Iterator[None]:
    """An insert's success is taken for the rows' being there: nothing is read back."""
    stored = Attempts.stored

    async def believe(self: Attempts, plan: Any) -> tuple[Stored, str]:
        await stored(self, plan)
        return Stored.ALL, ""

    with patch.object(Attempts, "stored", believe):
        yield


@contextlib.contextmanager
def ledger_overwrites() -> Iterator[None]:
    """Ledger entries are put without "only if absent"."""
    write = SimStorage.write

    async def overwrite(
        self: SimStorage, key: str, data: bytes, *, if_absent: bool = False
    ) -> None:
        await write(self, key, data, if_absent=if_absent and not key.startswith("ledger/"))

    with patch.object(SimStorage, "write", overwrite):
        yield


@contextlib.contextmanager
def ledger_trusts_the_first_answer() -> Iterator[None]:
    """An entry that exists already is taken for one's own."""
    put = Ledger._put

    async def believe(self: Ledger, entry: Any) -> bool:
        await put(self, entry)
        return True

    with patch.object(Ledger, "_put", believe):
        yield


@contextlib.contextmanager
def no_audit() -> Iterator[None]:
    """Nobody looks for rows of attempts that were given up."""

    async def audit(self: Recovery) -> int:
        return 0

    with patch.object(Recovery, "audit", audit):
        yield


@contextlib.contextmanager
def attempts_not_cleaned() -> Iterator[None]:
    """Rows of an attempt that was given up stay."""

    async def clean(self: Attempts, plan: Any) -> None:
        current_process()

    with patch.object(Attempts, "clean", clean), no_audit():
        yield


@contextlib.contextmanager
def new_epoch_does_not_ask() -> Iterator[None]:
    """After the loss of the spool everything is read from the start."""

    async def nothing(self: GatewayIndex, project: str, fingerprint: str) -> None:
        return None

    with patch.object(GatewayIndex, "stored_through", nothing):
        yield


@contextlib.contextmanager
def gaps_not_told() -> Iterator[None]:
    """What was lost of a container's log is passed over."""
    tell = CriSource._tell

    def tell_nobody(self: CriSource, *args: Any, **kwargs: Any) -> Block:
        return replace(tell(self, *args, **kwargs), gaps=())

    with patch.object(CriSource, "_tell", tell_nobody):
        yield


@contextlib.contextmanager
def derived_tables_not_filled() -> Iterator[None]:
    """Rows are committed without their derived ones."""

    async def derive(self: SimWarehouse, attempt: int, table: str, day: Any) -> None:
        self._check()

    with patch.object(SimWarehouse, "derive", derive):
        yield


@contextlib.contextmanager
def spool_without_limit() -> Iterator[None]:
    """Nobody looks at the spool's limit."""

    def reserve(self: DiskBudget, size: int) -> None:
        self.used += size

    with patch.object(DiskBudget, "reserve", reserve):
        yield


@contextlib.contextmanager
def half_lines_given_up_at_once() -> Iterator[None]:
    """A partial line is not waited for."""
    with patch.object(CriSource, "_state_in", lambda self, file: CriState(self._seq, self._time)):
        yield


@contextlib.contextmanager
def locks_not_looked_at_in_the_end() -> Iterator[None]:
    """A collector that ends believes what it saw of a span file's lock before."""
    with patch.object(SpanFileSource, "finish", lambda self: None):
        yield
