"""Objects under one URL: a directory, an S3 bucket or a GCS bucket behind one interface (T6)."""

from spanyard_core.storage.keys import check_key, check_prefix, digest_of
from spanyard_core.storage.protocol import ObjectInfo, Storage
from spanyard_core.storage.urls import open_storage

__all__ = [
    "ObjectInfo",
    "Storage",
    "check_key",
    "check_prefix",
    "digest_of",
    "open_storage",
]
