"""Stands in for storage that a wrong setting makes impossible: refuses everything, says why."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

from spanyard_core.errors import StorageRefusedError
from spanyard_core.storage.protocol import ObjectInfo


class NoStorage:
    """Implements `Storage`."""

    def __init__(self, url: str, why: str) -> None:
        self._url = url
        self._why = why

    @property
    def url(self) -> str:
        return self._url

    def _refuse(self) -> NoReturn:
        raise StorageRefusedError(self._why)

    async def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self._refuse()

    async def write_file(self, key: str, path: Path) -> None:
        self._refuse()

    async def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._refuse()

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        self._refuse()

    async def delete(self, key: str) -> None:
        self._refuse()

    async def move(self, source: str, target: str) -> None:
        self._refuse()

    async def exists(self, key: str) -> bool:
        self._refuse()

    async def digest(self, key: str) -> str:
        self._refuse()

    def local_path(self, key: str) -> Path | None:
        return None

    async def close(self) -> None:
        return
