"""Lines that a collector could not read as events: in quarantine with the collector's reason."""

import pytest

from spanyard_core.records import LogLine
from spanyard_ingester.linecheck import BadLineError, Expected, LineCheck
from spanyard_sidecar.events import EventLines
from spanyard_sidecar.model import Identity


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "Expecting property name|object key"),
        (b"[]", "not a JSON object"),
        (b'{"type":"span"}', 'in this folder it is "log"'),
        (b"\xff", "invalid UTF-8 at byte 0"),
    ],
)
def test_the_reason_is_the_collectors(line: bytes, reason: str) -> None:
    stored, _ = EventLines(Identity("ns.app"), "w", "logs", service="").stamped(line, 7)
    check = LineCheck(Expected("logs", "ns.app", "w", 1, 10))
    with pytest.raises(BadLineError, match=f"^not an event: .*({reason})") as caught:
        check(stored.rstrip(b"\n"))
    assert caught.value.seq == 7


def test_no_record_has_a_field_of_this_name() -> None:
    assert "unreadable" not in LogLine.__struct_fields__
