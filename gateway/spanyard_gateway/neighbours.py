"""Which user of this machine is at the other end of a loopback connection.

A laptop's gateway builds and runs what it is told, as the user who started it. Loopback keeps other
machines out, not the other users of this one. Linux tells whose a TCP socket is (`uid` in
`/proc/net/tcp`, proc(5)); where nothing tells (macOS), everybody on the machine is let in, and the
docs say so.
"""

import socket
import sys
from pathlib import Path

_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
_LOCAL, _REMOTE, _UID = 1, 2, 7
"""Columns of the tables."""


def _hex_address(family: int, host: str, port: int) -> str:
    """As the tables write it: 32-bit words in the machine's order, port in hex."""
    packed = socket.inet_pton(family, host.partition("%")[0])
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return f"{b''.join(words).hex().upper()}:{port:04X}"


def uid_in(table: str, near: str, far: str) -> int | None:
    """The owner of the socket whose own address is `near` and whose peer is `far`."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > _UID and fields[_LOCAL] == near and fields[_REMOTE] == far:
            return int(fields[_UID])
    return None


def peer_uid(connection: socket.socket) -> int | None:
    """The user behind a connection of this machine; None when the system does not tell."""
    table = _TABLES.get(connection.family)
    if table is None:
        return None
    try:
        peer, own = connection.getpeername(), connection.getsockname()
        text = table.read_text()
    except OSError:
        return None  # closed meanwhile, or no Linux
    family = connection.family
    return uid_in(text, _hex_address(family, *peer[:2]), _hex_address(family, *own[:2]))
