"""The cluster that tests use, whichever this machine can have.

In this order: the one that `KUBECONFIG_TEST` names; kind, where Docker runs and kind is there; one
made by our own recipe (root on Linux with Go). Else there is none, and the reason is told.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import containers, images, kind, recipe, s3
from tests.cluster.addresses import Folders, folders
from tests.cluster.binaries import NODE_TIER, built, kept
from tests.cluster.tools import HELM


class NoClusterError(Exception):
    """This machine can have none. Says why, and what to do."""


@dataclass(frozen=True)
class Bucket:
    """Storage that pods and tests reach by the same address."""

    url: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def under(self, prefix: str) -> str:
        """A storage of its own."""
        place, _, query = self.url.partition("?")
        return f"{place.rstrip('/')}/{prefix}?{query}" if query else f"{place.rstrip('/')}/{prefix}"


@dataclass(frozen=True)
class Cluster:
    """One that answers."""

    kind: str
    """`given`, `kind` or `recipe`."""
    kubeconfig: Path
    bucket: Bucket
    image_prefix: str = images.PREFIX

    def image(self, target: str) -> str:
        return f"{self.image_prefix}/{target}:{images.TAG}"

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Its output. Raises RuntimeError with its error text."""
        return self._run([str(kept().path("kubectl")), *arguments], given, check=check)

    def helm(self, *arguments: str) -> str:
        return self._run([str(HELM.built()), *arguments], None, check=True)

    def _run(self, command: Sequence[str], given: str | None, *, check: bool) -> str:
        done = subprocess.run(
            command, env={**os.environ, "KUBECONFIG": str(self.kubeconfig)}, input=given,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            told = done.stderr.strip() or done.stdout.strip()
            raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:])}: {told}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Of `kubectl get`: an object, or a list's items. None when it is not there."""
        said = self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        made = json.loads(said) if said.strip() else None
        return made["items"] if made and made.get("kind", "").endswith("List") else made

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        everything = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(everything))

    def kill(self, namespace: str, pod: str, container: str) -> None:
        """SIGKILL to a container's first process, which no process inside it may send."""
        status = self.get("pod", pod, "-n", namespace)["status"]
        found = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        [mine] = [one["containerID"] for one in found if one["name"] == container]
        identity = mine.rpartition("/")[2]
        if self.kind == "recipe":
            containers.ctr(folders(), "tasks", "kill", "--signal", "SIGKILL", identity)
        elif self.kind == "kind":
            kind.kill(identity)
        else:
            raise NoClusterError("a container of a cluster that was given cannot be killed")

    def load(self, wanted: Iterable[str] = images.EVERYTHING) -> list[str]:
        """Images built of this checkout, in the cluster. Returns those that were new."""
        return [image for image in wanted if self._load(image)]

    def _load(self, image: str) -> bool:
        place = folders()
        if self.kind == "given":
            return False  # whoever gave the cluster put them into its registry
        content = images.build(place, image)
        if self.kind == "kind":
            with tempfile.TemporaryDirectory(prefix="spanyard-image-") as folder:
                kind.load(images.archive(image, Path(folder)))
            return True
        mark = place.images / f"{image}.imported"
        known = images.name(image) in containers.images(place)
        if known and mark.exists() and mark.read_text("utf-8") == content:
            return False
        with tempfile.TemporaryDirectory(prefix="import-", dir=place.images) as folder:
            thin = images.thin_archive(place, image, Path(folder), containers.blobs(place))
            containers.load(place, thin)
        mark.write_text(content, "utf-8")
        return True


def available() -> str:
    """Which kind this machine can have. Raises NoClusterError."""
    if os.environ.get("KUBECONFIG_TEST"):
        return "given"
    if kind.usable():
        return "kind"
    why = recipe.obstacle()
    missing = kept().missing(NODE_TIER)
    if not why and missing and shutil.which("go") is None:
        why = f"{', '.join(missing)} must be built and there is no Go"
    if why:
        raise NoClusterError(
            f"no cluster for tests: KUBECONFIG_TEST is not set, there is no Docker with kind, and "
            f"this machine cannot make one of its own ({why})"
        )
    return "recipe"


def running() -> Cluster | None:
    """The one that runs already."""
    which = available()
    if which == "given":
        bucket = os.environ.get("SPANYARD_TEST_BUCKET", "")
        if not bucket:
            raise NoClusterError(
                "KUBECONFIG_TEST is set: set SPANYARD_TEST_BUCKET too (a storage URL that pods "
                "reach, credentials in AWS_*), and SPANYARD_TEST_IMAGES (prefix of the images)"
            )
        environ = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        prefix = os.environ.get("SPANYARD_TEST_IMAGES", images.PREFIX)
        built(["kubectl"])
        return Cluster(
            "given", Path(os.environ["KUBECONFIG_TEST"]), Bucket(bucket, environ), prefix
        )
    place = folders()
    if which == "kind":
        file = kind.kubeconfig(place)
        return Cluster("kind", file, Bucket(kind.bucket_url(place), s3.environ())) if file else None
    return _ours(place) if recipe.running(place) else None


def up(*, fresh: bool = False) -> Cluster:
    """Start it, or take the one that runs. Raises NoClusterError, BinariesMissingError."""
    found = None if fresh else running()
    if found is not None:
        return found
    place = folders().made()
    if available() == "kind":
        built(["kubectl"])
        kind.start(place)
        found = running()
        assert found is not None
        return found
    recipe.start(place)
    return _ours(place)


def down() -> None:
    """End it and remove what it made; images are kept."""
    if available() == "kind":
        kind.stop(folders())
    elif available() == "recipe":
        recipe.stop(folders())


def _ours(place: Folders) -> Cluster:
    return Cluster("recipe", place.kubeconfig, Bucket(s3.url(), s3.environ()))
