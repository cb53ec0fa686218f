"""A collector that captures by the API, and what it stored of a run."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from spanyard_core.kube import Kube
from spanyard_sidecar.apilog.sources import ApiSources
from spanyard_sidecar.collector import Collector
from spanyard_sidecar.settings import CollectorSettings
from tests.fakes.pod_logs import FakePodLogs, FakeRun
from tests.unit.sidecar.machine import DIRECTORY, IDENTITY, Machine, messages


def collector_of(machine: Machine, kube: FakePodLogs, **options: Any) -> Collector:
    settings = CollectorSettings(
        storage="sim:///",
        project=IDENTITY.project,
        deployment=IDENTITY.deployment,
        pod=IDENTITY.pod,
        pod_uid=IDENTITY.pod_uid,
        spool=DIRECTORY,
        capture="api",
        grace=options.pop("grace", 30),
        quiet=0.5,
        exclude_containers=["spanyard-collector"],
    )

    def sources(made: Collector) -> list[ApiSources]:
        api = ApiSources(
            cast("Kube", kube),
            machine.clock,
            machine.rng,
            made.identity,
            exclude=settings.exclude_containers,
            wake=lambda: made.pipeline.wake(),  # noqa: PLW0108 - made later
            changed=lambda: made.pipeline.changed(),  # noqa: PLW0108 - the same
        )
        made.background["api"] = api.run
        made.more_troubles.append(lambda: api.trouble)
        return [api]

    return Collector(
        settings,
        files=machine.disk.view(),
        clock=machine.clock,
        storage=machine.bucket.view(),
        rng=machine.rng,
        sources=sources,
        **options,
    )


@contextlib.asynccontextmanager
async def collecting(
    machine: Machine, kube: FakePodLogs, **options: Any
) -> AsyncIterator[Collector]:
    """Ends in order."""
    collector = collector_of(machine, kube, **options)
    await collector.open()
    stop = asyncio.Event()
    running = asyncio.create_task(collector.run(stop))
    try:
        yield collector
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def one_server() -> AsyncIterator[tuple[Machine, FakePodLogs]]:
    """The container `server` runs, and a collector follows it."""
    machine = Machine()
    kube = FakePodLogs(machine.clock)
    await kube.start("server")
    async with collecting(machine, kube):
        yield machine, kube


def writer(machine: Machine, run: str) -> str:
    """The one whose lines are stored under `container/restart`."""
    starts = f"{IDENTITY.pod_uid}/{run}@"
    found = {
        line["writer"]
        for key in machine.bucket.objects
        if "/logs/" in key
        for line in machine_lines(machine, key)
        if line["writer"].startswith(starts)
    }
    assert len(found) <= 1, found
    return found.pop() if found else ""


def machine_lines(machine: Machine, key: str) -> list[dict[str, Any]]:
    from tests.unit.sidecar.machine import lines_of

    return lines_of(machine.bucket.objects[key].data)


def stored(machine: Machine, run: str) -> list[str]:
    name = writer(machine, run)
    return messages(machine.stored(name)) if name else []


def gaps(machine: Machine, run: str) -> list[str]:
    name = writer(machine, run)
    return [e for e in machine.events(name, where="bucket") if e.startswith("gap")] if name else []


def facts_of(machine: Machine, key: str) -> Any:
    from spanyard_core.chunks import decode_facts

    return decode_facts(machine.bucket.objects[key].data)[0]


def proven(machine: Machine, name: str, run: FakeRun) -> None:
    found = stored(machine, name)
    assert len(found) == len(set(found)), "twice"
    assert found == [line for line in run.written if line in set(found)], "out of order"
    if found and len(found) < len(run.written):
        assert gaps(machine, name), f"{name}: {len(run.written) - len(found)} lost and not told"
