"""`spanyard-sidecar publish`: packs what a build made, and stores it with the JSON about it."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from spanyard_core.clock import SystemClock, rfc3339
from spanyard_core.errors import ObjectExistsError, ObjectNotFoundError, StorageError
from spanyard_core.settings import settings_or_exit
from spanyard_core.step_answers import StepAnswer
from spanyard_core.storage import Storage
from spanyard_sidecar.sources.counting import in_units
from spanyard_sidecar.sources.errors import SourceError
from spanyard_sidecar.sources.packing import Packed, pack
from spanyard_sidecar.steps.running import opened, patiently, run, say
from spanyard_sidecar.steps.settings import PublishSettings

AWAY = "storage does not answer"
PROG = "spanyard-sidecar publish"
DESCRIPTION = """\
The last step in a build's pod: packs the output folder as a tar.zst, the same bytes for the same
files, and stores it. An object is made once and never replaced: a try that comes again finds its own.

Example:
  spanyard-sidecar publish --into /tmp/src --output dist --storage file:///tmp/spanyard/bucket \\
      --artifact-key builds/team.support-1/artifact-1.tar.zst
"""


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> NoReturn:
    """Leaves by SystemExit."""
    settings = settings_or_exit(
        PublishSettings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ
    )
    run(lambda: publish(settings), termination_log=settings.termination_log)


def publish(settings: PublishSettings) -> StepAnswer:
    """Raises SourceError, OSError, SettingError."""
    source = Path(settings.into)
    output = _output(source, source / settings.sub_path / settings.output, settings.output)
    work = Path(settings.work or source.parent) / "publish"
    work.mkdir(exist_ok=True)
    archive = work / "artifact.tar.zst"
    try:
        packed = pack(output, archive, say=say)
        asyncio.run(_store(settings, packed, archive))
    finally:
        archive.unlink(missing_ok=True)
    return StepAnswer(
        digest=packed.digest, key=settings.artifact_key, size=packed.size, files=packed.files
    )


def _output(source: Path, output: Path, name: str) -> Path:
    if not output.is_dir():
        what = "a file, not a folder" if output.exists() else "not there"
        say(f"the output {name!r} is {what}")
        raise SourceError("OutputMissing", where=name)
    real = output.resolve()
    if not real.is_relative_to(source.resolve()):
        say(f"the output {name!r} is a link to {real}, outside of the source")
        raise SourceError("OutputMissing", where=f"{name} (a link to {real})")
    return real


async def _store(settings: PublishSettings, packed: Packed, archive: Path) -> None:
    storage = opened(settings.storage, settings.gateway_token)
    try:
        await _store_artifact(storage, settings.artifact_key, packed, archive)
        if settings.meta_key:
            await _store_meta(storage, settings.meta_key, _meta(settings, packed))
    except StorageError as error:
        raise SourceError("PublishFailed", detail=str(error)) from error
    finally:
        await storage.close()
    say(f"stored {settings.artifact_key}, {in_units(packed.size)}, {packed.digest}")


async def _store_artifact(storage: Storage, key: str, packed: Packed, archive: Path) -> None:
    """Raises StorageError: ObjectExistsError when there is another artifact under this key."""
    digest = packed.digest.removeprefix("sha256:")
    try:
        found = await patiently(lambda: storage.digest(key), AWAY)
    except ObjectNotFoundError:
        try:
            await patiently(lambda: storage.write_file(key, archive), AWAY)
        except ObjectExistsError:
            found = await patiently(lambda: storage.digest(key), AWAY)
        else:
            return
    if found != digest:
        raise ObjectExistsError(f"{key} is there already, with other content")


async def _store_meta(storage: Storage, key: str, meta: bytes) -> None:
    try:
        await patiently(lambda: storage.write(key, meta, if_absent=True), AWAY)
    except ObjectExistsError:
        found = await patiently(lambda: storage.digest(key), AWAY)
        if found != hashlib.sha256(meta).hexdigest():
            say(f"{key} is there already, from an earlier try: it stays")


def _meta(settings: PublishSettings, packed: Packed) -> bytes:
    """What was built, of what, with what. No value of a variable is in it."""
    known: dict[str, Any] = msgspec.json.decode(settings.meta) if settings.meta else {}
    commit = ""
    if settings.commit_file and Path(settings.commit_file).is_file():
        commit = Path(settings.commit_file).read_text("utf-8").strip()
    artifact = {"key": settings.artifact_key, "digest": packed.digest, "size": packed.size}
    finished = rfc3339(SystemClock().time_ns())
    return msgspec.json.encode(
        {**known, "commit": commit, "finishedAt": finished, "artifact": artifact}
    )
