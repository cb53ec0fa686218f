"""The last lines of a server whose container's status has none."""

from spanyard_core.resources.kinds import Failure
from spanyard_core.resources.reasons import explain
from spanyard_operator.deployments.lastwords import LastWords
from tests.fakes.kube import FakeKube

LOG = "/api/v1/namespaces/team/pods/web-1/log"


def failure(*lines: str, pod: str = "web-1", container: str = "server") -> Failure:
    return explain("NeverReady", pod=pod, container=container, last_lines=lines)


async def test_they_are_asked_for_once_and_only_where_there_are_none() -> None:
    kube = FakeKube()
    kube.logs[LOG] = b"one\ntwo\n"
    asked = LastWords(kube)
    assert await asked.of("team", failure()) == ["one", "two"]
    assert await asked.of("team", failure("known")) == ["known"]
    assert await asked.of("team", failure(container="spanyard-fetch")) == []
    assert await asked.of("team", failure(pod="")) == []


async def test_a_node_that_is_away_leaves_the_failure_without_them() -> None:
    assert await LastWords(FakeKube()).of("team", failure()) == []
