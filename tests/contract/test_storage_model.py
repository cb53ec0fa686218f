"""Every storage against a dict, under random calls."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from spanyard_core.errors import ObjectExistsError, ObjectNotFoundError
from spanyard_core.storage import Storage, digest_of
from tests.contract.storages import BACKENDS, Open, opener

T = TypeVar("T")

# Neighbours in byte order, in directory order and in neither. A directory cannot hold both `a`
# and `a/b`, so no key is another one's folder.
KEYS = ["a/1", "a/10", "a/2", "a-b/1", "a.b", "a0", "b/c/d", "b/c/e", "b/c-/d", "ü/x", "é"]
PREFIXES = ["", "a", "a/", "a/1", "a-", "b", "b/", "b/c", "b/c/", "b/c/d", "u", "ü", "zz/y"]

any_key = st.sampled_from(KEYS)
any_data = st.sampled_from([b"", b"0123456789", bytes(range(256)) * 300]) | st.binary(max_size=20)


class StorageMachine(RuleBasedStateMachine):
    """What the storage holds is what the dict holds, whatever is called."""

    new_place: Callable[[], Open]
    """Set by a subclass per backend; each run gets a place of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.open_place = type(self).new_place()
        self.storage: Storage = self.open_place()
        self.runner = asyncio.Runner()
        self.model: dict[str, bytes] = {}

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    async def keys(self, prefix: str = "", after: str = "") -> list[tuple[str, int]]:
        return [(i.key, i.size) async for i in self.storage.list(prefix, after=after)]

    def expected(self, prefix: str = "", after: str = "") -> list[tuple[str, int]]:
        lower = after.encode()
        return [
            (key, len(self.model[key]))
            for key in sorted(self.model, key=str.encode)
            if key.startswith(prefix) and key.encode() > lower
        ]

    def teardown(self) -> None:
        for key in self.model:
            self.run(self.storage.delete(key))
        self.run(self.storage.close())
        self.runner.close()

    @rule(key=any_key, data=any_data)
    def write(self, key: str, data: bytes) -> None:
        self.run(self.storage.write(key, data))
        self.model[key] = data

    @rule(key=any_key, data=any_data)
    def create(self, key: str, data: bytes) -> None:
        if key in self.model:
            with pytest.raises(ObjectExistsError):
                self.run(self.storage.write(key, data, if_absent=True))
        else:
            self.run(self.storage.write(key, data, if_absent=True))
            self.model[key] = data

    @rule(source=any_key, destination=any_key)
    def move(self, source: str, destination: str) -> None:
        if source in self.model:
            self.run(self.storage.move(source, destination))
            self.model[destination] = self.model.pop(source)
        elif destination in self.model:
            self.run(self.storage.move(source, destination))
        else:
            with pytest.raises(ObjectNotFoundError):
                self.run(self.storage.move(source, destination))

    @rule(key=any_key)
    def delete(self, key: str) -> None:
        self.run(self.storage.delete(key))
        self.model.pop(key, None)

    @rule(key=any_key, start=st.integers(0, 30), length=st.none() | st.integers(0, 30))
    def read(self, key: str, start: int, length: int | None) -> None:
        if key not in self.model:
            with pytest.raises(ObjectNotFoundError):
                self.run(self.storage.read(key, start=start, length=length))
            return
        wanted = self.model[key][start:] if length is None else self.model[key][start:][:length]
        assert self.run(self.storage.read(key, start=start, length=length)) == wanted
        assert self.run(self.storage.digest(key)) == digest_of(self.model[key])

    @rule(key=any_key)
    def exists(self, key: str) -> None:
        assert self.run(self.storage.exists(key)) == (key in self.model)

    @rule(prefix=st.sampled_from(PREFIXES), after=st.sampled_from([*KEYS, *PREFIXES]))
    def list(self, prefix: str, after: str) -> None:
        assert self.run(self.keys(prefix, after)) == self.expected(prefix, after)

    @rule()
    def reopen(self) -> None:
        self.run(self.storage.close())
        self.storage = self.open_place()

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        assert self.run(self.keys()) == self.expected()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_storage_is_a_dict(backend: str, request: pytest.FixtureRequest) -> None:
    class Machine(StorageMachine):
        new_place = staticmethod(lambda: opener(backend, request))

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
