"""The values behind a server's variables: a changed Secret is a new revision; pure."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.kinds import EnvVar, KeyReference, ValueFrom

Data = Mapping[str, str]
"""Values of a Secret (base64, as the API has them) or ConfigMap by key."""
Keys = Mapping[tuple[str, str], Data]
"""By kind (`Secret`, `ConfigMap`) and name; what is not there is left out."""


class MissingKeyError(SpanyardError):
    """A variable refers to a key that is not there."""

    def __init__(self, where: str, name: str) -> None:
        super().__init__(f"{where}: there is no key {name}")
        self.where = where
        self.name = name


def _references(source: ValueFrom) -> Iterator[tuple[str, KeyReference]]:
    if source.secret_key_ref is not None:
        yield "Secret", source.secret_key_ref
    if source.config_map_key_ref is not None:
        yield "ConfigMap", source.config_map_key_ref


def referenced(env: Sequence[EnvVar]) -> list[tuple[str, str]]:
    """The Secrets and ConfigMaps that values come from: kind and name, each once."""
    found = {
        (kind, at.name): None
        for variable in env
        if variable.value_from is not None
        for kind, at in _references(variable.value_from)
    }
    return list(found)


SALT = ""
"""No variable has this name."""


def values(env: Sequence[EnvVar], keys: Keys, *, salt: str = "") -> dict[str, str]:
    """What a process gets, to be hashed and forgotten. Raises MissingKeyError.

    `salt` is among them where one comes from a Secret: a hash of a password alone could be guessed.
    """
    made: dict[str, str] = {}
    if salt and any(kind == "Secret" for kind, _ in referenced(env)):
        made[SALT] = salt
    for variable in env:
        if variable.value_from is None:
            made[variable.name] = variable.value
            continue
        for kind, at in _references(variable.value_from):
            found = keys.get((kind, at.name), {}).get(at.key)
            if found is not None:
                made[variable.name] = _decoded(found) if kind == "Secret" else found
            elif not at.optional:
                raise MissingKeyError(
                    f"spec.env[{variable.name}]", f"{at.key} in the {kind} {at.name}"
                )
    return made


def _decoded(value: str) -> str:
    """Secrets need not be texts: bytes that are none are hashed all the same."""
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "backslashreplace")
    except binascii.Error:
        return value
