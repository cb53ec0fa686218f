"""Following log lines as they are stored: each once, late ones too, seconds after they were written.

By asking again every half second (`/logs/follow`). For filters that only the database knows, and
gateways without live streams; everything else is `live_lines`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spanyard_local.cli import reader
from spanyard_local.cli.ids import path
from spanyard_local.server_client import PAGE, ServerClient, ServerError, not_a_gateway

INTERVAL_S = 0.5
LONGEST_S = 10.0
"""Between two tries while the gateway is away."""
HOW = f"stored lines, asked for every {INTERVAL_S:g} s; Ctrl-C ends it"
_REMEMBERED = 50_000
"""Ids of lines that were shown; after a crash of the ingester a few come again under a new number."""

Line = dict[str, Any]
Tell = Callable[[str], None]


class Shown:
    """Which lines were shown already, as far as that may matter."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def add(self, line: Mapping[str, Any]) -> bool:
        """Whether this line is new; from now on it is not."""
        name = str(line["recordId"])
        if name in self._ids:
            return False
        self._ids.add(name)
        self._order.append(name)
        if len(self._order) > _REMEMBERED:
            self._ids.discard(self._order.popleft())
        return True


class Follower:
    """Lines of a project that match some filters, from now on, as they are stored."""

    def __init__(
        self,
        client: ServerClient,
        project: str,
        params: Mapping[str, Any],
        *,
        away: Tell,
        sleep: Callable[[float], None] = reader.pause,
    ) -> None:
        """`away` is told once when the gateway stops answering, and once when it is back."""
        self._client = client
        self._path = f"/projects/{path(project)}/logs/follow"
        self._params = {**params, "limit": PAGE}
        self._away = away
        self._sleep = sleep
        self._shown = Shown()
        self._cursor = self._page(None)["nextCursor"]

    def was_shown(self, item: Mapping[str, Any]) -> bool:
        """Whether this line was shown before; from now on it was."""
        return not self._shown.add(item)

    def new(self) -> tuple[list[Line], bool]:
        """Lines that were stored since the last call, and whether these are all."""
        page = self._page(self._cursor)
        self._cursor = page["nextCursor"]
        return [item for item in page["items"] if not self.was_shown(item)], page["caughtUp"]

    def lines(self) -> Iterator[Line]:
        """Lines as they are stored, for ever. Raises ServerError for what waiting won't mend."""
        pause = 0.0
        while True:
            try:
                items, caught_up = self.new()
            except ServerError as error:
                if error.status not in {0, 502, 503, 504}:
                    raise
                if not pause:
                    self._away(f"{error} Trying again …")
                pause = min(LONGEST_S, pause * 2 or INTERVAL_S)
                self._sleep(pause)
                continue
            if pause:
                self._away("the gateway answers again; nothing was left out")
                pause = 0.0
            yield from items
            if caught_up:
                self._sleep(INTERVAL_S)

    def _page(self, cursor: str | None) -> dict[str, Any]:
        page = self._client.get(self._path, {**self._params, "cursor": cursor})
        if not isinstance(page, dict) or not {"items", "nextCursor", "caughtUp"} <= page.keys():
            raise not_a_gateway(self._client.address)
        return page
