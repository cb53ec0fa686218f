"""Reads all objects of a storage back, for checks."""

import asyncio
from collections.abc import Mapping

from spanyard_core.storage import open_storage


def read_storage(url: str, options: Mapping[str, str]) -> dict[str, bytes]:
    """Key → bytes of everything below `observability/`."""

    async def read() -> dict[str, bytes]:
        storage = open_storage(url, options=options)
        try:
            keys = [info.key async for info in storage.list("observability/")]
            return {key: await storage.read(key) for key in keys}
        finally:
            await storage.close()

    return asyncio.run(read())
