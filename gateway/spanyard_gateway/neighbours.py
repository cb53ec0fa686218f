"""Which user of this machine is at the other end of a loopback connection.

A laptop's gateway builds and runs what it is told, as the user who started it. Loopback keeps other
machines out, not the other users of this one. Linux tells whose a TCP socket is: of one socket by
its addresses (sock_diag(7)), or of all in `/proc/net/tcp` (proc(5)), which takes 20 ms with a
thousand connections. Where nothing tells (macOS), everybody on the machine is let in, and the docs
say so.
"""

import ipaddress
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

GONE = -1
"""Nobody's: the other end was closed. Whose it was is not known any more; the system says root."""

_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9
"""Columns of the tables."""

_NETLINK_SOCK_DIAG, _BY_FAMILY, _REQUEST, _ERROR = 4, 20, 1, 2
_ENOENT = 2
_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port (netlink(7))."""
_ASKED = struct.Struct("=BBBxI2s2s16s16sI8s")
"""inet_diag_req_v2: family, protocol, extensions, states; ports, addresses, interface, cookie."""
_TOLD = struct.Struct("=4x2s2s16s16s12x12xII")
"""inet_diag_msg: the same ports and addresses; …, uid, inode."""
_ANY_COOKIE = b"\xff" * 8
_WAIT_S = 1.0

_Place = tuple[str, int]


def peer_uid(connection: socket.socket) -> int | None:
    """The user behind a connection of this machine, or GONE; None when the system does not tell."""
    family = connection.family
    if family not in _TABLES:
        return None
    try:
        peer, own = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return None  # closed meanwhile
    try:
        return _told(_asked(family, peer, own), lambda: _asked(family, own, peer), peer)
    except OSError:
        pass  # no Linux, or one that does not answer such questions
    try:
        table = _TABLES[family].read_text()
    except OSError:
        return None
    near, far = _hex_address(family, *peer), _hex_address(family, *own)
    return _told(uid_in(table, near, far), lambda: uid_in(table, far, near), peer)


def _told(uid: int | None, ours: Callable[[], int | None], peer: _Place) -> int | None:
    if uid is not None:
        return uid
    # Somebody of this machine, whose end is no longer there? Only if the system would know.
    local = ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback
    return GONE if local and ours() is not None else None


def _asked(family: int, near: _Place, far: _Place) -> int | None:
    """The owner of the socket whose own address is `near` and whose peer is `far`.

    Raises OSError where the kernel is not to be asked.
    """
    ends = [struct.pack("!H", port) for _, port in (near, far)]
    hosts = [_packed(family, host).ljust(16, b"\0") for host, _ in (near, far)]
    wish = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF, *ends, *hosts, 0, _ANY_COOKIE)
    header = _HEADER.pack(_HEADER.size + len(wish), _BY_FAMILY, _REQUEST, 1, 0)
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("no netlink here")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_WAIT_S)
        kernel.sendto(header + wish, (0, 0))
        answer = kernel.recv(1 << 14)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if code == _ENOENT:
            return None
        raise OSError(code, "sock_diag")
    *found, uid, inode = _TOLD.unpack_from(answer, _HEADER.size)
    if found != [*ends, *hosts]:
        return None  # whoever listens there, in place of a connection that is no more
    return uid if inode else GONE


def uid_in(table: str, near: str, far: str) -> int | None:
    """The owner of the socket whose own address is `near` and whose peer is `far`."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > _INODE and fields[_LOCAL] == near and fields[_REMOTE] == far:
            return int(fields[_UID]) if int(fields[_INODE]) else GONE
    return None


def _packed(family: int, host: str) -> bytes:
    return socket.inet_pton(family, host.partition("%")[0])


def _hex_address(family: int, host: str, port: int) -> str:
    """As the tables write it: 32-bit words in the machine's order, port in hex."""
    packed = _packed(family, host)
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return f"{b''.join(words).hex().upper()}:{port:04X}"
