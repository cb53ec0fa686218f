"""Fixtures for all tests. What a single suite needs stands beside that suite."""

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from xdist.remote import Producer

from tests.dealing import ByFile, turn
from tests.fakes.gcs_server import GcsServer, running_gcs
from tests.fakes.s3_server import S3Server, running_s3

# The same examples in every run, however slow the machine: a red run can be run again. To look for
# new ones: `make test ARGS=--hypothesis-profile=explore`.
settings.register_profile(
    "house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", settings.get_profile("house"), max_examples=1000, derandomize=False
)
settings.load_profile("house")

# Hypothesis also draws from the literals in our modules, of those that happen to be imported by then:
# that depends on which tests ran before in the process. So only who looks for new examples has them.
# It is not part of Hypothesis' API: where an upgrade takes the name away, this line fails.
collected = providers._get_local_constants


def literals_to_draw() -> providers.Constants:
    return providers.Constants() if settings.default.derandomize else collected()


providers._get_local_constants = literals_to_draw


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    alone = not hasattr(config, "workerinput")
    items.sort(key=lambda item: turn(item, alone=alone))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


# Who starts tests in the background of a script starts them without Ctrl-C, and the programs that
# they start would have none either.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GRACE_LOOKS = 100
"""For tasks that are on their way out when their test ends: so often they are looked at, 10 ms
apart. Not a second, for a machine that stands still for that long lets none of them go on."""


@pytest.fixture(autouse=True)
def no_unattended_tasks(request: pytest.FixtureRequest) -> None:
    """Fail every coroutine test that leaves a task behind: somebody forgot to await its end."""
    function = getattr(request.node, "obj", None)
    inner = getattr(function, "hypothesis", None)
    if inspect.iscoroutinefunction(getattr(inner, "inner_test", function)):
        request.getfixturevalue("_watched_tasks")


@pytest_asyncio.fixture
async def _watched_tasks() -> AsyncIterator[None]:
    yield
    # Set up before and torn down after all other fixtures of the function: what still runs now is
    # nobody's. A connection that was just closed gets a moment (its task ends in the next turns).
    here = asyncio.current_task()
    left = asyncio.all_tasks() - {here}
    if left:
        for _ in range(GRACE_LOOKS):
            await asyncio.sleep(0.01)
            left = asyncio.all_tasks() - {here}
            if not left:
                break
    if left:
        names = ", ".join(sorted(f"{t.get_name()} ({t.get_coro()!r})" for t in left))
        pytest.fail(f"unattended asyncio tasks after the test: {names}")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server, started when the first test asks; take `url_for(<your own prefix>)`."""
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """A server that speaks the XML API of GCS; take `url_for(<your own prefix>)`."""
    with running_gcs() as server:
        yield server
