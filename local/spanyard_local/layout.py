"""Where a laptop's data lies: one folder, its parts, and what survives a restart."""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spanyard_core.errors import SpanyardError


class FolderInUseError(SpanyardError):
    """Another process works on this folder."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one data folder."""

    root: Path
    storage: str = ""
    """URL of a bucket elsewhere; empty: the folder's own."""

    @property
    def bucket(self) -> Path:
        """The storage: what would be an S3 bucket elsewhere."""
        return self.root / "bucket"

    @property
    def clickhouse(self) -> Path:
        return self.root / "clickhouse"

    @property
    def pods(self) -> Path:
        """Container logs in the kubelet's layout."""
        return self.root / "pods"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def spans(self) -> Path:
        """Span files that servers write."""
        return self.root / "spans"

    @property
    def server_file(self) -> Path:
        """Where the running gateway says how it is reached."""
        return self.root / "server.json"

    @property
    def storage_url(self) -> str:
        return self.storage or self.bucket.resolve().as_uri()

    @property
    def clickhouse_url(self) -> str:
        return f"chdb://{self.clickhouse.resolve()}"

    def make(self) -> None:
        """Make the folders. Raises SpanyardError when that is not possible."""
        try:
            for folder in (self.bucket, self.clickhouse, self.pods, self.spool, self.spans):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpanyardError(
                f"data: cannot make {error.filename!r}: {error.strerror}; give another folder "
                "with --data"
            ) from error

    def pod_uid(self) -> str:
        """The uid of this folder's pod, made once: a second run goes on with its spool."""
        file = self.root / "pod.json"
        if not file.exists():
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps({"uid": str(uuid.uuid4())}))
            temporary.replace(file)
        uid: str = json.loads(file.read_text())["uid"]
        return uid

    def next_restart(self, container: str) -> int:
        """The restart number of the next run of a container, as the kubelet counts them."""
        runs = [
            int(name.split(".")[0])
            for folder in self.pods.glob(f"*/{container}")
            for name in os.listdir(folder)
            if name.split(".")[0].isdigit()
        ]
        return max(runs, default=-1) + 1

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """Hold the folder. Raises FolderInUseError when another process does."""
        self.make()
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderInUseError(
                    f"another spanyard is running on {str(self.root)!r}; end it, or give another "
                    "folder with --data"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def running_server(self) -> str | None:
        """The address that the last gateway on this folder told; it may have ended since."""
        try:
            address: str = json.loads(self.server_file.read_text())["url"]
        except (OSError, ValueError, KeyError):
            return None
        return address
