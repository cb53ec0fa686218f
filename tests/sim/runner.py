"""Plays histories: one seed each, in this process or spread over two workers."""

import gc
import logging
import re
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.sim.chronicle import Chronicle
from tests.sim.faults import Kills
from tests.sim.loop import SimLoop, abandon_all


class History(Protocol):
    """What can be played."""

    kills: Kills

    def run(self) -> Coroutine[Any, Any, None]:
        """Play to the end, check; raises AssertionError where a promise was broken."""
        ...


Make = Callable[[int, Chronicle], History]


@dataclass(slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    failure: str = ""
    """Empty, or what went wrong with the last events before it."""
    error: str = ""
    """What went wrong, alone."""
    digest: str = ""
    seconds: float = 0.0
    """Virtual."""
    passed: Mapping[str, int] = field(default_factory=dict)
    killed: frozenset[str] = frozenset()


def play(make: Make, seed: int, *, verbose: bool = False, keep: int = 60) -> Outcome:
    """Play one history. Never raises for what goes wrong inside it."""
    chronicle = Chronicle(keep, verbose=verbose)
    logger = logging.getLogger("spanyard")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:], logger.propagate = [chronicle], False
    logger.setLevel(logging.INFO)
    hook, sys.unraisablehook = sys.unraisablehook, _ignore_the_dead
    loop = SimLoop()
    outcome = Outcome(seed)
    history = make(seed, chronicle)
    # Collection at moments of its own would end coroutines of the dead at a random point.
    gc.disable()
    try:
        with history.kills.installed():
            loop.run_until_complete(history.run())
        assert not loop.errors, "errors that nobody saw: " + "; ".join(loop.errors)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        lines = "".join(traceback.format_exception(error, limit=-8))
        outcome.error = f"{type(error).__name__}: {error}"
        outcome.failure = f"seed {seed}: {error}\n{lines}\nlast events:\n{chronicle.tail()}"
    finally:
        outcome.seconds = loop.time()
        abandon_all(loop)
        loop.close()
        gc.enable()
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
        sys.unraisablehook = hook
    outcome.digest = chronicle.digest
    outcome.passed, outcome.killed = history.kills.passed, frozenset(history.kills.killed)
    return outcome


def first_failure(make: Make, seeds: Iterable[int], complaint: str = "") -> Outcome | None:
    """The first seed of these that breaks a promise, with words that match `complaint`."""
    for seed in seeds:
        outcome = play(make, seed)
        if outcome.failure and re.search(complaint, outcome.error):
            return outcome
    return None


def _ignore_the_dead(unraisable: Any) -> None:
    # Coroutines of killed processes end when memory is freed, and find every seam closed.
    if not isinstance(unraisable.exc_value, BaseException):
        sys.__unraisablehook__(unraisable)
