"""Where a laptop's data lies: one folder, its parts, and what survives a restart."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from spanyard_core.errors import SpanyardError
from spanyard_local.holder import Holder

DEFAULT_DATA = ".demo"
UP_DATA = ".spanyard"
LEFTOVERS_S = 90.0
"""How long processes of a killed command may take to end: three with 20 s each, and some."""


class FolderInUseError(SpanyardError):
    """Another process works on this folder."""


MAX_LOG = 10_000_000


@dataclass(frozen=True, slots=True)
class Hold:
    """A folder that is ours."""

    descriptor: int
    """Of its lock; a process that inherits it holds the folder too."""
    killed: bool
    """Whether the last holder did not end in order."""


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
    def resources(self) -> Path:
        """The store: what users asked for, and what became of it."""
        return self.root / "resources"

    @property
    def runs(self) -> Path:
        """A folder per pod that runs, or whose output is not all stored yet."""
        return self.root / "runs"

    @property
    def served(self) -> Path:
        """What each Deployment served last, for the next run."""
        return self.root / "served"

    @property
    def on_their_way(self) -> Path:
        """Objects between the storage and ClickHouse; a start empties it."""
        return self.root / "tmp"

    def served_by(self, uid: str) -> Path:
        """The file of one Deployment in it."""
        return self.served / f"{uid}.json"

    @property
    def clickhouse_token(self) -> Path:
        """The password of ClickHouse's front, for the owner alone."""
        return self.root / "clickhouse-token"

    @property
    def up_log(self) -> Path:
        """What the parts of `spanyard up` log: JSON lines."""
        return self.root / "up.log"

    @property
    def up_file(self) -> Path:
        """What `spanyard up` was given last, for one without arguments."""
        return self.root / "up.json"

    @property
    def server_log(self) -> Path:
        return self.root / "server.log"

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
            # Output, variables and answers of models are nobody else's business.
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (
                self.bucket,
                self.clickhouse,
                self.resources,
                self.runs,
                self.served,
            ):
                folder.mkdir(parents=True, exist_ok=True)
            self.on_their_way.mkdir(exist_ok=True, mode=0o700)
            # It has tokens and everybody's output: into no commit, and into no build's copy.
            (self.root / ".gitignore").write_text("*\n")
        except OSError as error:
            raise SpanyardError(
                f"data: cannot make {error.filename!r}: {error.strerror}; give another folder "
                "with --data"
            ) from error

    def short(self, path: Path) -> str:
        """For people: relative to where they are, if it is below."""
        with contextlib.suppress(ValueError):
            return f"./{path.relative_to(Path.cwd())}"
        return str(path)

    def open_log(self) -> TextIO:
        """`up_log` to append to; one that grew large is set aside, the one before it goes."""
        with contextlib.suppress(FileNotFoundError):
            if self.up_log.stat().st_size > MAX_LOG:
                self.up_log.replace(self.up_log.with_suffix(".log.1"))
        return self.up_log.open("a", encoding="utf-8", errors="replace", buffering=1)

    @contextlib.contextmanager
    def only_one(self, tell: Callable[[str], None]) -> Iterator["Hold"]:
        """Hold the folder. What a killed command left there gets a minute to end; `tell` says so.

        Raises FolderInUseError when another process works there, SpanyardError for a bad folder.
        """
        self.make()
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SpanyardError(
                f"data: cannot write in {str(self.root)!r}: {error.strerror}; give another folder "
                "with --data"
            ) from error
        try:
            self._take(descriptor, tell)
            # Who holds it; still there after a kill, gone after an orderly end.
            killed = bool(os.pread(descriptor, 1, 0))
            try:
                Holder.write(descriptor)
            except OSError as error:  # a full disk, mostly
                raise SpanyardError(
                    f"data: cannot write in {str(self.root)!r}: {error.strerror}; make room, or "
                    "give another folder with --data"
                ) from error
            try:
                yield Hold(descriptor, killed)
            finally:  # also after a mistake in the YAML: only a kill leaves it
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, tell: Callable[[str], None]) -> None:
        deadline = time.monotonic() + LEFTOVERS_S
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = Holder.read(descriptor)
                lives = holder.lives()
                if time.monotonic() > deadline or lives:
                    # The number of a dead one may be a stranger's by now: nobody is to end that.
                    raise FolderInUseError(self._in_use(holder.pid if lives else "")) from None
            else:
                return
            if not told:
                tell("the last run was killed; waiting for what it left to end …")
                told = True
            time.sleep(0.1)

    def _in_use(self, holder: str) -> str:
        address = self.running_server()
        who = ", ".join(text for text in (f"process {holder}" if holder else "", address) if text)
        told = f"another spanyard is running on {str(self.root)!r}" + (f" ({who})" if who else "")
        if address:
            told += "; `spanyard deploy PATH` gives it more to run"
        end = f"Ctrl-C in its terminal or `kill {holder}`" if holder else "Ctrl-C in its terminal"
        return f"{told}; end it by {end}, or give this one another folder with --data"

    def running_server(self) -> str | None:
        """The address that the gateway on this folder told, if its process is still there.

        After a kill the address may be that of another folder's gateway.
        """
        try:
            told = json.loads(self.server_file.read_text())
            return str(told["url"]) if Holder(str(told["pid"]), "").lives() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def last_words(log: Path) -> str:
    """The last line of a log of JSON lines, and where the rest is."""
    try:
        line = log.read_bytes().splitlines()[-1].decode("utf-8", "replace")
    except (OSError, IndexError):
        return f"Its log {str(log)!r} is empty."
    with contextlib.suppress(ValueError, KeyError, TypeError):  # else a line of the interpreter
        line = str(json.loads(line)["message"])
    return f"It says: {line[:1_000]} (more in {log})"
