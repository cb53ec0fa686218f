"""The variables of a server's process."""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanyard_core.resources.kinds import EnvVar
from spanyard_local.servers.environment import MissingKeyError, base, resolved

SECRETS = {"s": {"k": "swordfish"}}


def variables(*wanted: dict[str, Any]) -> list[EnvVar]:
    return msgspec.convert(list(wanted), list[EnvVar])


def test_a_process_gets_little_of_the_shells_variables() -> None:
    shell = {
        "HOME": "/h",
        "LC_ALL": "C",
        "PATH": "/bin",
        "AWS_SECRET": "x",
        "SPANYARD_STORAGE": "x",
    }
    made = base(shell)
    assert {k: v for k, v in made.items() if k != "PATH"} == {"HOME": "/h", "LC_ALL": "C"}
    assert made["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/bin"]


def test_this_python_stands_first_in_path_and_once() -> None:
    ours = str(Path(sys.executable).parent)
    assert base({"PATH": f"/bin:{ours}"})["PATH"] == f"{ours}:/bin"


def test_values_come_from_where_they_are_said_to() -> None:
    env = variables(
        {"name": "A", "value": "$(B) stays"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {
            "name": "D",
            "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": True}},
        },
    )
    values = resolved(env, secrets=SECRETS, config_maps={"c": {"k": "1"}})
    assert values == {"A": "$(B) stays", "B": "swordfish", "C": "1"}


@pytest.mark.parametrize("name", ["s", "t"])
def test_a_missing_key_names_variable_secret_and_key(name: str) -> None:
    env = variables({"name": "B", "valueFrom": {"secretKeyRef": {"name": name, "key": "x"}}})
    with pytest.raises(MissingKeyError, match=rf"spec.env\[B\].*x in the Secret {name}"):
        resolved(env, secrets=SECRETS, config_maps={})
