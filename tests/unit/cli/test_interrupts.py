"""A Ctrl-C that Python clears is heard at the next wait."""

import io
import signal

import pytest

from spanyard_local.cli import interrupts, reader


class File(io.BufferedIOBase):
    """Is interrupted while it is finalised."""

    def close(self) -> None:
        super().close()
        signal.raise_signal(signal.SIGINT)


def lose() -> None:
    lost = File()
    del lost


def test_a_ctrl_c_that_was_lost_is_raised_at_the_next_wait_and_once() -> None:
    with interrupts.kept():
        reader.pause(0)
        lose()
        with pytest.raises(KeyboardInterrupt):
            reader.pause(0)
        reader.pause(0)


def test_other_signals_are_nobodys_ctrl_c() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with interrupts.kept():
            signal.raise_signal(signal.SIGUSR1)
            interrupts.sleep(0)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_came_to_one_command_is_not_told_to_the_next() -> None:
    with interrupts.kept():
        lose()
    with interrupts.kept():
        interrupts.check()
    interrupts.check()
