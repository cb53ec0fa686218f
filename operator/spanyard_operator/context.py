"""What reconcilers work with."""

from dataclasses import dataclass, field

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.kube import Kube
from spanyard_core.storage import Storage
from spanyard_operator.cache import Cache
from spanyard_operator.events import Events
from spanyard_operator.settings import OperatorSettings
from spanyard_operator.workqueue import WorkQueue


@dataclass(frozen=True, slots=True)
class Context:
    """One per process; reconcilers hold nothing else."""

    kube: Kube
    cache: Cache
    storage: Storage
    settings: OperatorSettings
    clock: Clock
    events: Events
    queue: WorkQueue
    live_key: str = field(default="")
    """Public key of the tickets that collectors take, for `settings.collector_options`."""

    salt: str = field(default="")
    """A secret of the installation's, so that nobody guesses a Secret's value by a revision's hash."""

    def now(self) -> str:
        """RFC 3339. With nanoseconds: the order in which builds were queued depends on them."""
        return rfc3339(self.clock.time_ns())
