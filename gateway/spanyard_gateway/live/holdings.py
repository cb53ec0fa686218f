"""What the tokens of open subscriptions hold in memory, in writers: bounded for each and for all.

When all is taken, whoever holds most gives back its largest: one who comes with a small token is not
sent away because others came with large ones before.
"""

from collections.abc import Callable
from dataclasses import dataclass


class TooMuchHeldError(Exception):
    """More than one holder may have; `most` says how much that is."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class AllHeldError(Exception):
    """All is taken, and nobody holds more than who asks."""


@dataclass(eq=False, slots=True)
class Held:
    """Of one subscription."""

    holder: object
    count: int
    give_up: Callable[[], None]
    """Called when it has to be let go for another's sake; it is let go already."""


class Holdings:
    """Of all connections of a gateway. A holder is a person, or a connection of nobody."""

    def __init__(self, most_of_holder: int, most: int) -> None:
        self._most_of_holder, self._most = most_of_holder, most
        self._held: dict[object, dict[Held, None]] = {}
        self._totals: dict[object, int] = {}
        self.total = 0

    def take(self, holder: object, count: int, give_up: Callable[[], None]) -> Held:
        """Raises TooMuchHeldError, AllHeldError."""
        own = self._totals.get(holder, 0) + count
        if count and own > self._most_of_holder:
            raise TooMuchHeldError(self._most_of_holder)
        while count and self.total + count > self._most:
            largest = max(self._totals, key=self._totals.__getitem__, default=None)
            if largest is None or self._totals[largest] <= own:
                raise AllHeldError
            loser = max(self._held[largest], key=lambda held: held.count)
            self.let_go(loser)
            loser.give_up()
        held = Held(holder, 0, give_up)
        self._held.setdefault(holder, {})[held] = None
        self._resize(held, count)
        return held

    def shrink(self, held: Held, count: int) -> None:
        """It holds only so many any more."""
        if held in self._held.get(held.holder, ()) and count < held.count:
            self._resize(held, count)

    def let_go(self, held: Held) -> None:
        """Idempotent."""
        of_holder = self._held.get(held.holder)
        if of_holder is None or held not in of_holder:
            return
        self._resize(held, 0)
        del of_holder[held]
        if not of_holder:
            del self._held[held.holder], self._totals[held.holder]

    def _resize(self, held: Held, count: int) -> None:
        change = count - held.count
        held.count = count
        self.total += change
        self._totals[held.holder] = self._totals.get(held.holder, 0) + change
