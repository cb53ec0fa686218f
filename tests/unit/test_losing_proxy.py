"""The proxy of the tests, where nobody listens: it tells its client, and leaves no socket behind."""

import asyncio
import gc

from tests.fakes.losing_proxy import losing_proxy
from tests.fakes.ports import own_port


async def test_who_is_behind_a_proxy_whose_target_is_gone_hears_it_at_once() -> None:
    async with losing_proxy(own_port()) as line, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        try:
            heard = await reader.read()
        except ConnectionError:
            heard = b""
        assert heard == b""
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    gc.collect()  # an unclosed socket would warn here, which fails a test
