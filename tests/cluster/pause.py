"""The image that holds a pod's network namespace: one static program, packed by ourselves."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests.cluster.containers import PAUSE as NAME
from tests.cluster.tools import PAUSE


def archive(folder: Path) -> Path:
    """A `docker-archive` of it, made when it is not there."""
    made = folder / f"pause-{PAUSE.version}.tar"
    if not made.exists():
        program = PAUSE.built().read_bytes()
        layer = _tar({"pause": program})
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
            "history": [{"created_by": "spanyard tests"}],
        }
        data = json.dumps(config).encode()
        files = {
            f"{_digest(data)}.json": data,
            f"{_digest(layer)}.tar": layer,
            "manifest.json": json.dumps(
                [
                    {
                        "Config": f"{_digest(data)}.json",
                        "RepoTags": [NAME],
                        "Layers": [f"{_digest(layer)}.tar"],
                    }
                ]
            ).encode(),
        }
        made.write_bytes(_tar(files))
    return made


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()
