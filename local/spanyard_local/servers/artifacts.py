"""A build's artifact, from storage into a replica's folder."""

import asyncio
import contextlib
import hashlib
import shutil
from pathlib import Path

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.kinds import ArtifactStatus
from spanyard_core.storage import Storage
from spanyard_sidecar.sources.archive import unpack
from spanyard_sidecar.sources.errors import SourceError

BLOCK = 8 * 1024 * 1024
"""Bytes read at a time: what an artifact of any size needs of memory."""
ALGORITHM = "sha256:"


class ArtifactError(SpanyardError):
    """The artifact is not what the build said, or no archive."""


async def fetch_artifact(storage: Storage, artifact: ArtifactStatus, folder: Path) -> None:
    """Unpack the artifact into `folder`, which is emptied first: a try may be the second.

    Raises ArtifactError, StorageError (ObjectNotFoundError when it is gone), OSError.
    """
    archive = folder.with_name(folder.name + ".tar.zst")
    try:
        await _download(storage, artifact, archive)
        await asyncio.to_thread(_unpack, archive, folder, artifact.key)
    finally:
        with contextlib.suppress(FileNotFoundError):
            archive.unlink()


async def _download(storage: Storage, artifact: ArtifactStatus, archive: Path) -> None:
    digest = hashlib.sha256()
    with archive.open("wb") as out:
        at = 0
        while block := await storage.read(artifact.key, start=at, length=BLOCK):
            at += len(block)
            await asyncio.to_thread(_take, block, digest.update, out.write)
            if len(block) < BLOCK:
                break
    expected = artifact.digest.removeprefix(ALGORITHM)
    if digest.hexdigest() != expected:
        raise ArtifactError(
            f"{artifact.key} has the digest {digest.hexdigest()[:12]}…, the build published "
            f"{expected[:12]}…"
        )


def _take(block: bytes, *sinks: object) -> None:
    for sink in sinks:
        assert callable(sink)
        sink(block)


def _unpack(archive: Path, folder: Path, name: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        unpack(archive, folder, name=name)
    except SourceError as error:
        raise ArtifactError(error.facts.get("detail", str(error))) from error
