"""What a build leaves in storage: names, and their removal."""

from spanyard_core.object_names import check_project
from spanyard_core.storage import Storage


def artifact_key(build: str) -> str:
    """Key of the packed output; `build` is an id, `{namespace}.{name}`."""
    return f"builds/{check_project(build)}/artifact.tar.zst"


def meta_key(build: str) -> str:
    """Key of the JSON that says what was built: commit, hash of the environment, times, digest."""
    return f"builds/{check_project(build)}/meta.json"


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
