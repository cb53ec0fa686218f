"""Finds span files: `{root}/{signal}/{start ns}-{random}.jsonl` (docs/span-files.md)."""

import logging
import re
from collections.abc import Mapping

from spanyard_core.clock import Clock
from spanyard_core.files import Files
from spanyard_core.records import Signal
from spanyard_sidecar.metrics import Seldom
from spanyard_sidecar.model import Identity, Source, State
from spanyard_sidecar.spanfile import KIND, OpenFiles, SpanFileSource

log = logging.getLogger("spanyard.sidecar")

_SIGNALS: tuple[Signal, ...] = ("traces", "spans", "logs", "metrics", "scores")
_STEM = r"\d{1,19}-[A-Za-z0-9]{8,40}"
_NAME = re.compile(rf"({_STEM})(?:\.closed)?\.jsonl")
_DROPPED = re.compile(rf"({_STEM})\.(\d+)\.dropped")


class SpanFileSources:
    """See `model.Sources` and `model.Forgets`. One source per file."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        identity: Identity,
        root: str,
        *,
        limit: int = 1_000_000_000,
        service: str = "",
    ) -> None:
        """`limit`: bytes that files of ended writers may take; beyond, the oldest are given up.

        `service` is for events that name none; by default the deployment's name.
        """
        self._files = files
        self._clock = clock
        self._identity = identity
        self._root = root.rstrip("/")
        self._limit = limit
        self._service = service or identity.deployment
        self._open_files = OpenFiles()
        self._seldom = Seldom(clock.monotonic)
        self._sources: dict[tuple[Signal, str], SpanFileSource] = {}

    def scan(self, states: Mapping[str, State], epoch: str) -> list[Source]:
        """New sources since the last call; also keeps the directory within its limit.

        So it is to be called every second, also while nothing is read. What is wrong with one
        folder or file is logged, and hides no other.
        """
        known: dict[Signal, list[str]] = {signal: [] for signal in _SIGNALS}
        for writer, state in states.items():
            if (
                state.get("kind") == KIND
                and not state.get("ended")
                and writer.endswith(f"@{epoch}")
            ):
                signal, stem = _file_of(writer)
                known[signal].append(stem)
        found: list[Source] = []
        for signal in _SIGNALS:
            stems = self._stems(signal)
            for stem in sorted({*stems, *known[signal]}, key=_age):
                if (signal, stem) not in self._sources:
                    source = self._opened(signal, stem, states, epoch)
                    source.dropped = stems.get(stem)
                    self._sources[signal, stem] = source
                    found.append(source)
        self._keep_limit()
        return found

    def _stems(self, signal: Signal) -> dict[str, int | None]:
        """Stems of the signal's files; with the size of those that were given up."""
        folder = f"{self._root}/{signal}"
        try:
            names = self._files.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            self._complain(folder, error)
            return {}
        stems: dict[str, int | None] = {
            match[1]: None for match in map(_NAME.fullmatch, names) if match
        }
        for name in names:
            match = _DROPPED.fullmatch(name)
            if match and match[1] in stems:
                self._files.unlink(f"{folder}/{name}")  # its dropping was cut off: it lives
            elif match:
                stems[match[1]] = int(match[2])
        return stems

    def _opened(
        self, signal: Signal, stem: str, states: Mapping[str, State], epoch: str
    ) -> SpanFileSource:
        writer = f"{self._identity.pod_uid}/{signal}/{stem}@{epoch}"
        return SpanFileSource(
            self._files,
            self._clock,
            self._identity,
            folder=f"{self._root}/{signal}",
            signal=signal,
            stem=stem,
            epoch=epoch,
            service=self._service,
            state=states.get(writer),
            open_files=self._open_files,
        )

    def _keep_limit(self) -> None:
        sizes = {}
        for key, source in self._sources.items():
            try:
                found = source.stat() if source.dropped is None else None
            except OSError as error:
                self._complain(source.writer, error)
                continue
            if found is not None:
                sizes[key] = found.size
        excess = sum(sizes.values()) - self._limit
        for key in sorted(sizes, key=lambda key: _age(key[1])):
            if excess <= 0:
                break
            try:
                given_up = _make_room(self._sources[key], sizes[key])
            except OSError as error:
                self._complain(self._sources[key].writer, error)
                continue
            excess -= sizes[key] if given_up else 0

    def _complain(self, about: str, error: OSError) -> None:
        if self._seldom(about):
            log.warning("%s cannot be looked at, trying again: %s", about, error)

    def forgotten(self, states: Mapping[str, State]) -> list[str]:
        """Writers whose files have ended and are gone."""
        gone = []
        for writer, state in states.items():
            if state.get("kind") == KIND and state.get("ended"):
                key = _file_of(writer)
                source = self._sources.get(key)
                if source is None or source.stat() is None:
                    gone.append(writer)
                    self._sources.pop(key, None)
        return gone


def _make_room(source: SpanFileSource, size: int) -> bool:
    """Give a file up, if its writer has ended. Raises OSError."""
    source.look_at_lock()
    if source.durable:
        source.remove(size)  # safe in the spool: nothing is lost
    elif source.finished:
        source.drop()
    else:
        return False
    return True


def _file_of(writer: str) -> tuple[Signal, str]:
    """Signal and stem of a writer id."""
    about, _, stem = writer.rpartition("@")[0].rpartition("/")
    signal: Signal = about.rpartition("/")[2]  # type: ignore[assignment]  # we made the id
    return signal, stem


def _age(stem: str) -> tuple[int, str]:
    start, _, rest = stem.partition("-")
    return int(start), rest
