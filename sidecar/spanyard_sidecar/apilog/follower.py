"""Follows one container run's log over the API, through everything that ends an answer early.

An answer ends when the run does, but also when the kubelet or the API server restarts, a proxy has
seen nothing for a while, or the kubelet lost sight of a file that it rotated: then it goes silent.
So after every end, and after a silence, it is asked again from the last position. Whose lines an
answer holds is not said in it: where one does not go on from the position, the pod's status is
asked first whether that is still the run that is meant.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from random import Random
from typing import Literal

from spanyard_core.clock import Clock
from spanyard_core.errors import SpanyardError
from spanyard_core.kube import Kube, KubeError
from spanyard_core.retry import Backoff
from spanyard_sidecar.apilog.inbox import Inbox
from spanyard_sidecar.apilog.pod_status import PodStatus, Run
from spanyard_sidecar.apilog.position import Position, Skipper, after, line_time
from spanyard_sidecar.apilog.reached import PATIENCE, has_ended, last_line, said_since
from spanyard_sidecar.cri_time import time_ns
from spanyard_sidecar.metrics import Seldom
from spanyard_sidecar.model import Gap

log = logging.getLogger("spanyard.sidecar")

FIRST_SILENCE = 5.0
"""Seconds without a line after which it is asked again: a rotation under load looks like this."""
MOST_SILENCE = 300.0
"""It doubles up to this: a server that says nothing costs a request in five minutes."""
CONFIRM_AFTER = 5.0
"""Seconds until the pod's status is asked whose lines these are, where the kubelet does not tell:
it follows the kubelet by tenths of a second, on a node without a free core by more than two."""
RESTART_WITHIN = 3.0
"""Seconds in which a run that has ended is started again, if that is done at once."""
ENDING_PAUSE = 0.3
NO_PROGRESS = 10.0
"""Seconds after which an answer that ought to end, and does not go on, is given up."""
LATE = 15.0
"""Seconds after its start; a run that was not read by then may have filled a file."""
FIRST_WORDS = 2.0
"""Seconds in which a program says something, or nothing for long."""
OVERLONG = 256 * 1024
"""Bytes of a line without end that are handed over as they come."""

ROTATED = "rotated-away"
UNREADABLE = "unreadable"

_Ended = Literal["end", "silence", "foreign"]
Status = Callable[[bool], Awaitable[PodStatus | None]]
"""The pod's status, or None when there is no such pod any more; True: a new one, not the last."""


