"""What a build leaves in storage: names, and their removal."""

from spanyard_core.object_names import check_project
from spanyard_core.storage import Storage


def artifact_key(build: str, attempt: int = 0) -> str:
    """Key of the packed output; `build` is an id, `{namespace}.{name}`.

    In a cluster every attempt has a key of its own, because pods can only make objects, not replace
    them, and because pods of a Deployment may still start from what an earlier attempt made. On a
    laptop (attempt 0) the next run replaces it.
    """
    return f"builds/{check_project(build)}/artifact{_of(attempt)}.tar.zst"


def meta_key(build: str, attempt: int = 0) -> str:
    """Key of the JSON that says what was built: commit, hash of the environment, times, digest."""
    return f"builds/{check_project(build)}/meta{_of(attempt)}.json"


def _of(attempt: int) -> str:
    return f"-{attempt}" if attempt else ""


def source_key(digest: str) -> str:
    """Key of an uploaded archive; `digest` is `sha256:{64 hex}`. Raises ValueError."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{digest[:80]!r} is not of the form sha256:…, 64 hex digits")
    return f"sources/{value}.tar.zst"


async def remove_build_objects(storage: Storage, build: str) -> int:
    """Delete log, artifact and all else of a build; returns how many objects. Repeatable."""
    prefix = f"builds/{check_project(build)}/"
    keys = [info.key async for info in storage.list(prefix)]
    for key in keys:
        await storage.delete(key)
    return len(keys)
