"""How far what is stored of deployments lies behind what they printed, by the newest line of both."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanyard_local.cli import ids
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import parse_time

AT_ONCE = 50
"""Deployments of one look, of 64 subscriptions of a socket: one after the other 500 took minutes
where some did not answer."""
PATIENCE_S = 5.0
"""For the answers of a look."""


@dataclass(slots=True)
class _Printed:
    """What the stream told of a deployment: its newest line."""

    record: str = ""
    time: str = ""
    whole: bool = False
    """Whether there is no newer one."""


class Newest:
    """See the module. Of more deployments than AT_ONCE, who was not asked for longest is asked for."""

    def __init__(self, context: Context, listening: Any) -> None:
        self._context = context
        self._listening = listening
        self._lags: dict[str, int | None] = {}
        """None: nobody can tell. Who was asked for last stands last."""

    def lags(self, deployments: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Deployment → nanoseconds; it is not there where nobody can tell. Raises ServerError.

        The first look asks for all of them, each later one for some.
        """
        known = {str(one["id"]): one for one in deployments}
        self._lags = {name: lag for name, lag in self._lags.items() if name in known}
        waiting = [name for name in known if name not in self._lags]
        wanted = [*waiting, *self._lags]
        if not waiting:
            wanted = wanted[:AT_ONCE]
        for start in range(0, len(wanted), AT_ONCE):
            for name, lag in self._asked([known[n] for n in wanted[start : start + AT_ONCE]]):
                self._lags.pop(name, None)
                self._lags[name] = lag
        return {name: lag for name, lag in self._lags.items() if lag is not None}

    def _asked(self, some: Sequence[Mapping[str, Any]]) -> list[tuple[str, int | None]]:
        found = self._printed([str(one["id"]) for one in some])
        return [(str(one["id"]), self._lag(one, found[str(one["id"])])) for one in some]

    def _printed(self, names: Sequence[str]) -> dict[str, _Printed]:
        from spanyard_local.live_client import Lines, Live, Over, Partial

        found = {name: _Printed() for name in names}
        waiting = {self._listening.subscribe(f"server:{name}", history=1): name for name in names}
        subscriptions = list(waiting)
        until = time.monotonic() + PATIENCE_S
        while waiting and (event := self._listening.next(max(0.0, until - time.monotonic()))):
            if event.id not in waiting:
                continue
            of = found[waiting[event.id]]
            if isinstance(event, Lines):
                if event.items:
                    of.record = f"{event.writer}#{event.items[-1].seq}"
                    of.time = max(of.time, *(item.timestamp for item in event.items))
            elif isinstance(event, Live | Over | Partial):
                of.whole = isinstance(event, Live)
                del waiting[event.id]
        for subscription in subscriptions:
            self._listening.unsubscribe(subscription)
        return found

    def _lag(self, one: Mapping[str, Any], printed: _Printed) -> int | None:
        if not printed.whole:
            return None
        newest = parse_time(printed.time)
        if newest is None:
            return 0
        where = f"/projects/{ids.path(str(one['projectId']))}/logs"
        [*stored] = self._context.client.pages(where, {"deployment": one["name"]}, most=1)
        if stored and stored[0]["recordId"] == printed.record:
            return 0
        kept = parse_time(stored[0]["timestamp"]) if stored else None
        return max(0, newest - kept if kept else self._context.now_ns - newest)
