"""The storages that the contract suites run on, each test under a prefix of its own."""

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spanyard_core.storage import Storage, open_storage
from tests.fakes.gcs_server import GcsServer
from tests.fakes.s3_server import S3Server
from tests.sim.bucket import Bucket

REAL_BUCKETS = {"real-s3": "SPANYARD_TEST_S3_URL", "real-gs": "SPANYARD_TEST_GS_URL"}
"""Run on these too where the variable is set; credentials come from the environment."""

BACKENDS = [
    pytest.param("directory"),
    pytest.param("simulated"),
    pytest.param("s3", marks=pytest.mark.s3),
    pytest.param("gs"),
    *(name for name, variable in REAL_BUCKETS.items() if variable in os.environ),
]

Open = Callable[[], Storage]


def opener(backend: str, request: pytest.FixtureRequest) -> Open:
    """A function that opens the same fresh place each time it is called."""
    place = f"{secrets.token_hex(6)}/with space"
    options: Mapping[str, str] = {}
    if backend == "simulated":
        return Bucket(time.time_ns, page=500).view
    if backend == "directory":
        folder: Path = request.getfixturevalue("tmp_path")
        url = (folder / place).as_uri()
    elif backend == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        url, options = server.url_for(place), server.options
    elif backend == "gs":
        gcs: GcsServer = request.getfixturevalue("gcs_server")
        url, options = gcs.url_for(place), gcs.options
    else:
        parts = urlsplit(os.environ[REAL_BUCKETS[backend]])
        url = parts._replace(path=f"{parts.path.rstrip('/')}/{place}").geturl()
    return lambda: open_storage(url, options=options)


@asynccontextmanager
async def emptied(storage: Storage) -> AsyncIterator[Storage]:
    """Close in the end; in a real bucket, which costs money, delete what the block leaves."""
    real = [os.environ.get(variable, "") for variable in REAL_BUCKETS.values()]
    try:
        yield storage
    finally:
        if any(url and storage.url.startswith(url.partition("?")[0].rstrip("/")) for url in real):
            for key in [info.key async for info in storage.list("")]:
                await storage.delete(key)
        await storage.close()
