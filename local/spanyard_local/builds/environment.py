"""The variables of a build's steps.

Fresh: what a build needs stands in its YAML, or the cluster would miss it. HOME stays, and with it
the caches and settings of package managers, or every fresh install would load the world anew; so do
their variables, which say where packages come from in this network.
"""

import hashlib
import os
from collections.abc import Mapping

import msgspec

from spanyard_local.servers.environment import base

KEPT_PREFIXES = (
    "PIP_",
    "UV_",
    "NPM_CONFIG_",
    "npm_config_",
    "YARN_",
    "PNPM_",
    "BUN_",
    "GOPROXY",
    "CARGO_",
    # which of several installed versions is meant
    "PYENV_",
    "NVM_",
    "VOLTA_",
    "ASDF_",
    "MISE_",
)
_OF_A_RUN = ("SPANYARD_", "OTEL_")


def steps_environment(
    values: Mapping[str, str],
    pod: Mapping[str, str],
    ours: Mapping[str, str],
    *,
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """For install and build: `values` of the spec win over `pod`'s and `ours`."""
    environment = os.environ if environment is None else environment
    kept = {n: v for n, v in environment.items() if n.startswith(KEPT_PREFIXES)}
    return {**kept, **base(environment), "CI": "1", **ours, **pod, **values}


def environment_hash(values: Mapping[str, str]) -> str:
    """`sha256:…` of what the steps saw, without what is another in every run. Hides the values."""
    seen = {n: v for n, v in sorted(values.items()) if not n.startswith(_OF_A_RUN)}
    return f"sha256:{hashlib.sha256(msgspec.json.encode(seen)).hexdigest()}"
