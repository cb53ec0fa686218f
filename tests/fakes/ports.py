"""TCP ports that stay a test's own while nobody listens on them."""

import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Iterator

_FIRST, _LAST = 20_000, 32_000
"""Below the ports that systems give away by themselves: from 32,768 on Linux, 49,152 elsewhere."""
_candidates = itertools.cycle(range(_FIRST, _LAST))
for _ in range(os.getpid() * 97 % (_LAST - _FIRST)):
    next(_candidates)


def own_port() -> int:
    """A port of loopback that no other process of the tests gets as long as this one lives.

    For what listens later, or again after it was killed. A port that the system gave once, it gives
    to the next who asks: to a test that runs beside. Raises OSError when none is free.
    """
    for port in itertools.islice(_candidates, _LAST - _FIRST):
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as mark:
            # Who has the same number for datagrams has it: that hinders nobody who listens.
            mark.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                mark.detach()
                return port
    raise OSError(f"no port between {_FIRST} and {_LAST} is free")


@contextlib.contextmanager
def nobodys(port: int) -> Iterator[None]:
    """While the block runs nobody can listen on this port, if somebody else does not already.

    For one that all wish for, as the default of `spec.port`: who has it loses it to a test beside as
    soon as it ends, and has another the next time.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


@contextlib.contextmanager
def kept(port: int) -> Iterator[None]:
    """While the block runs the system gives this port to nobody, but who names it can listen on it.

    For one that it gave, and that must be the same after a restart. Linux alone lets both bind it.
    """
    with socket.socket() as mark:
        if sys.platform == "linux":
            mark.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            mark.bind(("127.0.0.1", port))
        yield
