"""Live streams of a real cluster, as a user has them: by login, through the API server, on a terminal.

One story for all tests: lines are printed all the while, and whatever may break on their way does.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from spanyard_local.live_client import (
    Dropped,
    Lines,
    Live,
    Lost,
    NotAdmittedError,
    Over,
)
from tests.cluster import sources
from tests.cluster.stack import RELEASE, TEAM, Stack, eventually, reached
from tests.cluster.users import Listener, Printing, Terminal, account, heard_some
from tests.fakes.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.kill]

PROJECT = "shop"
ID = f"{TEAM}.{PROJECT}"
NAME = "live"
CHANNEL = f"server:{TEAM}.{NAME}"
RIGHTS_S = 60.0
"""15 s between two looks, 10 s each for what gateway and API server remember; on a busy machine."""


@pytest.fixture(scope="module")
def served(stack: Stack, built: str) -> Iterator[str]:
    """Address of the Deployment's server."""
    stack.cluster.apply(sources.deployment(NAME, PROJECT, buildRef={"name": built}))
    stack.wait_until_ready(NAME)
    with reached(stack.cluster, TEAM, f"{NAME}-server") as address:
        yield address
    stack.cluster.kubectl("delete", "deployments.spanyard.dev", NAME, "-n", TEAM)


def living(stack: Stack) -> list[Any]:
    """Its pods that do not end. None while the next one is still to be made."""
    return [
        pod
        for pod in stack.pods(f"spanyard.dev/deployment={NAME}")
        if "deletionTimestamp" not in pod["metadata"]
    ]


def the_pod(stack: Stack) -> Any:
    [found] = living(stack)
    return found


def restarts(pod: Any, container: str) -> int:
    everybody = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    return next(int(one["restartCount"]) for one in everybody if one["name"] == container)


def numbers(lines: Sequence[str]) -> list[int]:
    """Of those that were asked for."""
    return [int(line.split()[1]) for line in lines if line.startswith("line ")]


