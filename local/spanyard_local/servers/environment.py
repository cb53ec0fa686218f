"""The variables that a server's process gets, and where their values come from."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.kinds import EnvVar, KeyReference

KEPT = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    # networks of companies
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
"""Of the shell's variables. The rest stays behind: what a server needs stands in its YAML, or it
would miss it in the cluster."""

Keys = Mapping[str, Mapping[str, str]]
"""Secrets or ConfigMaps: name → key → value."""


class MissingKeyError(SpanyardError):
    """A variable refers to a key that is not there."""

    def __init__(self, where: str, name: str) -> None:
        super().__init__(f"{where}: there is no key {name}")
        self.where = where
        self.name = name


def base(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every process gets of the environment of `spanyard up`.

    PATH begins with the folder of this Python, as in an activated virtual environment: `python3` is
    the one that runs Spanyard, whose SDK it can import.
    """
    environment = os.environ if environment is None else environment
    kept = {name: value for name, value in environment.items() if name in KEPT or _locale(name)}
    ours = str(Path(sys.executable).parent)
    rest = [part for part in environment.get("PATH", os.defpath).split(os.pathsep) if part != ours]
    return {**kept, "PATH": os.pathsep.join([ours, *rest])}


def _locale(name: str) -> bool:
    return name.startswith("LC_")


def resolved(
    env: Sequence[EnvVar], *, secrets: Keys, config_maps: Keys, field: str = "spec.env"
) -> dict[str, str]:
    """`spec.env` with its values. Raises MissingKeyError, which names variable and key."""
    values: dict[str, str] = {}
    for variable in env:
        source = variable.value_from
        if source is None:
            values[variable.name] = variable.value
            continue
        for reference, kind, keys in (
            (source.secret_key_ref, "Secret", secrets),
            (source.config_map_key_ref, "ConfigMap", config_maps),
        ):
            if reference is not None:
                _look_up(values, variable.name, reference, kind, keys, field)
    return values


def _look_up(
    values: dict[str, str], name: str, at: KeyReference, kind: str, keys: Keys, field: str
) -> None:
    found = keys.get(at.name, {}).get(at.key)
    if found is not None:
        values[name] = found
    elif not at.optional:
        raise MissingKeyError(f"{field}[{name}]", f"{at.key} in the {kind} {at.name}")
