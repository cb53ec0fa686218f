"""Back-off: how long to wait before the next attempt. Who retries, and for how long, is elsewhere."""

from random import Random


class Backoff:
    """An endless iterator of delays in seconds: `first`, growing by `factor` up to `most`.

    Each delay is shortened by a random part of up to `jitter` (0…1), so that many that failed
    together do not come back together. `reset` after a success.
    """

    __slots__ = ("_factor", "_first", "_jitter", "_most", "_next", "_rng", "attempts")

    def __init__(
        self,
        rng: Random,
        *,
        first: float = 0.25,
        factor: float = 2.0,
        most: float = 30.0,
        jitter: float = 0.5,
    ) -> None:
        if not (0 < first <= most and factor >= 1 and 0 <= jitter <= 1):
            raise ValueError("a back-off needs 0 < first ≤ most, factor ≥ 1, 0 ≤ jitter ≤ 1")
        self._rng = rng
        self._first = first
        self._factor = factor
        self._most = most
        self._jitter = jitter
        self._next = first
        self.attempts = 0
        """Delays given since the start or the last reset."""

    def __iter__(self) -> "Backoff":
        return self

    def __next__(self) -> float:
        self.attempts += 1
        delay = self._next
        # Capped at every step: an outage of days must not overflow a float.
        self._next = min(self._next * self._factor, self._most)
        return delay * (1 - self._jitter * self._rng.random())

    def next(self) -> float:
        """The next delay; for those who hold no loop."""
        return self.__next__()

    def reset(self) -> None:
        """Begin again at `first`."""
        self._next = self._first
        self.attempts = 0
