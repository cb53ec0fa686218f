"""The proxy of the tests, where nobody listens: it tells its client, and leaves no socket behind."""

import asyncio
import gc
import socket

from tests.fakes.losing_proxy import losing_proxy


async def test_who_is_behind_a_proxy_whose_target_is_gone_hears_it_at_once() -> None:
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        target = gone.getsockname()[1]
    async with losing_proxy(target) as line, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        try:
            heard = await reader.read()
        except ConnectionError:
            heard = b""
        assert heard == b""
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    gc.collect()  # an unclosed socket would warn here, which fails a test
