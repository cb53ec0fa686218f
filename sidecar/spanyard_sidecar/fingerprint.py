"""A file's identity by content: what inode numbers cannot promise.

ext4 gives a freed inode number away at once, and compression makes another inode of the same log.
The fingerprint covers the first line or its first 256 bytes, so it is settled once that much is
there and never changes while the file only grows; equal content gives an equal fingerprint, so
that storage can be asked for it.
"""

import hashlib

HEAD_BYTES = 256
"""A CRI line begins with its time in nanoseconds: far less tells two files of a container apart."""


def head_of(data: bytes) -> bytes:
    """The bytes that the fingerprint covers, of a file beginning with `data`; b"" while undefined."""
    end = data.find(b"\n", 0, HEAD_BYTES) + 1
    if end:
        return data[:end]
    return data[:HEAD_BYTES] if len(data) >= HEAD_BYTES else b""


def fingerprint(salt: str, head: bytes) -> str:
    """`{n}:{32 hex digits}` of a file whose `head_of` is `head`.

    The salt (`{pod uid}/{container}/{restart}`) keeps files of other writers apart.
    """
    digest = hashlib.sha256(f"{salt}\n".encode() + head).hexdigest()
    return f"{len(head)}:{digest[:32]}"


def begins_as(data: bytes, salt: str, print_: str) -> bool:
    """Whether a file beginning with `data` (HEAD_BYTES, or all of it) has the fingerprint."""
    size = int(print_.partition(":")[0])
    return len(data) >= size and fingerprint(salt, data[:size]) == print_
