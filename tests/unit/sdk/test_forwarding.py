"""A handler of `logging` that forwards to `spanyard.log`: no circle, no hang, also when we log."""

import errno
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import spanyard
from spanyard import ObservabilityWriter, _process
from spanyard._files import SpanFile
from tests.unit.sdk.conftest import SpansDir


class Forwarding(logging.Handler):
    """What an application has that wants its log lines beside its spans."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.inside = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())
        self.inside.set()
        assert self.may_go_on.wait(20)
        spanyard.log.info(record.getMessage(), logger=record.name)


@pytest.fixture
def forwarding() -> Iterator[Forwarding]:
    handler = Forwarding()
    root = logging.getLogger()
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_lines_of_others_are_forwarded(spans_dir: SpansDir, forwarding: Forwarding) -> None:
    logging.getLogger("shop").warning("sold %s", "out")
    (line,) = spans_dir.lines("logs")
    assert (line["message"], line["attributes"]) == ("sold out", {"logger": "shop"})


def test_what_we_say_ourselves_is_forwarded_once(
    spans_dir: SpansDir, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spanyard.span("a") as span:
        pass
    span.set(late=1)
    span.set(late=2)
    assert [line["message"] for line in spans_dir.lines("logs")] == ["span 'a': set after its end"]
    monkeypatch.setattr(SpanFile, "append", fail)
    for _ in range(10):
        logging.getLogger("shop").warning("nobody writes this down")
    said = [text for text in forwarding.seen if "was not written" in text]
    assert said == ["an event of logs was not written: No space left on device"]
    monkeypatch.undo()
    assert spanyard.stats().dropped == {"logs": 11}  # ten, and what was said about the first
    spanyard.log.info("again")
    assert "11 events were not written" in spans_dir.lines("logs")[-1]["message"]


def test_a_line_from_within_a_write_does_not_go_round(
    spans_dir: SpansDir, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = SpanFile.append

    def logging_append(file: SpanFile, line: bytes) -> None:
        logging.getLogger("shop").warning("from a finalizer, in the middle of a write")
        append(file, line)

    monkeypatch.setattr(SpanFile, "append", logging_append)
    spanyard.log.info("a")
    assert set(spanyard.stats().errors) == {"re-entered"}
    assert spanyard.stats().dropped["logs"] < 50
    assert len(forwarding.seen) < 100
    assert spans_dir.lines("logs")[0]["message"] == "a"


def test_wrong_settings_are_said_once_at_the_first_use(
    tmp_path: Path, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANYARD_SPANS_DIR", str(tmp_path))
    monkeypatch.setenv("SPANYARD_SPANS_FILE_SIZE", "large")
    monkeypatch.setattr(_process, "_sink", _process._Unread())
    spanyard.log.info("first")
    assert [text[:34] for text in forwarding.seen] == ["SPANYARD_SPANS_FILE_SIZE: 'large' "]
    assert spanyard.stats().written == {"logs": 2}
    spanyard.configure()


def test_a_thread_that_logs_and_one_that_fails_to_write_do_not_wait_for_each_other(
    spans_dir: SpansDir, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One holds the handler's lock and wants ours, the other has ours and has to say something."""

    def slowly_fail(*_: object) -> None:
        assert forwarding.inside.wait(20)
        forwarding.may_go_on.set()
        fail()

    monkeypatch.setattr(SpanFile, "append", slowly_fail)
    forwarding.may_go_on.clear()
    threads = [
        threading.Thread(target=spanyard.log.info, args=("fails",), daemon=True),
        threading.Thread(target=logging.getLogger("shop").warning, args=("x",), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"


@pytest.mark.parametrize("trouble", ["full", "unwritable"])
def test_a_handler_that_records_with_a_writer_does_not_hang_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    writer = ObservabilityWriter(
        tmp_path, project="team.shop", flush_interval=3600, batch_size=2, max_pending=2
    )

    class Recording(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            writer.record_log(message=record.getMessage())

    def use() -> None:
        for n in range(4):
            writer.record_log(message=f"m{n}")
        writer.flush()

    monkeypatch.setattr(writer, "_has_thread", lambda: True)  # the test flushes
    if trouble == "unwritable":
        monkeypatch.setattr(writer, "_write", fail)
    handler = Recording()
    logging.getLogger("spanyard").addHandler(handler)
    try:
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "it waits for itself"
    finally:
        logging.getLogger("spanyard").removeHandler(handler)
    monkeypatch.undo()
    writer.shutdown()
    stats = writer.stats()
    assert stats.recorded == stats.written + stats.pending + stats.dropped
    assert stats.dropped > 2
    assert stats.pending == 0


def test_what_a_finalizer_records_while_a_writer_counts_is_not_lost(tmp_path: Path) -> None:
    with ObservabilityWriter(tmp_path, project="team.shop", flush_interval=3600) as writer:
        with writer._accounts():
            writer.record_log(message="late")
        writer.record_log(message="m")
        assert writer.stats().recorded == writer.flush().events == 2
