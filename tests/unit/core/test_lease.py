"""The Lease under virtual time: never two at work, whatever clocks, network and chance do."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from spanyard_core.kube import KubeError, KubeUnavailableError
from spanyard_core.kube.lease import Lease, LeaseLostError, LeaseTimes
from tests.sim.clock import SimClock, WallClock
from tests.sim.loop import run

TIMES = LeaseTimes()


class Leases:
    """The API server's part: one Lease, versions, conflicts."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 0

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.stored = {**body, "metadata": metadata}
        return self.stored


class Way:
    """One process's way to it: slow, cut off, or losing answers."""

    def __init__(self, leases: Leases, rng: random.Random) -> None:
        self.leases = leases
        self.rng = rng
        self.is_cut = False
        self.loses_answers = False
        self.hangs = False
        self.latency = 0.02
        self.writes: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[None]:
        await asyncio.sleep(self.latency * self.rng.random())
        if self.is_cut:
            raise KubeUnavailableError("no route")
        yield
        await asyncio.sleep(self.latency * self.rng.random())
        if self.hangs:
            await asyncio.sleep(3600)
        if self.loses_answers and self.rng.random() < 0.5:
            raise KubeUnavailableError("the answer was lost")

    async def get(self, api: Any, name: str, namespace: str = "", **more: Any) -> Any:
        async with self._request():
            return self.leases.stored

    async def create(self, api: Any, body: Any, namespace: str = "", **more: Any) -> Any:
        async with self._request():
            if self.leases.stored is not None:
                raise KubeError("it is there", status=409, reason="AlreadyExists")
            self.writes["create", "leases"] += 1
            return self.leases.put(body)

    async def merge(self, api: Any, name: str, patch: Any, namespace: str = "", **more: Any) -> Any:
        async with self._request():
            found = self.leases.stored
            if found is None:
                return None
            wanted = patch["metadata"]
            if wanted["resourceVersion"] != found["metadata"]["resourceVersion"]:
                raise KubeError("it has changed", status=409, reason="Conflict")
            self.writes["patch", "leases"] += 1
            metadata = {**found["metadata"], **wanted}
            spec = {**found["spec"], **patch["spec"]}
            return self.leases.put({**found, "metadata": metadata, "spec": spec})


