"""A bucket as bad as a real one: errors before and after the deed, late zombies, slow listings.

A request lives in the bucket, not in the process that sent it: when the process is killed while
it waits, the request may still be carried out. `SimStorage` is the Storage seam of one process.
"""

import asyncio
import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.faults import fault_point
from spanyard_core.storage.keys import check_key, check_prefix, digest_of
from spanyard_core.storage.protocol import ObjectInfo
from tests.sim.process import Process, current_process


class Fate(Enum):
    """What becomes of one request."""

    DONE = auto()
    NOT_DONE = auto()
    """An error, and nothing happened."""
    ANSWER_LOST = auto()
    """Carried out, but the caller sees an error."""
    TRIED_TWICE = auto()
    """Carried out, the answer lost, and the client library tried again by itself."""
    ZOMBIE = auto()
    """The caller sees an error at once, the request is carried out much later."""


@dataclass
class Weather:
    """How bad the bucket is at the moment. Shares are of all requests."""

    rng: random.Random
    not_done: float = 0.0
    answer_lost: float = 0.0
    tried_twice: float = 0.0
    zombie: float = 0.0
    zombie_seconds: float = 60.0
    latency: float = 0.0
    """Mean seconds on the way there, and again on the way back."""
    slow: float = 0.0
    """Share of requests that take `slow_seconds`."""
    slow_seconds: float = 10.0
    away: bool = False
    """Nobody answers."""
    refused: bool = False
    """Credentials are wrong."""

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.not_done = self.answer_lost = self.tried_twice = 0.0
        self.zombie = self.slow = 0.0
        self.away = self.refused = False

    def fate(self) -> Fate:
        if self.away:
            return Fate.NOT_DONE
        x = self.rng.random()
        for share, fate in (
            (self.not_done, Fate.NOT_DONE),
            (self.answer_lost, Fate.ANSWER_LOST),
            (self.tried_twice, Fate.TRIED_TWICE),
            (self.zombie, Fate.ZOMBIE),
        ):
            if x < share:
                return fate
            x -= share
        return Fate.DONE

    def way(self) -> float:
        if self.slow and self.rng.random() < self.slow:
            return self.rng.uniform(0, self.slow_seconds)
        return self.rng.uniform(0, 2 * self.latency) if self.latency else 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    data: bytes
    modified_ns: int


