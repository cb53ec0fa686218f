"""A connection of a listener, as aiohttp has it, with a word for whoever says too much at once."""

from aiohttp import WSCloseCode, web


class Upgraded(web.WebSocketResponse):
    """Closes with a reason where aiohttp, which refuses large messages by itself, gives a code alone."""

    def __init__(self, *, heartbeat: float, most_bytes: int) -> None:
        super().__init__(heartbeat=heartbeat, max_msg_size=most_bytes, compress=False)
        self._too_big = (
            f"a message is larger than {most_bytes:,} bytes, which is the limit".encode()
        )

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            message = message or self._too_big
        return await super().close(code=code, message=message, drain=drain)
