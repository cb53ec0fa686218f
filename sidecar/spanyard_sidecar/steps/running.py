"""What `fetch` and `publish` have in common: their end and what they tell, storage with patience."""

import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from spanyard_core.clock import Clock, SystemClock
from spanyard_core.end_signals import release
from spanyard_core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageRefusedError,
)
from spanyard_core.retry import Backoff
from spanyard_core.step_answers import StepAnswer, encoded
from spanyard_core.storage import Storage, open_storage
from spanyard_sidecar.sources.answers import answered

T = TypeVar("T")
Say = Callable[[str], None]
TRIES = 7
"""Of what does not answer: about a minute. Then the step fails, and a build can be retried."""
ENDED = 128 + signal.SIGTERM


def say(text: str) -> None:
    """A line of the step's log."""
    print(text, flush=True)


def run(step: Callable[[], StepAnswer], *, termination_log: str) -> NoReturn:
    """Run `step`, tell what became of it, leave by SystemExit."""
    # Process 1 of a container gets no default handlers.
    signal.signal(signal.SIGTERM, _ended)
    release()
    answer = answered(step, say)
    _tell(termination_log, answer)
    raise SystemExit(1 if answer.reason else 0)


def _ended(number: int, frame: FrameType | None) -> None:
    say("ended by SIGTERM")
    os._exit(ENDED)  # a thread may be in the middle of a call that takes long


def _tell(path: str, answer: StepAnswer) -> None:
    if not path or not os.path.exists(path):
        return
    try:
        Path(path).write_bytes(encoded(answer))
    except OSError as error:
        say(f"the termination message cannot be written: {error}")


# --- storage -------------------------------------------------------------------------------


def opened(url: str, token_file: str) -> Storage:
    """The storage of a pod: the gateway's signatures, or a bucket of its own. Raises SettingError."""
    if url.startswith("gateway+"):
        from spanyard_sidecar.gateway_storage import GatewayStorage

        return GatewayStorage(url, token_file=token_file)
    return open_storage(url)


async def patiently(
    call: Callable[[], Awaitable[T]], what: str, *, clock: Clock | None = None
) -> T:
    """Call storage until it takes the call, TRIES times. Raises the last StorageError."""
    backoff = Backoff(random.SystemRandom(), first=1.0, most=20.0)
    clock = clock or SystemClock()
    while True:
        try:
            return await call()
        except (ObjectNotFoundError, ObjectExistsError, StorageRefusedError):
            raise
        except StorageError as error:
            if backoff.attempts >= TRIES - 1:
                raise
            delay = backoff.next()
            tries = f"try {backoff.attempts + 1} of {TRIES}"
            say(f"{what}: {error}; {tries} in {delay:.0f} s")
            await clock.sleep(delay)