class Bucket:
    """The objects, and the requests under way."""

    def __init__(
        self,
        time_ns: Callable[[], int],
        *,
        weather: Weather | None = None,
        page: int = 1000,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.objects: dict[str, Stored] = {}
        self.weather = weather or Weather(random.Random(0))
        self.page = page
        self.note = note
        self.under_way = 0
        """Requests that will still do something."""
        self._keys: list[str] = []
        self._time_ns = time_ns
        self._world = copy_context()

    def view(self, process: Process | None = None) -> "SimStorage":
        """The Storage seam for one process."""
        return SimStorage(self, process)

    # -- what a request does, at one instant ---------------------------------------------------

    def put(self, key: str, data: bytes, if_absent: bool) -> None:
        if key in self.objects:
            if if_absent:
                raise ObjectExistsError(f"sim:/{key} exists already")
        else:
            insort(self._keys, key)
        self.objects[key] = Stored(data, self._time_ns())

    def get(self, key: str) -> bytes:
        try:
            return self.objects[key].data
        except KeyError:
            raise ObjectNotFoundError(f"sim:/{key} does not exist") from None

    def remove(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def copy(self, source: str, target: str) -> None:
        if source not in self.objects:
            if target not in self.objects:
                raise ObjectNotFoundError(f"neither sim:/{source} (from) nor {target} (to) exists")
            return
        self.put(target, self.objects[source].data, False)

    def keys(self, prefix: str = "", after: str = "") -> list[str]:
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        found = []
        for key in self._keys[start:]:
            if not key.startswith(prefix):
                break
            found.append(key)
            if len(found) == self.page:
                break
        return found

    # -- requests ------------------------------------------------------------------------------

    async def serve(
        self,
        name: str,
        act: Callable[[], Any],
        *,
        changes: bool = False,
    ) -> Any:
        """Carry out `act` for a caller who may die meanwhile; his answer, or StorageError."""
        weather = self.weather
        if weather.refused:
            raise StorageRefusedError(f"{name}: access denied")
        fate = weather.fate()
        there, back = weather.way(), weather.way()
        if not changes and fate is not Fate.DONE:
            fate = Fate.NOT_DONE
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        caller = current_process()

        def reply(result: Any, error: Exception | None) -> None:
            if not answer.done() and (caller is None or caller.alive):
                if error is None:
                    answer.set_result(result)
                else:
                    answer.set_exception(error)

        self.under_way += 1

        def land() -> None:
            self.under_way -= 1
            result: Any = None
            error: Exception | None = None
            if fate is Fate.NOT_DONE:
                error = StorageError(f"{name}: 503 (nothing was done)")
            else:
                result, error = _attempt(act)
                if fate is Fate.TRIED_TWICE and error is None:
                    result, error = _attempt(act)
                elif fate is not Fate.DONE and error is None:
                    error = StorageError(f"{name}: connection reset (the answer is lost)")
            if fate is not Fate.DONE or isinstance(error, ObjectExistsError):
                self.note(f"storage {fate.name.lower()}: {name}: {error!r}")
            if back:
                loop.call_later(back, reply, result, error, context=self._world.copy())
            else:
                reply(result, error)

        def walk() -> None:
            self.under_way -= 1
            self.note(f"storage zombie lands: {name}: {_attempt(act)[1]!r}")

        if fate is Fate.ZOMBIE:
            late = weather.rng.uniform(0, weather.zombie_seconds)
            loop.call_later(there + late, walk, context=self._world.copy())
            error = StorageError(f"{name}: timed out")
            self.note(f"storage zombie leaves: {name}")
            loop.call_later(there, reply, None, error, context=self._world.copy())
        else:
            loop.call_later(there, land, context=self._world.copy())
        return await answer


def _attempt(act: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return act(), None
    except StorageError as error:
        return None, error


Infos = list[ObjectInfo]


class SimStorage:
    """The Storage seam of one process."""

    def __init__(self, bucket: Bucket, process: Process | None) -> None:
        self._bucket = bucket
        self._process = process
        self._closed = False

    @property
    def url(self) -> str:
        return "sim:///"

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        bucket = self._check(key)
        data = bytes(data)
        await bucket.serve(f"put {key}", lambda: bucket.put(key, data, if_absent), changes=True)

    async def write_file(self, key: str, path: Path) -> None:
        await self.write(key, path.read_bytes())

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        bucket = self._check(key)
        data: bytes = await bucket.serve(f"get {key}", lambda: bucket.get(key))
        return data[start : None if length is None else start + length]

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        return Listing(self, prefix, after)

    async def delete(self, key: str) -> None:
        bucket = self._check(key)
        await bucket.serve(f"delete {key}", lambda: bucket.remove(key), changes=True)

    async def move(self, source: str, target: str) -> None:
        bucket = self._check(source, target)
        await bucket.serve(
            f"copy {source} to {target}", lambda: bucket.copy(source, target), changes=True
        )
        fault_point("ingest.copied")
        if source != target:
            await bucket.serve(f"delete {source}", lambda: bucket.remove(source), changes=True)

    async def exists(self, key: str) -> bool:
        bucket = self._check(key)
        return bool(await bucket.serve(f"head {key}", lambda: key in bucket.objects))

    async def digest(self, key: str) -> str:
        bucket = self._check(key)
        return digest_of(await bucket.serve(f"digest {key}", lambda: bucket.get(key)))

    def local_path(self, key: str) -> Path | None:
        self._check(key)
        return None

    async def close(self) -> None:
        self._closed = True

    def _check(self, *keys: str) -> Bucket:
        if self._process is not None:
            self._process.check()
        if self._closed:
            raise StorageRefusedError("sim:/// is closed")
        for key in keys:
            check_key(key)
        return self._bucket

    async def page(self, prefix: str, after: str) -> Infos:
        bucket = self._check()
        check_prefix(prefix)

        def act() -> Any:
            infos = []
            for key in bucket.keys(prefix, after):
                stored = bucket.objects[key]
                infos.append(ObjectInfo(key, len(stored.data), stored.modified_ns))
            return infos

        infos: Infos = await bucket.serve(f"list {prefix} after {after}", act)
        return infos


class Listing:
    """A listing under way. Not a generator: one that is left early must leave nothing to do."""

    def __init__(self, storage: SimStorage, prefix: str, after: str) -> None:
        self._storage, self._prefix, self._after = storage, prefix, after
        self._infos: list[ObjectInfo] = []
        self._last = False

    def __aiter__(self) -> "Listing":
        return self

    async def __anext__(self) -> ObjectInfo:
        if not self._infos:
            if self._last:
                raise StopAsyncIteration
            self._infos = (await self._storage.page(self._prefix, self._after))[::-1]
            self._last = len(self._infos) < self._storage._bucket.page
            if not self._infos:
                raise StopAsyncIteration
        info = self._infos.pop()
        self._after = info.key
        return info

    async def aclose(self) -> None:
        self._infos.clear()
        self._last = True
