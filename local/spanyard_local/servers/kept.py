"""What of a Deployment's revisions outlives `spanyard up`: enough to start the one that served.

Status keeps a revision's hash, not its content; a cluster has ReplicaSets for that. Here it is one
small file per Deployment. Variables stand in it as they are written in the YAML: references to
Secrets, never what they hold.
"""

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from spanyard_core.resources.deployments import Content
from spanyard_core.resources.kinds import ArtifactStatus, Camel

log = logging.getLogger("spanyard.local")


class KeptRevision(Camel):
    """What to run, and where its artifact is."""

    content: Content
    artifact: ArtifactStatus


class Kept:
    """The revision that served last; without a file, of this run alone."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, KeptRevision] = {}
        self._taken = False
        self.port = 0
        """`spec.port` of what an earlier run left; 0 when that is not known."""

    def remember(self, hash_: str, revision: KeptRevision) -> None:
        """A revision that starts: one of these serves later."""
        self._known[hash_] = revision

    def serves(self, hash_: str) -> None:
        """Keep the revision that serves from now on; the others are forgotten."""
        revision = self._known[hash_]
        self._known = {hash_: revision}
        if self._file is None:
            return
        try:
            self._write(self._file, msgspec.json.encode(revision))
        except OSError as error:
            # It serves all the same; only the next `up` would not know it.
            log.warning("what serves now was not kept in %s: %s", self._file, error)

    @staticmethod
    def _write(file: Path, data: bytes) -> None:
        temporary = file.with_name(file.name + ".tmp")
        # A value written in plain text into the YAML may still be nobody else's business.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
        temporary.replace(file)

    def take_serving(self) -> KeptRevision | None:
        """What an earlier run left, once."""
        if self._taken or self._file is None:
            return None
        self._taken = True
        # Damaged or of another version: then only what is wanted now starts.
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(self._file.read_bytes(), type=KeptRevision)
            self.port = found.content.port
            return found
        return None
