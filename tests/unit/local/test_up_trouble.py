"""Trouble of the parts of `spanyard up` is told where somebody looks."""

import logging

from spanyard_local.up_trouble import AGAIN_S, MOST_KEPT, Patient, Trouble


class Terminal:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[tuple[str, bool]] = []
        self.trouble = Trouble(lambda text, bad: self.told.append((text, bad)), lambda: self.now)

    def log(self, text: str, level: int = logging.ERROR, name: str = "spanyard.sidecar") -> None:
        record = logging.LogRecord(name, level, "", 0, text, (), None)
        if record.levelno >= self.trouble.level:  # as a logger does
            self.trouble.handle(record)


def test_the_same_trouble_is_told_once_a_minute_whatever_its_numbers() -> None:
    terminal = Terminal()
    for number in range(5):
        terminal.log(f"no room for {number} bytes in 6b1f-0{number}.json")
    terminal.log("another", logging.WARNING)
    assert terminal.told == [("no room for 0 bytes in 6b1f-00.json", True), ("another", False)]
    terminal.now += AGAIN_S
    terminal.log("no room for 9 bytes in 6b1f-09.json")
    assert len(terminal.told) == 3
    for number in range(MOST_KEPT + 1):
        terminal.log("x" * number)
    assert len(terminal.trouble._told) <= MOST_KEPT


def test_libraries_and_what_is_no_trouble_are_in_the_log_alone() -> None:
    terminal = Terminal()
    terminal.log("never awaited", name="py.warnings")
    terminal.log("stored", logging.INFO)
    assert terminal.told == []


def test_a_log_on_a_full_disk_raises_nothing() -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    log = Patient(Full())  # type: ignore[arg-type]
    assert log.write("text") == 4
    log.flush()