def test_a_stream_goes_on_over_a_killed_gateway_a_killed_collector_and_a_new_pod(
    stack: Stack, served: str, terminal: Terminal, door: str
) -> None:
    """Each line once, in each writer's order: by the client, and by `logs -f` on a terminal."""
    if stack.cluster.kind == "given":
        pytest.skip("a container of a cluster that was given cannot be killed")
    gateway = f"{RELEASE}-server-0"
    first = the_pod(stack)
    printed = terminal.start("lines", "logs", PROJECT, "--deployment", NAME, "-f", "-n", "1", "-o",
                             "jsonl")  # fmt: skip
    with Listener(door, stack.cluster, "reader", CHANNEL) as listener:
        listener.wait("live", Live)
        wait_for("a line on the terminal", printed.read_bytes)
        with Printing(served) as printing:
            heard_some(listener, printing)
            # The collector, while it is listened to: what it had told it does not tell again.
            stack.cluster.kill(TEAM, first["metadata"]["name"], "spanyard-collector")
            eventually("the collector is back", lambda: restarts(the_pod(stack), "spanyard-collector"),
                       stack)  # fmt: skip
            heard_some(listener, printing)
            assert not listener.of(Lost), "that is between gateway and collector"
            stack.cluster.kill(RELEASE, gateway, "server")
            listener.wait("the connection breaks", Lost)
            heard_some(listener, printing)
            stack.cluster.kubectl(
                "delete", "pod", first["metadata"]["name"], "-n", TEAM, "--wait=false"
            )
            uid = first["metadata"]["uid"]
            eventually(
                "another pod",
                lambda: [pod for pod in living(stack) if pod["metadata"]["uid"] != uid],
                stack,
            )
            # While it starts the old one still answers: a Service without another leads there.
            wait_for(
                "lines that the new pod printed",
                lambda: len([1 for writer, _ in listener.heard
                             if "/server/" in writer and not writer.startswith(uid)]) > 40,
                within=180,
            )  # fmt: skip
            heard_some(listener, printing)
        said = printing.said
        writers = sorted({writer for writer, _ in listener.heard})
        assert len({writer.split("/")[0] for writer in writers}) == 2, writers
        begun = {writer: min(n for w, n in listener.heard if w == writer) for writer in writers}

        def stored() -> list[tuple[str, int]]:
            lines = stack.exported(ID, signal="logs", deployment=NAME)
            return sorted(
                (one["writer"], one["seq"])
                for one in lines
                if one["writer"] in begun and one["seq"] >= begun[one["writer"]]
                and one["stream"] in {"stdout", "stderr"}
            )  # fmt: skip

        def agreed() -> list[tuple[str, int]] | None:
            found, heard = stored(), sorted(listener.heard)
            if len(found) >= said and heard == found:
                return found
            apart = sorted(set(found) ^ set(heard))
            seen[:] = [
                f"said {said}, stored {len(found)}, heard {len(heard)}; not in both: {apart}"
            ]
            return None

        seen: list[str] = []
        try:
            expected = eventually("all lines are stored", agreed, stack)
        except BaseException as error:
            error.add_note("; ".join(seen))
            raise
        assert listener.of(Dropped) == []
    assert len(set(expected)) == len(expected)
    for writer in writers:
        mine = [seq for one, seq in listener.heard if one == writer]
        assert mine == list(range(mine[0], mine[-1] + 1)), writer
    shown = wait_for(
        "the terminal has them too",
        lambda: (found := lines_of(printed)) and {one["recordId"] for one in found}
        >= {f"{writer}#{seq}" for writer, seq in expected} and found,
    )  # fmt: skip
    ids = [one["recordId"] for one in shown]
    assert len(set(ids)) == len(ids), "a line twice on the terminal"
    assert set(range(said)) <= set(numbers([one["message"] for one in shown]))
    told = printed.with_suffix(".err").read_text("utf-8")
    assert "missing" not in told
    assert "it goes on where it was" in told


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Whole ones."""
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


def test_who_may_not_or_no_longer_is_cut_off_with_a_reason_and_a_new_token_goes_on(
    stack: Stack, served: str, terminal: Terminal, door: str
) -> None:
    """Tokens end by taking their account away: the shortest that Kubernetes gives lasts 10 minutes."""
    for name in ("demoted", "leaving", "renewed"):
        account(stack.cluster, name, TEAM)
    account(stack.cluster, "stranger", RELEASE)
    with Listener(door, stack.cluster, "stranger", CHANNEL) as stranger:
        refused = stranger.wait("a refusal", Over)
    assert refused.code == "forbidden"
    assert (
        f"'system:serviceaccount:{TEAM}:stranger' has not `get projects.spanyard.dev/telemetry`"
        in refused.message
    )
    assert f"in the namespace '{TEAM}'" in refused.message
    assert stranger.of(Lines, Live) == []
    other = Terminal(
        {**terminal.environ, "XDG_CONFIG_HOME": str(terminal.folder / "stranger")}, terminal.folder
    )
    said = other.spanyard("login", "-n", TEAM, "--gateway-namespace", RELEASE, "--service-account",
                          f"{TEAM}/stranger")  # fmt: skip
    assert said.returncode == 0, said.stderr
    said = other.spanyard("logs", ID, "--deployment", NAME, "-f")
    assert (said.returncode, said.stdout) == (2, ""), said
    assert f"has not `get projects.spanyard.dev` in the namespace '{TEAM}'" in said.stderr

    with (
        Listener(door, stack.cluster, "demoted", CHANNEL) as demoted,
        Listener(door, stack.cluster, "leaving", CHANNEL) as leaving,
        Listener(door, stack.cluster, "renewed", CHANNEL) as renewed,
        Printing(served) as printing,
    ):
        for each in (demoted, leaving, renewed):
            each.wait("live", Live)
            heard_some(each, printing)
        began = time.monotonic()
        kubectl = stack.cluster.kubectl
        kubectl("delete", "rolebinding", "demoted", "-n", TEAM)
        renewed.may_renew.clear()
        kubectl("delete", "serviceaccount", "leaving", "renewed", "-n", TEAM)
        account(stack.cluster, "renewed", TEAM)  # of the same name, and somebody else
        renewed.may_renew.set()
        ended = demoted.wait("a right that is gone", Over, within=RIGHTS_S)
        assert ended.code == "forbidden"
        assert "has not `get projects.spanyard.dev/telemetry`" in ended.message
        gone = wait_for("an account that is gone", lambda: leaving.problem, within=RIGHTS_S)
        assert isinstance(gone, NotAdmittedError)
        assert "not found" in str(gone)
        assert leaving.of(Lost)[0].reason == "the gateway no longer takes the token"
        renewed.wait("a token that is gone", Lost, within=RIGHTS_S)
        took = time.monotonic() - began
        heard_some(renewed, printing)
    assert renewed.renewed == 1
    assert renewed.of(Dropped, Over) == []
    [writer] = {writer for writer, _ in renewed.heard}
    mine = [seq for _, seq in renewed.heard]
    assert mine == list(range(mine[0], mine[0] + len(mine))), writer
    assert took < RIGHTS_S
    for each in (demoted, leaving):
        last = max(at for at, event in each.events if isinstance(event, Lines))
        assert last - began < RIGHTS_S
