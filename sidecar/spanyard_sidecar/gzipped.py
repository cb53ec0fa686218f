"""Rotated logs that the kubelet has compressed, read like the files they were made of."""

import zlib

from spanyard_core.errors import BadRecordError
from spanyard_core.files import FileStat, ReadFile

_INPUT = 64 * 1024
"""Compressed bytes per read."""
_OUTPUT = 256 * 1024
"""Most bytes unpacked at once: deflate reaches 1:1000, so a limit on the input is none."""


class GzippedFile:
    """A gzip file as the file inside it. Cheap when read forwards; going back begins anew.

    `pread` raises BadRecordError when the file is damaged or cut short.
    """

    def __init__(self, file: ReadFile) -> None:
        self._file = file
        self._begin()

    def _begin(self) -> None:
        self._unpack = zlib.decompressobj(wbits=31)
        self._read = 0
        """Compressed bytes read."""
        self._at = 0
        """Where in the unpacked file the window begins."""
        self._window = bytearray()
        self._ended = False

    def pread(self, length: int, offset: int) -> bytes:
        if offset < self._at:
            self._begin()
        while self._at + len(self._window) < offset + length and not self._ended:
            passed = min(offset - self._at, len(self._window))
            del self._window[:passed]
            self._at += passed
            self._more()
        start = offset - self._at
        return bytes(self._window[start : start + length])

    def _more(self) -> None:
        try:
            packed = self._unpack.unconsumed_tail
            if not packed:
                packed = self._file.pread(_INPUT, self._read)
                self._read += len(packed)
                if not packed:
                    raise BadRecordError("the compressed log ends in the middle")
            self._window += self._unpack.decompress(packed, _OUTPUT)
        except zlib.error as error:
            raise BadRecordError(f"the compressed log is damaged: {error}") from error
        if self._unpack.eof:
            # Another member may follow: `cat a.gz b.gz` is a gzip file, too.
            self._read -= len(self._unpack.unused_data)
            self._ended = not self._file.pread(1, self._read)
            self._unpack = zlib.decompressobj(wbits=31)

    def stat(self) -> FileStat:
        """Of the compressed file: how much is inside shows only at its end."""
        return self._file.stat()

    def links(self) -> int:
        return self._file.links()

    def close(self) -> None:
        self._file.close()
