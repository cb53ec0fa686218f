"""Finds container logs in the kubelet's layout: `{namespace}_{pod}_{uid}/{container}/{restart}.log`.

The root is `/var/log/pods` or, as inside a pod, where only that is mounted, one pod's own folder.
"""

import logging
import re
from collections.abc import Collection, Mapping

from spanyard_core.clock import Clock
from spanyard_core.files import Files
from spanyard_sidecar.metrics import Seldom
from spanyard_sidecar.model import Identity, Source, State
from spanyard_sidecar.tailer import KIND, CriSource, TailSettings, salt_of

log = logging.getLogger("spanyard.sidecar")

_LOG = re.compile(r"(\d{1,9})\.log(?:\.\d{8}-\d{6}(?:\.gz)?)?")
_POD_FOLDER = re.compile(r"[^_]+_[^_]+_[^_]+")
"""Container names have no underscore, so these are told apart."""


class CriSources:
    """See `model.Sources` and `model.Forgets`. One source per container run."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        identity: Identity,
        root: str,
        *,
        pod: str = "",
        exclude: Collection[str] = (),
        service: str = "",
        settings: TailSettings | None = None,
    ) -> None:
        """`pod` chooses below a root with many: `namespace_name_uid`, or the uid alone.

        Where it is empty, the identity's pod uid does. `exclude` names containers that are not
        read: the collector's own among them. `service` is every line's `service.name`; by default
        the deployment's name.
        """
        self._files = files
        self._clock = clock
        self._identity = identity
        self._root = root.rstrip("/")
        self._pod = pod
        self._exclude = frozenset(exclude)
        self._service = service or identity.deployment
        self._settings = settings
        self._sources: dict[tuple[str, int], CriSource] = {}
        """(container, restart) → its source; those that have ended too, so that none comes twice."""
        self._seldom = Seldom(clock.monotonic)

    def scan(self, states: Mapping[str, State], epoch: str) -> list[Source]:
        """New sources since the last call. Also lets all others look after their files.

        So it is to be called every second, also while nothing is read. Raises OSError for the
        root; what is wrong with one container is logged, and hides no other.
        """
        for source in self._sources.values():
            if not source.ended:
                try:
                    source.look()
                except OSError as error:  # its trouble alone
                    self._complain(source.writer, error)
        restarts: dict[str, set[int]] = {}
        folder = self._pod_folder()
        if folder:
            for container in self._files.listdir(folder):
                if container not in self._exclude and _is_text(container):
                    restarts[container] = self._restarts(f"{folder}/{container}")
        for container, restart in self._of_states(states, epoch):
            restarts.setdefault(container, set()).add(restart)
        found: list[Source] = []
        for container in sorted(restarts):
            newest = max(restarts[container], default=0)
            for restart in sorted(restarts[container]):
                run = (container, restart)
                if run not in self._sources:
                    source = self._opened(folder, container, restart, states, epoch)
                    self._sources[run] = source
                    if not source.ended:
                        found.append(source)
                self._sources[run].newer_restart = restart < newest
        return found

    def _opened(
        self, folder: str, container: str, restart: int, states: Mapping[str, State], epoch: str
    ) -> CriSource:
        writer = f"{salt_of(self._identity, container, restart)}@{epoch}"
        return CriSource(
            self._files,
            self._clock,
            self._identity,
            folder=f"{folder or self._root}/{container}",
            container=container,
            restart=restart,
            epoch=epoch,
            service=self._service,
            state=states.get(writer),
            settings=self._settings,
        )

    def _pod_folder(self) -> str:
        """The pod's folder; "" while it is not there yet."""
        names = self._files.listdir(self._root)
        pods = [name for name in names if _POD_FOLDER.fullmatch(name)]
        wanted = self._pod or self._identity.pod_uid
        mine = [name for name in pods if name == wanted or name.endswith(f"_{wanted}")]
        if mine:
            return f"{self._root}/{mine[0]}"
        return "" if pods or self._pod else self._root

    def _restarts(self, folder: str) -> set[int]:
        try:
            names = self._files.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            self._complain(folder, error)
            return set()
        return {int(match[1]) for match in map(_LOG.fullmatch, names) if match}

    def _complain(self, about: str, error: OSError) -> None:
        if self._seldom(about):
            log.warning("%s cannot be looked at, trying again: %s", about, error)

    def _of_states(self, states: Mapping[str, State], epoch: str) -> list[tuple[str, int]]:
        """Runs that were read before and have not ended, though their files may be gone."""
        return [
            _run_of(writer)
            for writer, state in states.items()
            if state.get("kind") == KIND and not state.get("ended") and writer.endswith(f"@{epoch}")
        ]

    def forgotten(self, states: Mapping[str, State]) -> list[str]:
        """Writers whose runs have ended and whose files are gone."""
        gone = []
        for writer, state in states.items():
            if state.get("kind") == KIND and state.get("ended"):
                run = _run_of(writer)
                source = self._sources.get(run)
                if source is None or source.is_gone():
                    gone.append(writer)
                    self._sources.pop(run, None)
        return gone


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: no container has another, and no line could carry it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _run_of(writer: str) -> tuple[str, int]:
    """Container and restart of a writer id."""
    base, _, restart = writer.rpartition("@")[0].rpartition("/")
    return base.rpartition("/")[2], int(restart)
