"""Why a server ended."""

import pytest

from spanyard_core.resources.kinds import Resources
from spanyard_local.servers.endings import ending, exit_code, memory_limit, never_ready, not_found
from spanyard_local.shimmed import ExitStatus


@pytest.mark.parametrize(
    ("exit_", "reason"),
    [
        (ExitStatus(exit_code=1, tail=["boom"]), "CrashLoop"),
        (ExitStatus(exit_code=0), "CrashLoop"),
        (ExitStatus(signal=11), "CrashLoop"),
        (ExitStatus(signal=9, reason="OutOfMemory"), "OutOfMemory"),
        (ExitStatus(exit_code=127, reason="CommandNotFound"), "CommandNotFound"),
        (ExitStatus(exit_code=1, tail=["Error: listen EADDRINUSE: ::1:80"]), "PortTaken"),
        (ExitStatus(exit_code=1, tail=["OSError: [Errno 98] Address already in use"]), "PortTaken"),
        (ExitStatus(exit_code=1, tail=["x", "ENOSPC: no space left", "y"]), "NoSpace"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_end_is_classified_by_exit_and_last_words(exit_: ExitStatus, reason: str) -> None:
    what = ending(exit_, pod="p", command="node x", port=4711, memory="100Mi", was_ready=False)
    assert what.failure.reason == reason
    assert what.failure.remedy
    assert what.failure.last_lines == exit_.tail
    assert what.hopeless == (reason == "CommandNotFound")
    assert what.port_taken == (reason == "PortTaken")


@pytest.mark.parametrize("tail", [["Address already in use"], []])
def test_a_server_that_was_ready_had_its_port_and_its_command(tail: list[str]) -> None:
    exit_ = ExitStatus(exit_code=127, reason="" if tail else "CommandNotFound", tail=tail)
    what = ending(exit_, pod="p", command="node x", port=1, memory="", was_ready=True)
    assert (what.failure.reason, what.hopeless) == ("CrashLoop", False)


def test_a_signal_counts_as_in_a_shell() -> None:
    assert exit_code(ExitStatus(signal=9)) == 137
    assert exit_code(ExitStatus(exit_code=3)) == 3


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("nope --x", "'nope' was not found"),
        ("exec nope --x", "'nope' was not found"),
        ("cd app", "sh -c 'cd …'"),
    ],
)
def test_a_command_that_is_none_is_told_why(command: str, told: str) -> None:
    assert told in not_found(command, pod="p").message


def test_never_ready_names_the_ports_it_listens_on_instead() -> None:
    failure = never_ready(pod="p", limit="60s", trouble="nobody listens", port=1, listens=[1, 3000])
    assert failure.message.endswith("nobody listens; PORT is 1, but it listens on 3000")
    quiet = never_ready(pod="p", limit="60s", trouble="nobody listens", port=1, listens=[])
    assert quiet.message.endswith("nobody listens")


def test_the_memory_limit_is_a_quantity() -> None:
    assert memory_limit(Resources(limits={"memory": "512Mi"})) == 512 << 20
    assert memory_limit(Resources()) is None
    with pytest.raises(ValueError, match="size"):
        memory_limit(Resources(limits={"memory": "lots"}))