class Follower:
    """Fills an inbox with one run's log."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        run: Run,
        inbox: Inbox,
        *,
        position: Position,
        floor: str,
        inside: bool = False,
        status: Status,
        ending: asyncio.Event,
        clock: Clock,
        rng: Random,
        seldom: Seldom,
    ) -> None:
        """`path` is that of the pod's log. `floor`: see `position.Skipper`."""
        self.run = run
        self._kube = kube
        self._path = path
        self._inbox = inbox
        self.position = position
        """After what is in the inbox."""
        self._floor = floor
        self._status = status
        self._ending = ending
        self._clock = clock
        self._backoff = Backoff(rng, first=0.5, most=15.0)
        self._seldom = seldom
        self._silence = FIRST_SILENCE
        self._rest = b""
        """Of a line whose end has not come; not counted in the position."""
        self._inside = inside
        """An overlong line is being handed over; the position counts it."""
        self._dropping = False
        """An overlong line that is known is passing by."""
        self._foreign = False
        self._known = False
        """Lines of it were read, though the position says nothing."""
        self._opened_ns = 0
        """When the last answer began."""
        self._timer: asyncio.Timeout | None = None
        """Of the wait for the next piece of an answer that is followed."""
        self._followed: bytes | None = None
        """What was left over of the last answer that was followed, if the kubelet ended it: that is
        at the run's end, or the kubelet's own."""
        self._odd = ""
        """What the kubelet said instead of lines."""
        self._next_started_ns: int | None = None
        """When the run after it began, to the second; None: it has not, or nobody knows."""
        self.settled = False
        """All that was there when it was looked last has been read."""
        self.trouble = ""

    async def work(self) -> None:
        """Until the run has ended and all of it is in the inbox, or its pod is gone."""
        while not self._inbox.complete:
            try:
                await self._round()
                self._backoff.reset()
                self.trouble = ""
            except SpanyardError as error:
                self.trouble = f"logs of {self.run.container} cannot be read: {error}"
                if self._seldom(self.run.container):
                    log.warning("%s; trying again", self.trouble)
                pause = self._backoff.next()
                await self._clock.sleep(min(pause, 1.0) if self._ending.is_set() else pause)

            except Exception:
                # A bug, and what was read is in doubt: not gone on with until the next start, and
                # no end line is written. All other logs go on.
                self.trouble = f"logs of {self.run.container}: failed; not read until a restart"
                log.exception("%s", self.trouble)
                return

    def hurry(self) -> None:
        """The end begins: what has not come in a second does not come as an answer that goes on."""
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time() + 1.0)

    async def _round(self) -> None:
        status = await self._status(False)
        mine = self._mine(status)
        if mine is None or mine.restart != self.run.restart or mine.state != "running":
            # What is decided for good is not decided by what was known before an outage.
            status = await self._status(True)
            mine = self._mine(status)
        if status is None or mine is None:
            # Removed, or its container was seen no more: nobody has the rest.
            self.settled = True
            if self._seldom(f"gone {self.run.container}"):
                log.warning("%s: its pod is gone, and so is what was not read", self.run.container)
            await self._clock.sleep(MOST_SILENCE)
            return
        if mine.restart > self.run.restart:
            self._next_started_ns = mine.started_ns
            await self._last(previous=True, reachable=mine.restart == self.run.restart + 1)
            return
        if mine.restart < self.run.restart or not mine.has_log:
            await self._clock.sleep(ENDING_PAUSE)  # the status is behind
            await self._status(True)
            return
        self.run = mine
        if mine.state != "running":
            if mine.state == "waiting":
                # It is the one before, already, and still is when the next one runs.
                await self._last(previous=True, reachable=True)
            elif await self._stays(mine, status):
                await self._last(previous=False, reachable=True)
            return
        if self._ending.is_set():
            self.settled = await self._pass(follow=False) == "end" and not self._rest
            await self._clock.sleep(ENDING_PAUSE)
        elif await self._pass(follow=True) != "silence":
            # Most likely the run has ended, and the status says so in a moment.
            await self._clock.sleep(ENDING_PAUSE)
        await self._status(True)

    def _mine(self, status: PodStatus | None) -> Run | None:
        return status.runs.get(self.run.container) if status is not None else None

    async def _stays(self, mine: Run, status: PodStatus) -> bool:
        """Whether it is certain that a question now is about this run and no newer one."""
        if status.deleting or self._ending.is_set():
            return True
        await self._clock.sleep(RESTART_WITHIN)
        now = self._mine(await self._status(True))
        return now is not None and now.id == mine.id

    async def _last(self, *, previous: bool, reachable: bool) -> None:
        """The run has ended: what is left of it."""
        how: _Ended = "foreign"
        if reachable:
            how = await self._pass(follow=False, previous=previous)
            if how == "foreign" and not previous:
                how = "silence"  # the next one runs, and the status does not say so yet
                await self._clock.sleep(ENDING_PAUSE)
                await self._status(True)
            elif how == "end" and self._odd:
                how = "foreign"
        if how == "silence":
            return  # asked again
        if how == "foreign" and self._followed is not None:
            self._rest = self._followed  # it was read to its end before it was removed
        elif how == "foreign":
            about = self._odd or "it has run again since, and ended"
            text = f"the end of run {self.run.restart} cannot be had any more: {about}"
            await self._inbox.put(Gap(UNREADABLE, text, from_time=self.position.last))
        if self._rest:
            await self._inbox.put(self._rest)
        self.settled = True
        self._inbox.end()

    # -- one answer ----------------------------------------------------------------------------

    async def _pass(self, *, follow: bool, previous: bool = False) -> _Ended:
        """Ask from the position, and take what is new. Raises KubeError, KubeUnavailableError."""
        query = {"container": self.run.container, "timestamps": "true"}
        query |= {"follow": "true"} if follow else {}
        query |= {"previous": "true"} if previous else {}
        query |= {"sinceTime": self.position.since} if self.position.since else {}
        skipper = Skipper(self.position, floor=self._floor)
        if self._inside:
            self._inside = False
            text = f"the rest of a line of more than {OVERLONG} bytes cannot be asked for again"
            await self._inbox.put(Gap(UNREADABLE, text, from_time=self.position.last))
        self._rest, self._odd, self._foreign, self._dropping = b"", "", False, False
        came = self._inbox.came
        try:
            async with self._kube.stream(self._path, query) as stream:
                pieces = aiter(stream)
                self._opened_ns = self._clock.time_ns()
                try:
                    while True:
                        piece = await self._next(pieces, follow=follow)
                        if piece is None:
                            return await self._at_end(skipper, follow=follow, previous=previous)
                        if not await self._take(piece, skipper, previous=previous):
                            self._rest = b""
                            return "foreign"
                        if self._inbox.came > came:
                            came, self._silence = self._inbox.came, FIRST_SILENCE
                finally:
                    if isinstance(pieces, AsyncGenerator):
                        await pieces.aclose()
        except TimeoutError:
            self._silence = min(self._silence * 2, MOST_SILENCE)
            return "silence"
        except KubeError as error:
            if error.status not in {400, 404}:
                raise
            # "is waiting to start", "previous terminated container not found"
            self._odd = str(error)
            await self._clock.sleep(ENDING_PAUSE)
            return "end"

    async def _at_end(self, skipper: Skipper, *, follow: bool, previous: bool) -> _Ended:
        if self._rest and not line_time(self._rest):
            self._complain(self._rest)
            self._rest = b""
        if follow and not self._odd:
            self._followed = self._rest
        # Not even the last line was there that we know: there is a new file, and no line in it.
        if follow or self._odd or skipper.connected or skipper.passing:
            return "end"
        if not previous and not await self._still_this_run():
            return "foreign"
        await self._began_anew(skipper)
        self._floor, self.position, self._known = self.position.last, Position(), True
        return "end"

    async def _next(self, pieces: AsyncIterator[bytes], *, follow: bool) -> bytes | None:
        """None at the answer's end. Raises TimeoutError."""
        patience = self._silence
        if self._ending.is_set() or not follow:
            patience = 1.0 if follow else NO_PROGRESS
        async with asyncio.timeout(patience) as timer:
            self._timer = timer
            try:
                return await anext(pieces, None)
            finally:
                self._timer = None

    async def _take(self, piece: bytes, skipper: Skipper, *, previous: bool) -> bool:
        """Hand over what is new of it; False when it is another run's."""
        if self._inside or self._dropping:
            end = piece.find(b"\n") + 1
            more, piece = (piece[:end], piece[end:]) if end else (piece, b"")
            if self._inside:
                await self._inbox.put(more)
            self._inside, self._dropping = self._inside and not end, self._dropping and not end
        data = self._rest + piece
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        fresh: list[bytes] = []
        times: list[str] = []
        for line in data[: end - 1].split(b"\n") if end else ():
            time = line_time(line)
            if not time:
                self._complain(line)
            elif await self._is_new(time, skipper, previous=previous):
                fresh.append(line)
                times.append(time)
            elif self._foreign:
                return False
        if fresh:
            self._followed = None
            self.position = after(self.position, times)
            await self._inbox.put(b"".join([line + b"\n" for line in fresh]))
        if len(self._rest) > OVERLONG:
            await self._take_overlong(skipper, previous=previous)
        return not self._foreign

    async def _is_new(self, time: str, skipper: Skipper, *, previous: bool) -> bool:
        passed = skipper.passing
        if not skipper.is_new(time):
            return False
        self._foreign = not passed and not await self._confirmed(skipper, time, previous=previous)
        if not passed and not self._foreign and not self.position.first:
            await self._look_back(time)
        return not self._foreign

    async def _look_back(self, time: str) -> None:
        """The first line that was ever read of the run: was there any before it?"""
        started, opened = self.run.started_ns, self._opened_ns
        if started is None or self._known:
            return  # not told; or its lines were read before, and there is a gap for the rest
        late = opened - started > LATE * 1_000_000_000
        if late and time_ns(time) - started > FIRST_WORDS * 1_000_000_000:
            text = (
                "the run could not be read from its start; what it said first may be rotated away"
            )
            await self._inbox.put(Gap(ROTATED, text, to_time=time))

    async def _take_overlong(self, skipper: Skipper, *, previous: bool) -> None:
        """A line whose end is far: it counts as read from now on."""
        time = line_time(self._rest)
        if time and await self._is_new(time, skipper, previous=previous):
            rest, self._rest = self._rest, b""
            self._inside, self._followed = True, None
            self.position = after(self.position, [time])
            await self._inbox.put(rest)
        elif not self._foreign:
            self._rest, self._dropping = b"", True  # known, or the kubelet's words

    def _complain(self, line: bytes) -> None:
        """The kubelet's own words in the answer: what it could not do."""
        self._odd = line[:300].decode(errors="replace")
        if self._seldom(f"odd {self.run.container}"):
            log.warning("%s: the kubelet says: %s", self.run.container, self._odd)

    async def _confirmed(self, skipper: Skipper, time: str, *, previous: bool) -> bool:
        """Before the first new line of an answer: these are the run's lines, and none is missing."""
        if skipper.connected and self.position.first:
            return True
        if not await (self._still_before(time) if previous else self._still_this_run()):
            return False
        await self._began_anew(skipper)
        return True

    async def _began_anew(self, skipper: Skipper) -> None:
        if not skipper.connected:
            text = "the kubelet has begun a new file, and the rest of the one before cannot be had"
            await self._inbox.put(Gap(ROTATED, text, from_time=self.position.last))

    async def _still_this_run(self) -> bool:
        """Whether the newest log, of which an answer has just begun, is of the run that is meant."""
        before = await self._last_line(previous=True)
        ended = has_ended(self.run, before, position=self.position, floor=self._floor)
        if ended is not None:
            return not ended
        if not self._ending.is_set():
            await self._clock.sleep(CONFIRM_AFTER)
        now = self._mine(await self._status(True))
        return now is not None and now.id == self.run.id

    async def _still_before(self, time: str) -> bool:
        """Whether the log before the newest, with a line of that time, is of the run that is meant:
        the next one may have ended, too, and then it is the next one's."""
        if self._next_started_ns is None:
            return True
        later = said_since(time, self._next_started_ns)
        if later is None and self._followed is None:
            line = await self._last_line(previous=True)
            later = bool(line) and line == await self._last_line(previous=False)
        return later is False

    async def _last_line(self, *, previous: bool) -> bytes | None:
        async with asyncio.timeout(PATIENCE):
            return await last_line(self._kube, self._path, self.run.container, previous=previous)
