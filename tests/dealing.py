"""How tests are dealt out to processes: a file stays whole, and the cluster's tests stay together.

Fixtures of a module are made once that way, and one process has the cluster. Its tests mostly wait
for pods, so the others run beside them. What they need is built when they start: the tests of
`contract` go before them.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

CLUSTER = "tests/cluster"
BEFORE = ("tests/contract/",)


class ByFile(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Parts in the order of collection; each process takes the next when it has finished one."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return CLUSTER if nodeid.startswith(f"{CLUSTER}/") else nodeid.partition("::")[0]


def turn(item: pytest.Item, *, alone: bool) -> int:
    """Where an item comes: with one process the cluster's tests are the last, pods after all."""
    asked = getattr(item, "fixturenames", ())
    cluster = 2 if "cluster" in asked else 1 if "api_server" in asked else 0
    if alone or cluster:
        return cluster
    return 0 if item.nodeid.startswith(BEFORE) else 3
