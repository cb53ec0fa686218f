"""A listener on a collector's `/live`, in a thread of its own."""

import asyncio
import json
from threading import Event, Thread
from typing import Any, Self

import aiohttp


class LiveListener:
    """Everything of all containers, from the moment that `__enter__` returns."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("http://", "ws://") + "/live"
        self._listening = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name="live listener")
        self.records: list[dict[str, Any]] = []
        self.other: list[dict[str, Any]] = []
        """Messages of other kinds than records, hello and live: there should be none."""
        self.problem: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(60), "no answer to the subscription"
        return self

    def __exit__(self, *_: object) -> None:
        """The collector's end ends the connection."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.problem is None, self.problem

    async def _run(self) -> None:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(self._url, max_msg_size=0) as socket,
            ):
                await socket.send_str('{"type":"subscribe"}')
                async for message in socket:
                    self._take(json.loads(message.data))
        except BaseException as error:
            self.problem = error

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "hello":
                pass
            case "live":
                self._listening.set()
            case "lines":
                for seq, record in enumerate(message["records"], message["first"]):
                    assert (record["writer"], record["seq"]) == (message["writer"], seq)
                    self.records.append(record)
            case _:
                self.other.append(message)
