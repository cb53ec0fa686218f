"""What lies in a bucket under a key, by a signed HEAD."""

import aiohttp
from yarl import URL

from spanyard_core.errors import StorageError, StorageRefusedError
from spanyard_gateway.objects.model import Signed, Stored

_LOOK_S = 10


async def looked(session: aiohttp.ClientSession, head: Signed, digest: str) -> Stored | None:
    """None where nothing lies; `digest` is the header that has the sha256, if any has.

    Raises StorageError; StorageRefusedError where trying again is no use.
    """
    try:
        async with session.head(
            URL(head.url, encoded=True),  # as it was signed
            timeout=aiohttp.ClientTimeout(total=_LOOK_S),
            allow_redirects=False,
        ) as answer:
            if answer.status == 404:
                return None
            if answer.status in {401, 403}:
                raise StorageRefusedError(
                    "the bucket refuses the gateway's own credentials; it needs to read and put "
                    "objects"
                )
            size = answer.content_length
            if answer.status != 200 or size is None:
                told = "without a length" if answer.status == 200 else str(answer.status)
                raise StorageError(f"the bucket answers {told} to a HEAD")
            return Stored(size, answer.headers.get(digest, ""))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StorageError(f"the bucket does not answer ({type(error).__name__})") from error
