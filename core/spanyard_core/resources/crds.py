"""The API as `crds/*.yaml` says it: the CustomResourceDefinitions, read from the package.

In a checkout they are the folder `crds/` at the root; a wheel carries them beside this module.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.kinds import PLURALS, VERSION, Kind

Schema = Mapping[str, Any]
"""An openAPIV3Schema or a part of one."""


def folder() -> Path:
    """Where the files are. Raises SpanyardError when the installation lacks them."""
    packaged = Path(__file__).parent / "crds"
    for place in (packaged, Path(__file__).parents[3] / "crds"):
        if (place / "builds.yaml").is_file():
            return place
    raise SpanyardError(
        f"the schemas of Project, Build and Deployment are missing from {packaged}: "
        "install spanyard again"
    )


@cache
def definition(kind: Kind) -> Mapping[str, Any]:
    """The whole CustomResourceDefinition. Shared by all callers: don't change it."""
    import yaml  # a part of the laptop's and the operator's dependencies, not of core's

    # The C parser reads the three in 11 ms, the other one in 130.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (folder() / f"{PLURALS[kind]}.yaml").read_text("utf-8")
    made: Mapping[str, Any] = yaml.load(text, loader)  # noqa: S506 - both loaders are safe
    return made


def version(kind: Kind) -> Mapping[str, Any]:
    """The version that we speak: schema, printer columns, subresources."""
    versions: list[Mapping[str, Any]] = definition(kind)["spec"]["versions"]
    return next(entry for entry in versions if entry["name"] == VERSION)


def schema(kind: Kind) -> Schema:
    """The schema of a kind's objects."""
    made: Schema = version(kind)["schema"]["openAPIV3Schema"]
    return made
