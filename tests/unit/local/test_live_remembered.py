"""What those who follow for days remember: the newest, and no more than that."""

import pytest

from spanyard_local.cli import following
from spanyard_local.cli.following import Shown
from spanyard_local.live_client import Passed, Resume
from spanyard_local.live_client import place as places
from spanyard_local.live_client.place import Place, Wish


def test_of_lines_that_were_shown_the_newest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_REMEMBERED", 10)
    shown = Shown()
    assert all(shown.add({"recordId": f"w#{n}"}) for n in range(30))
    assert not any(shown.add({"recordId": f"w#{n}"}) for n in range(20, 30))
    assert shown.add({"recordId": "w#19"}), "forgotten: it would grow for ever"


def test_of_writers_those_that_were_heard_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_KNOWN", 10)
    monkeypatch.setattr(places, "MOST_RESUMED", 4)
    place = Place(Wish("a", "server:a.b", resume=Resume(1, {})))
    for n, last in (*((n, 1) for n in range(30)), (25, 2)):
        assert list(place.take(Passed(id="a", writer=f"w{n}", last=last, left=1)))
    assert len(place._seen) == 10
    assert place.resume() == Resume(1, {"w27": 1, "w28": 1, "w29": 1, "w25": 2})
