"""Capture `api`, the pure parts: where a reader stands, and whose lines an answer holds."""

from typing import Any

import pytest

from spanyard_sidecar.apilog.pod_status import Run
from spanyard_sidecar.apilog.position import Position, Skipper, after, line_time
from spanyard_sidecar.apilog.reached import has_ended
from spanyard_sidecar.cri_time import time_ns

TIMES = [f"2026-11-21T14:45:0{s}.{n:09d}Z" for s in range(3) for n in range(3)]


class TestPositions:
    @pytest.mark.parametrize("read", range(1, 9))
    def test_an_answer_that_begins_anew_is_skipped_to_where_we_were(self, read: int) -> None:
        position = after(Position(), TIMES[:read])
        answer = [t for t in TIMES if t >= position.since[:-1]]
        skipper = Skipper(position)
        assert [t for t in answer if skipper.is_new(t)] == TIMES[read:]
        assert skipper.connected

    def test_late_lines_of_the_other_stream_do_not_confuse_it(self) -> None:
        t = TIMES
        order = [t[0], t[3], t[2], t[4], t[3], t[5]]
        for read in range(1, 6):
            position = after(Position(), order[:read])
            answer = [x for x in order if x >= position.since[:-1]]
            skipper = Skipper(position)
            fresh = [x for x in answer if skipper.is_new(x)]
            known = [x for x in order[:read] if x >= position.since[:-1]]
            assert known + fresh == answer

    def test_another_file_is_read_by_time_and_says_whether_it_goes_on(self) -> None:
        position = after(Position(), TIMES[:6])
        for answer, connected in ((TIMES[5:], True), (TIMES[6:], False)):
            skipper = Skipper(position)
            assert [t for t in answer if skipper.is_new(t)] == TIMES[6:]
            assert skipper.connected == connected

    @pytest.mark.parametrize(
        ("line", "time"),
        [
            (b"2026-11-21T14:45:00.000000001Z x", "2026-11-21T14:45:00.000000001Z"),
            (b"2026-11-21T14:45:00.000000001+02:00 x", "2026-11-21T12:45:00.000000001Z"),
            (b"unable to retrieve container logs for containerd://0", ""),
            (b"", ""),
            (b"\xff\xfe", ""),
        ],
    )
    def test_a_line_without_a_time_is_the_kubelets_own(self, line: bytes, time: str) -> None:
        assert line_time(line) == time


class TestWhichRunTheKubeletHasReached:
    """`reached`: the pure part."""

    START = "2026-11-21T14:45:10.000000000Z"
    LINE = b"2026-11-21T14:45:%s000000Z said"

    def _run(self, restart: int) -> Run:
        """Started in the second 14:45:09, as far as is known."""
        started = time_ns(self.START)
        return Run(
            "server",
            restart,
            "running",
            "containerd://it",
            started,
            has_log=True,
            has_previous=True,
        )

    def tells(self, restart: int, before: bytes | None, read: str = "", floor: str = "") -> Any:
        position = after(Position(), [read] if read else [])
        return has_ended(self._run(restart), before, position=position, floor=floor)

    def test_without_a_run_before_the_first_one_still_runs(self) -> None:
        assert self.tells(0, None) is False
        assert self.tells(0, b"") is True

    def test_that_the_run_before_a_later_one_is_gone_tells_nothing(self) -> None:
        assert self.tells(1, None) is None
        assert self.tells(1, b"") is None

    @pytest.mark.parametrize(
        ("second", "ended"), [(b"08.500", False), (b"09.500", None), (b"10.500", True)]
    )
    def test_before_anything_was_read_the_start_decides_known_to_a_second(
        self, second: bytes, ended: bool | None
    ) -> None:
        assert self.tells(1, self.LINE % second) is ended

    def test_what_was_read_decides_at_once(self) -> None:
        read = "2026-11-21T14:45:09.600000000Z"
        assert self.tells(1, self.LINE % b"09.500", read) is False
        assert self.tells(1, self.LINE % b"09.700", read) is True
        assert self.tells(1, self.LINE % b"09.500", floor=read) is False

    def test_a_log_that_was_removed_names_its_container(self) -> None:
        assert self.tells(1, b"unable to retrieve container logs for containerd://it") is True
        assert self.tells(1, b"unable to retrieve container logs for containerd://other") is None
