"""From how a step ended to why the build failed."""

from typing import Any

import pytest

from spanyard_core.resources.kinds import Build, BuildSource, BuildSpec, Metadata, Resources
from spanyard_local.builds.endings import failure_of
from spanyard_local.builds.environment import environment_hash, steps_environment
from spanyard_local.shimmed import ExitStatus

BUILD = Build(
    metadata=Metadata(name="b"),
    spec=BuildSpec(
        project="p", source=BuildSource(), resources=Resources(limits={"memory": "512Mi"})
    ),
)


@pytest.mark.parametrize(
    ("end", "reason", "message"),
    [
        ({"exit_code": 3}, "StepFailed", "build ended with exit code 3"),
        ({"exit_code": 1, "tail": ["x", "cp: error: No space left on device", "make: *** 1"]},
         "NoSpace", "there is no space left on the disk: cp: error: No space left on device"),
        ({"exit_code": 127, "reason": "CommandNotFound", "tail": ["/bin/sh: 1: npm: not found"]},
         "CommandNotFound", "npm was not found"),
        ({"exit_code": 127, "reason": "CommandNotFound", "tail": ["sh: npm: command not found"]},
         "CommandNotFound", "npm was not found"),
        ({"exit_code": 127, "reason": "CommandNotFound", "tail": ["zsh:1: command not found: npm"]},
         "CommandNotFound", "npm was not found"),
        ({"exit_code": 127, "reason": "CommandNotFound",
          "tail": ["/usr/bin/env: ‘node’: No such file or directory"]},
         "CommandNotFound", "node was not found"),
        ({"exit_code": 126, "reason": "CommandNotFound", "tail": []},
         "CommandNotFound", "npm run build was not found"),
        ({"signal": 9, "reason": "OutOfMemory"}, "OutOfMemory", "build used more memory than 512Mi"),
        ({"signal": 9, "reason": "Killed"}, "StepKilled", "build was ended by SIGKILL (the machine"),
        ({"exit_code": 137, "reason": "Killed"}, "StepKilled", "build was ended by SIGKILL"),
        ({"signal": 11}, "StepKilled", "build was ended by SIGSEGV"),
        ({"signal": 9, "reason": "ShimLost", "notes": ["gone"]}, "InternalError", "failed here: gone"),
    ],
)  # fmt: skip
def test_the_end_of_a_step_is_told_by_its_reason(
    end: dict[str, Any], reason: str, message: str
) -> None:
    found = failure_of(BUILD, "build", "npm run build", ExitStatus(**end), pod="b-1")
    assert found.reason == reason
    assert message in found.message
    assert (found.step, found.pod, found.container) == ("build", "b-1", "build")
    assert found.exit_code == end.get("exit_code")
    if reason != "InternalError":
        assert found.last_lines == end.get("tail", [])


def test_steps_get_little_of_the_shell_and_the_hash_tells_what_counts() -> None:
    shell = {"PATH": "/bin", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "x", "PIP_INDEX_URL": "u",
             "PYTHONPATH": "/mine", "npm_config_registry": "r", "LC_ALL": "C"}  # fmt: skip
    seen = steps_environment({"CI": "0", "A": "1"}, {"SPANYARD_SPANS_DIR": "/s"}, {"SPANYARD_BUILD": "b"},
                             environment=shell)  # fmt: skip
    path = seen.pop("PATH")
    assert path.endswith("/bin")
    assert seen == {
        "HOME": "/h", "PIP_INDEX_URL": "u", "npm_config_registry": "r", "LC_ALL": "C", "A": "1",
        "CI": "0", "SPANYARD_SPANS_DIR": "/s", "SPANYARD_BUILD": "b",
    }  # fmt: skip
    other = {**seen, "SPANYARD_SPANS_DIR": "/elsewhere"}
    assert environment_hash(seen) == environment_hash(other)
    assert environment_hash(seen) != environment_hash({**seen, "A": "2"})
