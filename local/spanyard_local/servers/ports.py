"""Ports of this machine: one that is free, and those a process listens on."""

import contextlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "::1")
"""A server that binds `localhost` gets the one or the other, by the mood of its resolver."""
_LISTENS = "0A"
"""State TCP_LISTEN in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a replica listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def free_port() -> int:
    """A port that nobody listens on now. Somebody else may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(pids: Iterable[int]) -> list[int]:
    """TCP ports on which these processes listen, sorted; empty where there is no /proc."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            next(lines)
            for line in lines:
                _, local, _, state, *rest = line.split()
                if state == _LISTENS and rest[5] in inodes:
                    found.add(int(local.rpartition(":")[2], 16))
    return sorted(found)


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # it ended, or is somebody else's
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                target = os.readlink(f"{folder}/{name}")
                if target.startswith("socket:["):
                    found.add(target[len("socket:[") : -1])
    return found
