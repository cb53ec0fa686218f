"""The client of live streams for commands, which do not await: one event after the other."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from spanyard_local.cli import reader
from spanyard_local.live_client import AwayError, Event, LiveClient, NotAdmittedError
from spanyard_local.server_client import ServerClient, ServerError

T = TypeVar("T")


class Listening:
    """A socket to the gateway that a ServerClient asks. Ctrl-C comes as ever, whatever it waits for.

    Nothing happens between calls: who prints slowly makes the gateway wait, and is told of what it
    then drops. Raises NoLiveError on entering where there are no live streams, else ServerError;
    BrokenPipeError once nobody reads what the command prints.
    """

    def __init__(self, client: ServerClient) -> None:
        self._client = client
        self._runner = asyncio.Runner()
        self._live: LiveClient | None = None
        self._working: asyncio.Task[Any] | None = None
        self._unread = False
        """Whether nobody reads what is printed."""

    def __enter__(self) -> Self:
        try:
            if (out := reader.pipe()) is not None:
                loop = self._runner.get_loop()
                loop.add_reader(out, self._reader_is_gone, loop, out)
            self._live = self._run(self._opened())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._runner.run(self.live.__aexit__(None, None, None))
        finally:
            self._runner.close()

    @property
    def live(self) -> LiveClient:
        """The client itself."""
        assert self._live is not None
        return self._live

    def subscribe(self, channel: str, **wish: Any) -> str:
        """As the client's."""
        return self._run(self.live.subscribe(channel, **wish))

    def unsubscribe(self, subscription: str) -> None:
        """As the client's."""
        self._run(self.live.unsubscribe(subscription))

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None after so many seconds without one."""
        return self._run(self.live.next(timeout))

    def events(self) -> Iterator[Event]:
        """All that come, for ever."""
        while True:
            event = self.next()
            assert event is not None
            yield event

    async def _opened(self) -> LiveClient:
        client = LiveClient(
            self._client.address, token=self._client.token, trust=self._client.trust
        )
        return await client.__aenter__()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        noted = self._noted(work)
        with _told():
            try:
                return self._runner.run(noted)
            except asyncio.CancelledError:
                if self._unread:
                    reader.gone()
                # A Ctrl-C before the task's first step: the runner has forgotten that it came.
                raise KeyboardInterrupt from None
            finally:
                noted.close()
                work.close()

    async def _noted(self, work: Coroutine[Any, Any, T]) -> T:
        self._working = asyncio.current_task()
        try:
            return await work
        finally:
            self._working = None

    def _reader_is_gone(self, loop: asyncio.AbstractEventLoop, out: int) -> None:
        loop.remove_reader(out)
        self._unread = True
        if self._working is not None:
            self._working.cancel()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors of the client as those of the other requests, whose exit codes they share."""
    try:
        yield
    except NotAdmittedError as error:
        raise ServerError(str(error), status=error.status) from error
    except AwayError as error:
        raise ServerError(str(error)) from error
