"""How often a pod may ask: a bucket of tokens each, bounded in all."""

from collections import OrderedDict

from spanyard_core.clock import Clock

PER_SECOND = 50.0
BURST = 500.0
"""After an outage a collector has that many objects to send; 8 uploads at a time take longer."""
MOST_PODS = 50_000


class Rates:
    """Says whether one more request is within the limit."""

    def __init__(
        self, clock: Clock, *, per_second: float = PER_SECOND, burst: float = BURST
    ) -> None:
        self._clock, self._per_second, self._burst = clock, per_second, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, cost: float = 1.0) -> bool:
        """Take so many; False when there are fewer left."""
        now = self._clock.monotonic()
        left, at = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        enough = left >= cost
        self._left[who] = (left - cost if enough else left, now)
        while len(self._left) > MOST_PODS:
            self._left.popitem(last=False)
        return enough
