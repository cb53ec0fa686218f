"""The machine's files, watched: calls are counted, open files too, and names can be hidden."""

from collections import Counter

from spanyard_core.files import FileStat, ReadFile, SystemFiles


class WatchedFiles(SystemFiles):
    """SystemFiles that remembers what was asked of it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.open = 0
        """Files open for reading right now."""
        self.hidden: set[str] = set()
        """Names that the next listing leaves out: they were just being renamed."""
        self.vanishing: set[str] = set()
        """Names that are listed and then gone."""

    def open_read(self, path: str) -> ReadFile:
        self.calls["open"] += 1
        self._check(path)
        self.open += 1
        return _WatchedRead(super().open_read(path), self)

    def _check(self, path: str) -> None:
        name = path.rpartition("/")[2]
        if name in self.vanishing:
            self.vanishing.discard(name)
            raise FileNotFoundError(path)

    def listdir(self, path: str) -> list[str]:
        self.calls["listdir"] += 1
        hidden, self.hidden = self.hidden, set()
        return [name for name in super().listdir(path) if name not in hidden]

    def stat(self, path: str) -> FileStat:
        self.calls["stat"] += 1
        return super().stat(path)


class _WatchedRead:
    def __init__(self, inner: ReadFile, files: WatchedFiles) -> None:
        self._inner, self._files = inner, files
        self._open = True

    def pread(self, length: int, offset: int) -> bytes:
        self._files.calls["pread"] += 1
        return self._inner.pread(length, offset)

    def stat(self) -> FileStat:
        self._files.calls["fstat"] += 1
        return self._inner.stat()

    def links(self) -> int:
        self._files.calls["links"] += 1
        return self._inner.links()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._files.open -= 1
        self._inner.close()
