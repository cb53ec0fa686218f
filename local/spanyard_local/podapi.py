"""What a runner sees of a pod on this machine: who it is, its folders, what its processes are told.

A pod is one attempt of a build, or one replica of one revision of a deployment in one run of
`spanyard up`. Runners start processes in it (under shims, which write its log files); whoever
implements `PodHost` runs the pod's collector and sees to it that what was written gets stored.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """Stamped on every record by the collector; exactly one of `deployment` and `build`."""

    namespace: str
    pod: str
    """Name: `{build}-{attempt}` or `{deployment}-{revision}-{5 random}`."""
    uid: str
    """Fresh for each pod; a part of the ids of its records."""
    project: str
    """Id, `{namespace}.{name}`."""
    deployment: str = ""
    """Name of the Deployment, without namespace."""
    build: str = ""
    """Name of the Build, without namespace."""
    resource_uid: str = ""
    """Of the Deployment or Build: one that was deleted and made again is another."""


class Pod(Protocol):
    """A pod whose collector runs. All folders exist."""

    @property
    def identity(self) -> PodIdentity: ...

    @property
    def log_root(self) -> Path:
        """Root of container logs in the kubelet's layout."""
        ...

    @property
    def spans_dir(self) -> Path:
        """Span files; in `env` as `SPANYARD_SPANS_DIR`."""
        ...

    @property
    def status_dir(self) -> Path:
        """Where shims put `{container}.{restart}.json`."""
        ...

    @property
    def app_dir(self) -> Path:
        """For an unpacked artifact; removed with the pod."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """Variables that every process of the pod gets: where telemetry goes, and whose it is."""
        ...

    @property
    def held(self) -> Sequence[int]:
        """Descriptors that shims must inherit: with them they hold the data folder's lock."""
        ...

    @property
    def drained(self) -> bool:
        """After the block: everything that was written is stored; else the next `up` goes on."""
        ...


class PodHost(Protocol):
    """Makes pods."""

    def pod(self, identity: PodIdentity, *, quiet: float = 0.5) -> AbstractAsyncContextManager[Pod]:
        """A pod while the block runs.

        Leaving it drains: the collector reads until nothing came for `quiet` seconds, ends every
        writer and stores all, within its grace period. Leave it when all processes have ended. What
        could not be stored stays in the pod's spool for the next `up`, and `drained` is False.
        Raises SpanyardError when the folders cannot be made.
        """
        ...
