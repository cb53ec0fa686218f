"""`spanyard-sidecar fetch`: a repository's commit, an uploaded archive or an artifact, in a folder."""

import asyncio
import functools
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from spanyard_core.build_objects import source_key
from spanyard_core.errors import ObjectNotFoundError, StorageError
from spanyard_core.settings import settings_or_exit
from spanyard_core.step_answers import StepAnswer, of_commit
from spanyard_core.storage import Storage
from spanyard_sidecar.sources.archive import unpack
from spanyard_sidecar.sources.counting import in_units
from spanyard_sidecar.sources.errors import SourceError
from spanyard_sidecar.sources.git import GitCredentials, fetch_patiently
from spanyard_sidecar.steps.running import opened, patiently, run, say
from spanyard_sidecar.steps.settings import FetchSettings

BLOCK = 8 << 20
"""Bytes read at a time: what an archive of any size needs of memory."""
MOST_SECRET = 1 << 20
PROG = "spanyard-sidecar fetch"
DESCRIPTION = """\
The first step in a pod: fills a folder with a commit of a repository, with an uploaded archive, or
with what a build published. Digests are checked, and nothing that an archive says leads out of the
folder.

Examples:
  spanyard-sidecar fetch --source https://git.example.com/team/agents.git --revision v1.4.0 \\
      --into /tmp/src
  spanyard-sidecar fetch --source sha256:9f86… --storage file:///tmp/spanyard/bucket --into /tmp/src
"""


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> NoReturn:
    """Leaves by SystemExit."""
    settings = settings_or_exit(
        FetchSettings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ
    )
    run(lambda: fetch(settings), termination_log=settings.termination_log)


def fetch(settings: FetchSettings) -> StepAnswer:
    """Raises SourceError, OSError, SettingError."""
    # Whoever runs the artifact may do it as another user of the same group.
    os.umask(0o002)
    target = Path(settings.into)
    _prepare(settings, target)
    if settings.is_archive or settings.is_artifact:
        answer = asyncio.run(_from_storage(settings, target))
    else:
        answer = _from_git(settings, target)
    _check_sub_path(target, settings.sub_path)
    if settings.commit_file and answer.commit:
        Path(settings.commit_file).write_text(f"{answer.commit}\n")
    return answer


def _prepare(settings: FetchSettings, target: Path) -> None:
    """Folders; a fresh target, because a server's pod may run this once more."""
    if target.exists():
        # Its content, not itself: it may be where a volume is mounted.
        for child in target.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o2775)
    if settings.commit_file:
        Path(settings.commit_file).parent.mkdir(parents=True, exist_ok=True)
    if settings.work:
        home = Path(settings.work) / "home"
        home.mkdir(exist_ok=True)
        home.chmod(0o2775)


def _check_sub_path(target: Path, sub_path: str) -> None:
    here = Path(os.path.realpath(target / sub_path))
    if not here.is_relative_to(os.path.realpath(target)) or not here.is_dir():
        raise SourceError("SourceNotFound", where=f"{sub_path!r} in the source (subPath)")


# --- repositories ----------------------------------------------------------------------------


def _from_git(settings: FetchSettings, target: Path) -> StepAnswer:
    credentials = _credentials(settings.git_secret) if settings.git_secret else None
    commit = fetch_patiently(
        settings.source,
        settings.revision,
        target,
        private=Path(settings.private),
        credentials=credentials,
        say=say,
        empty=lambda: _prepare(settings, target),
    )
    return of_commit(commit)


def _credentials(folder: str) -> GitCredentials:
    """Of a mounted Secret: a file for each key. Others than git's are not read."""
    found: dict[str, str] = {}
    for name in ("username", "password", "token", "ssh-privatekey", "known_hosts"):
        path = Path(folder) / name
        if path.is_file():
            with path.open("rb") as file:
                text = file.read(MOST_SECRET).decode("utf-8", "replace")
            # Made by an editor or by `echo`, a password ends in a newline that nobody meant.
            found[name] = text if name in {"ssh-privatekey", "known_hosts"} else text.rstrip("\r\n")
    if not found:
        raise SourceError(
            "SecretMissing",
            where="spec.source.git.secretRef",
            name="username, password, token or ssh-privatekey in its Secret",
        )
    return GitCredentials.of(found)


# --- storage -----------------------------------------------------------------------------------


async def _from_storage(settings: FetchSettings, target: Path) -> StepAnswer:
    storage = opened(settings.storage, settings.gateway_token)
    work = Path(settings.work or target.parent)
    archive = work / "fetched.tar.zst"
    try:
        if settings.is_archive:
            key, digest = _source_key(settings.source), settings.source
        else:
            key, digest = settings.source, settings.digest
        say(f"fetching {key}")
        try:
            size = await _download(storage, key, digest, archive)
        finally:
            await storage.close()
        say(f"fetched {in_units(size)}")
        copied = await asyncio.to_thread(unpack, archive, target, name=digest[:19] + "…", say=say)
    finally:
        archive.unlink(missing_ok=True)
    return StepAnswer(
        digest=digest,
        key=key if settings.is_artifact else "",
        files=copied.files,
        size=copied.size,
    )


def _source_key(digest: str) -> str:
    try:
        return source_key(digest)
    except ValueError as error:
        where = "spec.source.archive.digest"
        raise SourceError("InvalidSpec", where=where, detail=str(error)) from error


async def _download(storage: Storage, key: str, digest: str, archive: Path) -> int:
    """The bytes of `key` as a file; their number. Raises SourceError, OSError."""
    where = f"{storage.url}/{key}"
    found = hashlib.sha256()
    at = 0
    try:
        with archive.open("wb") as file:
            while True:
                read = functools.partial(storage.read, key, start=at, length=BLOCK)
                block = await patiently(read, "storage does not answer")
                file.write(block)
                found.update(block)
                at += len(block)
                if len(block) < BLOCK:
                    break
    except ObjectNotFoundError as error:
        raise SourceError("SourceNotFound", where=where) from error
    except StorageError as error:
        raise SourceError("SourceUnreachable", where=where, detail=str(error)) from error
    if f"sha256:{found.hexdigest()}" != digest:
        detail = f"its bytes have the digest sha256:{found.hexdigest()}"
        raise SourceError("ArchiveInvalid", where=digest[:19] + "…", detail=detail)
    return at
