"""An archive of an image with only those layers that its receiver lacks.

Read from the overlay folders of buildah's store: its own `push` packs and digests everything anew,
which takes a minute for an image of a gigabyte in which a few files changed.
"""

import base64
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Container
from pathlib import Path
from typing import Any

STORE = Path("/var/lib/containers/storage")
"""Of buildah, for root."""
_CHUNK = 1 << 20


class Layers:
    """Layers as tar files, each packed once; `folder` keeps the digests, not the files."""

    def __init__(self, folder: Path) -> None:
        self._digests = folder / "layers.json"

    def archive(self, image: str, name: str, made: Path, there: Container[str]) -> Path:
        """An OCI archive of the image with this id, called `name`, for containerd.

        `there`: digests of what it has.
        """
        home = STORE / "overlay-images" / image
        config_digest = f"sha256:{image}"
        config: dict[str, Any] = json.loads((home / _big(config_digest)).read_text("utf-8"))
        entry = _entry("overlay-images/images.json", image)
        known = self._known()
        layers: list[dict[str, Any]] = []
        with tarfile.open(made, "w") as tar:
            for layer in _chain(entry["layer"]):
                digest, size = known.get(layer, ("", 0))
                if digest not in there:
                    packed = made.with_suffix(".layer")
                    digest, size = _packed(layer, packed)
                    tar.add(packed, f"blobs/{digest.replace(':', '/')}")
                    packed.unlink()
                    known[layer] = (digest, size)
                kind = "application/vnd.oci.image.layer.v1.tar"
                layers.append({"mediaType": kind, "digest": digest, "size": size})
            config["rootfs"]["diff_ids"] = [one["digest"] for one in layers]
            manifest = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _blob(tar, config, "application/vnd.oci.image.config.v1+json"),
                "layers": layers,
            }
            found = _blob(tar, manifest, "application/vnd.oci.image.manifest.v1+json")
            found["annotations"] = {"io.containerd.image.name": name}
            _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [found]}))
            _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self._digests.write_text(json.dumps(known), "utf-8")
        return made

    def _known(self) -> dict[str, tuple[str, int]]:
        try:
            found = json.loads(self._digests.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {layer: (digest, size) for layer, (digest, size) in found.items()}


def usable() -> bool:
    """The store is of the driver `overlay`."""
    return (STORE / "overlay-images" / "images.json").exists()


def _big(key: str) -> str:
    return "=" + base64.b64encode(key.encode()).decode()


def _entry(file: str, wanted: str) -> dict[str, Any]:
    entries = json.loads((STORE / file).read_text("utf-8"))
    return next(one for one in entries if one["id"] == wanted)


def _chain(top: str) -> list[str]:
    """The layers' ids, the lowest first."""
    parents = {
        one["id"]: one.get("parent", "")
        for one in json.loads((STORE / "overlay-layers" / "layers.json").read_text("utf-8"))
    }
    found = []
    while top:
        found.append(top)
        top = parents[top]
    return found[::-1]


def _packed(layer: str, made: Path) -> tuple[str, int]:
    """The layer's files as a tar; its digest and size."""
    root = STORE / "overlay" / layer / "diff"
    with tarfile.open(made, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted([*folders, *files]):
                path = Path(folder) / name
                _pack(tar, path, str(path.relative_to(root)))
    digest = hashlib.sha256()
    with made.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return f"sha256:{digest.hexdigest()}", made.stat().st_size


def _pack(tar: tarfile.TarFile, path: Path, name: str) -> None:
    at = path.lstat()
    if stat.S_ISCHR(at.st_mode) and at.st_rdev == 0:  # overlay's mark of what was removed
        folder, _, last = name.rpartition("/")
        _add(tar, f"{folder}/.wh.{last}".lstrip("/"), b"")
        return
    tar.add(path, name, recursive=False)
    if stat.S_ISDIR(at.st_mode):
        try:
            hides = os.getxattr(path, "trusted.overlay.opaque") == b"y"
        except OSError:
            hides = False
        if hides:
            _add(tar, f"{name}/.wh..wh..opq", b"")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _blob(tar: tarfile.TarFile, value: object, kind: str) -> dict[str, Any]:
    data = _json(value)
    digest = hashlib.sha256(data).hexdigest()
    _add(tar, f"blobs/sha256/{digest}", data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
