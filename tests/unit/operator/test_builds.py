"""A build in a cluster, from the first look to its removal, with an API server in memory."""

from pathlib import Path

import pytest

from tests.fakes.operator_world import NAMESPACE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_build_goes_through_its_steps_and_succeeds(world: World) -> None:
    world.project()
    world.build()
    seen: list[str] = []

    def done() -> bool:
        status = world.status()
        if not seen or seen[-1] != status.step:
            seen.append(status.step)
        return status.log_complete

    await world.until("the build is over", done)
    status = world.status()
    assert seen == ["", "fetch", "install", "build", "publish", ""]
    assert (status.phase, status.reason, status.attempt) == ("Succeeded", "Succeeded", 1)
    assert [step.name for step in status.steps] == ["fetch", "install", "build", "publish"]
    assert [step.exit_code for step in status.steps] == [0, 0, 0, 0]
    assert status.artifact.key == f"builds/{NAMESPACE}.support-1/artifact-1.tar.zst"
    assert status.artifact.size == 4711
    assert status.source.commit.startswith("c0ffee")
    assert status.collector.mode == "hostPath"
    assert world.told("support-1") == ["Building", "Succeeded"]
    assert world.pods() == ["support-1-build-1"]
