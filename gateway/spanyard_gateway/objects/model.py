"""What pods ask for and what they get."""

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

SIGNED_SECONDS = 300
"""A signed request may begin for so long: an upload that waits for its turn is signed anew."""
OWN_SECONDS = 300
"""The gateway's own question about an object, which it asks at once: clocks may differ by as much."""


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /internal/objects/sign`."""

    op: Literal["put", "get", "head"]
    key: str
    size: int = 0
    """Bytes, of a put."""
    sha256: str = ""
    """Hex, of a put."""
    writer: str = ""
    """Of keys that hold a writer's hash."""


class Signed(msgspec.Struct, rename="camel"):
    """A request that the pod may send, with exactly these headers."""

    method: str
    url: str
    """An address, or a path of this gateway."""
    headers: dict[str, str]
    expires_in: int


class Found(msgspec.Struct, rename="camel"):
    """What is there."""

    sha256: str
    size: int
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the bucket tells of it; an empty digest has to be computed."""

    size: int
    sha256: str = ""


class Signer(Protocol):
    """Signs for one bucket."""

    async def look(self, key: str) -> Stored | None:
        """What lies there, or None. Raises StorageError."""
        ...

    async def put(self, key: str, size: int, sha256: str) -> Signed:
        """A PUT of exactly these bytes, where nothing lies yet. Raises StorageError."""
        ...

    async def get(self, key: str) -> Signed:
        """A GET. Raises StorageError."""
        ...