class Working:
    """Who works when: it fails as soon as two do."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.begun: list[tuple[float, str]] = []
        self.most = 0

    async def work(self, name: str) -> None:
        self.now.add(name)
        self.most = max(self.most, len(self.now))
        self.begun.append((asyncio.get_running_loop().time(), name))
        try:
            await asyncio.sleep(1e9)
        finally:
            self.now.discard(name)


def lease(way: Way, holder: str, *, skew: float = 0.0, fenced: bool = False) -> Lease:
    wall = WallClock()
    wall.jump(skew)
    return Lease(
        way,  # type: ignore[arg-type]  # what a Lease needs of Kube
        "spanyard", "ingester-0", holder,
        clock=SimClock(wall), fenced=fenced, annotations={"spanyard.dev/address": f"http://{holder}"},
    )  # fmt: skip


async def process(way: Way, name: str, working: Working, *, skew: float = 0.0) -> None:
    """Restarted whenever it lost the Lease, as in a pod."""
    while True:
        try:
            await lease(way, name, skew=skew).run(working.work(name))
        except LeaseLostError:
            await asyncio.sleep(1)


class TestTwo:
    """What one pair of processes lives through."""

    def test_one_works_and_the_other_takes_over_within_twelve_seconds_of_a_kill(self) -> None:
        async def history() -> None:
            leases, working, rng = Leases(), Working(), random.Random(1)
            for kill_at in range(40):  # every moment between two renewals
                leases.stored = None
                working.begun.clear()
                ways = [Way(leases, rng), Way(leases, rng)]
                one = asyncio.create_task(process(ways[0], "one", working))
                await asyncio.sleep(1)
                two = asyncio.create_task(process(ways[1], "two", working, skew=-5000))
                await asyncio.sleep(9 + kill_at / 10)
                assert [name for _, name in working.begun] == ["one"]
                killed = asyncio.get_running_loop().time()
                ways[0].is_cut = True  # no release: kill -9
                one.cancel()
                await asyncio.gather(one, return_exceptions=True)
                await asyncio.sleep(14)
                assert [name for _, name in working.begun] == ["one", "two"]
                waited = working.begun[1][0] - killed
                assert TIMES.duration - TIMES.renew_every - 1 < waited
                assert waited < TIMES.duration + TIMES.renew_every + 0.5
                two.cancel()
                await asyncio.gather(two, return_exceptions=True)

        run(history())

    def test_who_ends_in_order_leaves_it_to_the_next_at_once(self) -> None:
        async def history() -> None:
            leases, working, rng = Leases(), Working(), random.Random(1)
            one = asyncio.create_task(process(Way(leases, rng), "one", working))
            await asyncio.sleep(1)
            two = asyncio.create_task(process(Way(leases, rng), "two", working))
            await asyncio.sleep(20)
            ended = asyncio.get_running_loop().time()
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            await asyncio.sleep(5)
            assert working.begun[-1][1] == "two"
            assert working.begun[-1][0] - ended <= TIMES.renew_every + 0.5
            two.cancel()
            await asyncio.gather(two, return_exceptions=True)
            assert leases.stored is not None
            assert leases.stored["spec"]["holderIdentity"] == ""

        run(history())

    def test_who_ends_in_the_middle_of_a_renewal_leaves_it_to_the_next_at_once(self) -> None:
        async def history() -> None:
            leases, working = Leases(), Working()
            way = Way(leases, random.Random(1))
            one = asyncio.create_task(lease(way, "one").run(working.work("one")))
            await asyncio.sleep(1)
            version, way.hangs = leases.version, True
            while leases.version == version:
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)  # the renewal is made, its answer still on the way
            way.hangs = False
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            assert leases.stored is not None
            assert leases.stored["spec"]["holderIdentity"] == ""

        run(history())

    def test_who_ends_leaves_a_lease_alone_that_another_has_taken_meanwhile(self) -> None:
        async def history() -> None:
            leases, working = Leases(), Working()
            way = Way(leases, random.Random(1))
            held = lease(way, "one", fenced=True)
            one = asyncio.create_task(held.run(working.work("one")))
            await asyncio.sleep(5)
            way.is_cut = True
            await lease(Way(leases, random.Random(2)), "two", fenced=True).acquire()
            one.cancel()
            way.is_cut = False
            await asyncio.gather(one, return_exceptions=True)
            assert leases.stored is not None
            assert leases.stored["spec"]["holderIdentity"] == "two"

        run(history())

    def test_who_is_cut_off_stops_before_the_other_begins(self) -> None:
        async def history() -> None:
            leases, working, rng = Leases(), Working(), random.Random(1)
            ways = [Way(leases, rng), Way(leases, rng)]
            tasks = [asyncio.create_task(process(ways[0], "one", working))]
            await asyncio.sleep(1)
            tasks.append(asyncio.create_task(process(ways[1], "two", working)))
            await asyncio.sleep(20)
            ways[0].hangs = True  # connected, and nobody answers any more
            await asyncio.sleep(30)
            assert [name for _, name in working.begun] == ["one", "two"]
            assert working.most == 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        run(history())

    @pytest.mark.parametrize("seed", range(6))
    def test_never_two_at_work_in_an_hour_of_a_bad_network_and_wrong_clocks(
        self, seed: int
    ) -> None:
        async def history() -> None:
            rng = random.Random(seed)
            leases, working = Leases(), Working()
            names = ["one", "two", "three"]
            ways = {name: Way(leases, rng) for name in names}
            tasks = [
                asyncio.create_task(process(ways[name], name, working, skew=rng.uniform(-1e6, 1e6)))
                for name in names
            ]
            for _ in range(240):
                await asyncio.sleep(rng.uniform(1, 30))
                way = ways[rng.choice(names)]
                way.is_cut = rng.random() < 0.4
                way.hangs = rng.random() < 0.2
                way.loses_answers = rng.random() < 0.4
                way.latency = rng.choice([0.02, 0.02, 3.0])
                assert working.most == 1
            assert len({name for _, name in working.begun}) == len(names)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        run(history())


def test_a_process_of_the_same_name_goes_on_with_its_own_lease_at_once() -> None:
    async def history() -> None:
        leases = Leases()
        way = Way(leases, random.Random(1))
        await lease(way, "pod-a").acquire()
        before = asyncio.get_running_loop().time()
        again = lease(way, "pod-a")
        await again.acquire()
        assert asyncio.get_running_loop().time() - before < 1
        assert leases.stored is not None
        assert leases.stored["spec"]["leaseTransitions"] == 1

    run(history())


def test_the_others_see_who_holds_it_and_where_it_can_be_reached() -> None:
    async def history() -> None:
        leases = Leases()
        one, two = (lease(Way(leases, random.Random(1)), name) for name in ("one", "two"))
        await one.acquire()
        waiting = asyncio.create_task(two.acquire())
        await asyncio.sleep(1)
        assert two.seen_holder == "one"
        assert two.seen_annotations == {"spanyard.dev/address": "http://one"}
        assert one.is_held
        assert not two.is_held
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(history())


def test_it_waits_for_an_api_server_that_is_away_and_says_so() -> None:
    async def history() -> None:
        way = Way(Leases(), random.Random(1))
        way.is_cut = True
        one = lease(way, "one")
        waiting = asyncio.create_task(one.acquire())
        await asyncio.sleep(60)
        assert one.problem == "the API server does not answer: no route"
        way.is_cut = False
        await asyncio.wait_for(waiting, 3)
        assert one.is_held
        assert one.problem is None

    run(history())


def test_fenced_work_goes_on_without_an_api_server_until_another_holds_the_lease() -> None:
    async def history() -> None:
        leases, working = Leases(), Working()
        way = Way(leases, random.Random(1))
        held = lease(way, "one", fenced=True)
        one = asyncio.create_task(held.run(working.work("one")))
        await asyncio.sleep(5)
        way.is_cut = True
        await asyncio.sleep(3600)
        assert working.now == {"one"}
        assert held.is_held
        other = lease(Way(leases, random.Random(2)), "two", fenced=True)
        await other.acquire()
        await asyncio.sleep(60)
        assert working.now == {"one"}, "it cannot know yet"
        way.is_cut = False
        with pytest.raises(LeaseLostError, match="two holds it now"):
            await one
        assert not working.now

    run(history())


def test_somebody_who_deletes_it_ends_the_work() -> None:
    async def history() -> None:
        leases, working = Leases(), Working()
        held = asyncio.create_task(
            lease(Way(leases, random.Random(1)), "one").run(working.work("one"))
        )
        await asyncio.sleep(5)
        leases.stored = None
        with pytest.raises(LeaseLostError, match="deleted"):
            await held
        assert not working.now

    run(history())


def test_somebody_who_labels_it_changes_nothing() -> None:
    async def history() -> None:
        leases, working = Leases(), Working()
        held = asyncio.create_task(
            lease(Way(leases, random.Random(1)), "one").run(working.work("one"))
        )
        for _ in range(20):
            await asyncio.sleep(1.7)
            assert leases.stored is not None
            leases.put(leases.stored)
        assert working.now == {"one"}
        assert len(working.begun) == 1
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)

    run(history())


def test_times_with_which_two_could_work_are_refused() -> None:
    with pytest.raises(ValueError, match="deadline < duration"):
        LeaseTimes(duration=10, deadline=10)
