"""Pending objects: what waits under `observability/`, found by hints and by listing.

Hints make it quick, listing makes it complete. Both only name keys; each key is parsed strictly,
its head is read, and then it is ready, covered (loaded before), or to be rejected. Foreign files
are told once and never touched. Nothing here waits for anything bad: rejected and foreign keys
take no place, so ten thousand of them ahead of a good object cost their listing and nothing more.
"""

import asyncio
import heapq
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import PENDING, ChunkName, PlainName, check_project, parse_key
from spanyard_core.records import SIGNALS, Signal
from spanyard_core.storage.protocol import ObjectInfo, Storage
from spanyard_ingester.ledger_state import LedgerState
from spanyard_ingester.operations import scope_of_name, tail_of
from spanyard_ingester.planner import Limits, Ready, is_covered

log = logging.getLogger("spanyard.ingester")

_FOREIGN_REMEMBERED = 10_000
_COUNTED_PER_LISTING = 200_000
"""Keys that one listing counts for the backlog metrics after its places are full."""


@dataclass(slots=True)
class Candidate:
    """A key whose head was not read yet."""

    key: str
    name: ChunkName | PlainName
    since: float
    size: int | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A key that can be told from its name to belong into quarantine."""

    key: str
    signal: str
    project: str
    reason: str
    size: int


@dataclass(slots=True)
class Backlog:
    """What the last listing saw."""

    objects: int = 0
    bytes: int = 0
    oldest_ns: int = 0
    """Modification time of the oldest pending object; 0 when there is none."""
    foreign: int = 0
    complete: bool = True
    """Whether the listing came to its end."""


@dataclass(slots=True)
class Queues:
    """Things per project, taken from each project in turn."""

    by_project: OrderedDict[str, deque[Candidate]] = field(default_factory=OrderedDict)
    size: int = 0

    def put(self, item: Candidate) -> None:
        self.by_project.setdefault(item.name.project, deque()).append(item)
        self.size += 1

    def take(self, most: int) -> list[Candidate]:
        """Up to `most`, one of each project in turn; the turn goes on where it stopped."""
        taken: list[Candidate] = []
        while self.by_project and len(taken) < most:
            project, queue = self.by_project.popitem(last=False)
            taken.append(queue.popleft())
            if queue:
                self.by_project[project] = queue
        self.size -= len(taken)
        return taken


class Pending:
    """Keys on their way from a name to a batch, `limit` of them at most."""

    def __init__(
        self,
        storage: Storage,
        *,
        limit: int,
        keep: bool,
        monotonic: Callable[[], float],
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        self._storage = storage
        self._limit = limit
        self._keep = keep
        self._monotonic = monotonic
        self._shard = shard
        self._shards = shards
        self._known: set[str] = set()
        self._new = Queues()
        self._ready: dict[Signal, OrderedDict[str, deque[Ready]]] = {}
        self._delayed: list[tuple[float, int, Candidate]] = []
        self._delays = 0
        self._foreign: set[str] = set()
        self._resume = ""
        self.backlog = Backlog()
        self.hints_taken = 0
        self.hints_dropped = 0
        self.unwanted: deque[Unwanted] = deque()
        """Found by listing, to be rejected; bounded by `limit`."""
        self.ready_objects = 0
        self.arrived = asyncio.Event()
        """Set when there are new candidates."""
        self.became_ready = asyncio.Event()
        """Set when there is something to load."""

    def hint(self, keys: Iterable[str], state: LedgerState) -> int:
        """Take keys that a collector says it has stored; how many were taken.

        What does not parse is ignored (listing will find it, if it is there at all); what finds
        no place is counted as dropped. Half of the places are the listing's, whatever is hinted.
        """
        taken = 0
        for key in keys:
            try:
                name = parse_key(key)
            except BadRecordError:
                continue
            if name.root != PENDING or key in self._known:
                continue
            if self.is_crowded:
                self.hints_dropped += 1
                continue
            taken += self._add(key, name, None, state)
        self.hints_taken += taken
        return taken

    async def list_once(self, state: LedgerState) -> None:
        """Walk the listing once, from where the last walk ran out of places.

        `state` is the ledger's living state: it moves on while the listing goes. Raises
        StorageError.
        """
        backlog = Backlog(complete=False)
        start = self._resume
        self._resume = ""
        places_left = True
        previous = start
        async for info in self._storage.list(f"{PENDING}/", after=start):
            backlog.objects += 1
            backlog.bytes += info.size
            backlog.oldest_ns = min(backlog.oldest_ns or info.modified_ns, info.modified_ns)
            if places_left and not self._listed(info, state, backlog):
                self._resume = previous
                places_left = False
            if not places_left and backlog.objects > _COUNTED_PER_LISTING:
                break
            previous = info.key
        else:
            backlog.complete = not start
        self.backlog = backlog

    def _listed(self, info: ObjectInfo, state: LedgerState, backlog: Backlog) -> bool:
        """Deal with a listed key; False when there is no place for it."""
        key = info.key
        if key in self._known or tail_of(key) in state.rejected:
            return True
        if key in self._foreign:
            backlog.foreign += 1
            return True
        try:
            name = parse_key(key)
        except BadRecordError as error:
            unwanted = _unknown_signal(info, str(error))
            if unwanted is None:
                backlog.foreign += 1
                self._report_foreign(key, str(error))
            elif len(self.unwanted) >= self._limit:
                return False
            else:
                self._known.add(key)
                self.unwanted.append(unwanted)
            return True
        if len(self._known) >= self._limit:
            return False
        self._add(key, name, info.size, state)
        return True

    def _report_foreign(self, key: str, why: str) -> None:
        if len(self._foreign) < _FOREIGN_REMEMBERED:  # beyond that, the metric tells
            self._foreign.add(key)
            log.warning("a foreign file lies among the pending objects and is left alone: %s", why)

    def _add(
        self, key: str, name: ChunkName | PlainName, size: int | None, state: LedgerState
    ) -> bool:
        if self._shards > 1 and shard_of(name, self._shards) != self._shard:
            return False
        if self._keep and is_covered(Ready(key, name, size or 0, 0), state):
            return False  # kept after loading: that's where it stays
        self._known.add(key)
        self._new.put(Candidate(key, name, self._monotonic(), size))
        self.arrived.set()
        return True

    def candidates(self, most: int) -> list[Candidate]:
        """Keys whose heads are to be read now, projects in turn."""
        now = self._monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            self._new.put(heapq.heappop(self._delayed)[2])
        return self._new.take(most)

    def ready(self, item: Ready) -> None:
        """This one can go into a batch."""
        projects = self._ready.setdefault(item.table, OrderedDict())
        projects.setdefault(item.name.project, deque()).append(item)
        self.ready_objects += 1
        self.became_ready.set()

    def again(self, candidate: Candidate, delay: float) -> None:
        """Look at this one again in `delay` seconds."""
        self._known.add(candidate.key)
        self._delays += 1
        heapq.heappush(self._delayed, (self._monotonic() + delay, self._delays, candidate))
        self.arrived.set()

    def retry(self, item: Ready, delay: float = 0.0) -> None:
        """Look at this one again, from its head."""
        self.again(Candidate(item.key, item.name, item.since, item.size), delay)

    def forget(self, key: str) -> None:
        """This key is dealt with; a listing that still sees it starts anew with it."""
        self._known.discard(key)

    def adopt(self, keys: Iterable[str]) -> None:
        """Take objects that no listing finds (a rebuild's), as far as there are places."""
        for key in keys:
            if key not in self._known:
                if len(self._known) >= self._limit:
                    return
                self._known.add(key)
                self._new.put(Candidate(key, parse_key(key), self._monotonic()))
                self.arrived.set()

    def tables(self) -> list[Signal]:
        """Tables with ready objects, the one with the longest waiting first."""
        oldest = {
            table: min(queue[0].since for queue in projects.values())
            for table, projects in self._ready.items()
            if projects
        }
        return sorted(oldest, key=lambda table: oldest[table])

    def queues(self, table: Signal) -> Iterator[deque[Ready]]:
        """The ready objects of a table, a queue per project."""
        return iter(list(self._ready.get(table, {}).values()))

    def take(self, table: Signal, chosen: Iterable[Ready]) -> None:
        """Remove what `planner.choose` took from the front of the queues, and turn them."""
        projects = self._ready[table]
        for item in chosen:
            project = item.name.project
            queue = projects[project]
            self.ready_objects -= 1
            if queue.popleft() is not item:
                raise AssertionError("objects are taken from the front of their queues")
            if queue:
                projects.move_to_end(project)
            else:
                del projects[project]

    def oldest(self, table: Signal) -> float:
        """When the longest waiting object of a table was first seen, monotonic seconds."""
        return min(queue[0].since for queue in self._ready[table].values())

    def is_full(self, table: Signal, limits: Limits) -> bool:
        """Whether what is ready for a table fills a batch."""
        objects = rows = decoded = 0
        for queue in self._ready.get(table, {}).values():
            for item in queue:
                objects += 1
                rows += item.rows
                decoded += item.decoded
                if objects >= limits.objects or rows >= limits.rows or decoded >= limits.decoded:
                    return True
        return False

    @property
    def next_due(self) -> float | None:
        """Seconds until a delayed key is to be looked at; None when there is none."""
        if not self._delayed:
            return None
        return max(self._delayed[0][0] - self._monotonic(), 0.0)

    @property
    def is_crowded(self) -> bool:
        """Whether half of the places are taken."""
        return len(self._known) >= self._limit // 2

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known that is not dealt with."""
        return not self._known

    @property
    def waiting(self) -> int:
        """Number of keys whose heads are to be read."""
        return self._new.size

    @property
    def held(self) -> int:
        """Number of keys known."""
        return len(self._known)


def shard_of(name: ChunkName | PlainName, shards: int) -> int:
    """The shard that loads an object: all of one writer go to one."""
    return int(scope_of_name(name).rpartition("/")[2], 16) % shards


def _unknown_signal(info: ObjectInfo, reason: str) -> Unwanted | None:
    """The object as one of ours but for its signal, or None for a foreign file."""
    parts = info.key.split("/")
    if len(parts) != 4 or parts[1] in SIGNALS:
        return None
    # The same name under a known signal tells whether the rest of it is ours.
    try:
        check_project(parts[2])
        parse_key("/".join((PENDING, "logs", *parts[2:])))
    except BadRecordError:
        return None
    return Unwanted(info.key, parts[1], parts[2], reason, info.size)
