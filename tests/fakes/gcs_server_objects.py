"""What a GCS bucket holds and how it is listed: the part of the fake without HTTP.

From Google's reference of the XML API (cloud.google.com/storage/docs/xml-api): generations,
preconditions, listing (`list-type=2`), multipart uploads, ranges, error codes.
"""

import base64
import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

BUCKET = "spanyard"
WRITER_TOKEN = "writer-token"
READER_TOKEN = "reader-token"
MAX_KEYS = 1000
MIN_PART = 5 << 20
"""Bytes; every part of an upload but the last has at least this size."""


class GcsError(Exception):
    """An answer other than success: HTTP status, error code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def no_such_key() -> GcsError:
    return GcsError(404, "NoSuchKey", "The specified key does not exist.")


def no_such_bucket() -> GcsError:
    return GcsError(404, "NoSuchBucket", "The specified bucket does not exist.")


@dataclass(frozen=True, slots=True)
class GcsObject:
    data: bytes
    generation: int
    modified: datetime
    etag: str
    meta: dict[str, str] = field(default_factory=dict)
    """Headers `x-goog-meta-…` that came with it."""


@dataclass(frozen=True, slots=True)
class Listing:
    objects: list[tuple[str, GcsObject]]
    prefixes: list[str]
    next_token: str | None


@dataclass(slots=True)
class Upload:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


class Bucket:
    """Objects of one bucket in memory, in byte order of their names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._objects: dict[str, GcsObject] = {}
        self._names: list[bytes] = []
        self._uploads: dict[str, Upload] = {}
        self._generations = count(1_700_000_000_000_000)

    def put(self, key: str, data: bytes, if_generation: int | None = None) -> GcsObject:
        """Store, atomically with the look at the present generation (0 = there is none)."""
        if not 1 <= len(key.encode()) <= 1024:
            raise GcsError(400, "InvalidObjectName", "The object name is too long or empty.")
        present = self._objects.get(key)
        if if_generation is not None and if_generation != (present.generation if present else 0):
            raise GcsError(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold.",
            )
        if present is None:
            insort(self._names, key.encode())
        stored = GcsObject(
            data,
            next(self._generations),
            datetime.now(UTC),
            f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"',
        )
        self._objects[key] = stored
        return stored

    def get(self, key: str) -> GcsObject:
        found = self._objects.get(key)
        if found is None:
            raise no_such_key()
        return found

    def delete(self, key: str) -> None:
        if self._objects.pop(key, None) is None:
            raise no_such_key()
        del self._names[bisect_left(self._names, key.encode())]

    def page(
        self, prefix: str, *, start_after: str, token: str | None, delimiter: str, max_keys: int
    ) -> Listing:
        """One page, objects and prefixes together at most `max_keys`. A token beats `start_after`."""
        after = base64.urlsafe_b64decode(token).decode() if token else start_after
        objects: list[tuple[str, GcsObject]] = []
        prefixes: list[str] = []
        last = ""
        for row, is_prefix in self._rows(prefix, after, delimiter):
            if len(objects) + len(prefixes) == max_keys:
                return Listing(objects, prefixes, base64.urlsafe_b64encode(last.encode()).decode())
            last = row
            if is_prefix:
                prefixes.append(row)
            else:
                objects.append((row, self._objects[row]))
        return Listing(objects, prefixes, None)

    def _rows(self, prefix: str, after: str, delimiter: str) -> Iterator[tuple[str, bool]]:
        """Names and, with a delimiter, names cut behind it, once each, in order."""
        shown = after
        for raw in self._names[bisect_left(self._names, max(prefix, after).encode()) :]:
            name = raw.decode()
            if not name.startswith(prefix):
                if raw > prefix.encode():
                    return
                continue
            if raw <= after.encode():
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            row = name[: cut + len(delimiter)] if cut >= 0 else name
            if row != shown and not (cut >= 0 and after.startswith(row)):
                shown = row
                yield row, cut >= 0

    def start_upload(self, key: str) -> str:
        upload_id = f"upload-{next(self._generations)}"
        self._uploads[upload_id] = Upload(key)
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        self._upload(key, upload_id).parts[number] = data
        return _part_etag(data)

    def complete_upload(self, key: str, upload_id: str, wanted: list[tuple[int, str]]) -> GcsObject:
        upload = self._upload(key, upload_id)
        for number, etag in wanted:
            if number not in upload.parts or etag != _part_etag(upload.parts[number]):
                raise GcsError(400, "InvalidPart", "One or more of the parts could not be found.")
        if any(len(upload.parts[number]) < MIN_PART for number, _ in wanted[:-1]):
            raise GcsError(400, "EntityTooSmall", "Your proposed upload is too small.")
        stored = self.put(key, b"".join(upload.parts[number] for number, _ in wanted))
        del self._uploads[upload_id]
        return stored

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._upload(key, upload_id)
        del self._uploads[upload_id]

    @property
    def open_uploads(self) -> int:
        return len(self._uploads)

    def _upload(self, key: str, upload_id: str) -> Upload:
        found = self._uploads.get(upload_id)
        if found is None or found.key != key:
            raise GcsError(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return found


def cut_range(data: bytes, header: str | None) -> tuple[int, int] | None:
    """First and last byte of a `Range: bytes=…` header, None for the whole object."""
    if header is None or not header.startswith("bytes="):
        return None
    first, _, last = header.removeprefix("bytes=").partition("-")
    size = len(data)
    if not first:
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size:
        raise GcsError(416, "InvalidRange", "The requested range cannot be satisfied.")
    return start, end


def _part_etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
