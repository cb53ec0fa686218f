"""Which keys a pod may put, get and look at. Pure, but for what the resources say.

A pod puts objects of its own: of its own project, written by writers whose id begins with its uid,
the log and the attempt's result of its own build. It gets the sources that its Build names, and the
artifact of a build that its Deployment may run. Nothing else, and nothing twice.
"""

import re
from collections.abc import Awaitable, Callable

from spanyard_core.build_objects import artifact_key, meta_key, source_key
from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import (
    PENDING,
    ChunkName,
    check_project,
    parse_key,
    writer_hash,
)
from spanyard_core.resources.kinds import FINISHED, Build, Deployment, resource_id
from spanyard_gateway.auth.caller import namespace_of
from spanyard_gateway.auth.errors import ForbiddenError
from spanyard_gateway.auth.pods import Pod
from spanyard_gateway.objects.model import Wish

LARGEST_CHUNK = 64 << 20
"""Bytes; an object of 10 MB of lines is a tenth of it, one with a single 8 MiB line too."""
_PART = re.compile(
    r"builds/(?P<build>[^/]+)/log/[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
    r"-(?P<writer>[0-9a-f]{20})-(?P<first>[1-9]\d{0,18})-(?P<last>[1-9]\d{0,18})\.jsonl\.zst",
    re.ASCII,
)
_ARTIFACT = re.compile(r"builds/(?P<build>[^/]+)/[^/]+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")

FindBuild = Callable[[str, str], Awaitable[Build | None]]
"""Namespace, name → the resource."""
FindDeployment = Callable[[str, str], Awaitable[Deployment | None]]


class Rules:
    """Asks the resources where a key depends on them."""

    def __init__(self, build: FindBuild, deployment: FindDeployment, largest: int) -> None:
        """`largest`: bytes of an artifact."""
        self._build, self._deployment, self._largest = build, deployment, largest

    async def check(self, pod: Pod, wish: Wish) -> None:
        """Raises ForbiddenError, BadRecordError, ReviewsAwayError."""
        if wish.op == "get":
            await self._get(pod, wish.key)
            return
        most = await self._put(pod, wish)
        if wish.op == "put":
            if not _SHA256.fullmatch(wish.sha256):
                raise BadRecordError("sha256 has to be 64 hex digits, in small letters")
            if not 0 <= wish.size <= most:
                raise BadRecordError(
                    f"size is {wish.size:,}; such an object may have {most:,} bytes"
                )

    async def _put(self, pod: Pod, wish: Wish) -> int:
        """The most bytes that such an object may have."""
        key = wish.key
        if key.startswith(f"{PENDING}/"):
            name = parse_key(key)
            if not isinstance(name, ChunkName) or name.root != PENDING:
                raise ForbiddenError(f"{key[:200]!r} is not the name of a chunk")
            if name.project != pod.project:
                raise ForbiddenError(f"{key[:200]!r} is not of {pod.project}, this pod's project")
            _own(pod, wish.writer, name.writer_hash)
            return LARGEST_CHUNK
        part = _PART.fullmatch(key)
        if part:
            self._own_build(pod, part["build"], key)
            _own(pod, wish.writer, part["writer"])
            return LARGEST_CHUNK
        result = _ARTIFACT.fullmatch(key)
        if result:
            self._own_build(pod, result["build"], key)
            await self._attempt(pod, key)
            return self._largest
        raise ForbiddenError(f"a pod may not put {key[:200]!r}")

    @staticmethod
    def _own_build(pod: Pod, build: str, key: str) -> None:
        if not pod.build or build != f"{pod.namespace}.{pod.build}":
            raise ForbiddenError(f"{key[:200]!r} is not of the build of this pod")

    async def _attempt(self, pod: Pod, key: str) -> None:
        """The result of the attempt that this pod is, while that counts."""
        build = await self._build(pod.namespace, pod.build)
        if build is None or build.metadata.uid not in pod.owners:
            raise ForbiddenError(f"the pod {pod.namespace}/{pod.name} is not of that build")
        if build.status.phase in FINISHED or build.metadata.deletion_timestamp:
            raise ForbiddenError(f"the build {pod.namespace}.{pod.build} is over")
        prefix, _, number = pod.name.rpartition("-")
        if (
            prefix != f"{pod.build}-build"
            or not number.isascii()
            or not number.isdigit()
            or int(number) < build.status.attempt
        ):
            raise ForbiddenError(f"the pod {pod.namespace}/{pod.name} is not its latest attempt")
        name, attempt = resource_id(build), int(number)
        if key not in {artifact_key(name, attempt), meta_key(name, attempt)}:
            raise ForbiddenError(f"{key[:200]!r} is not what attempt {attempt} publishes")

    async def _get(self, pod: Pod, key: str) -> None:
        if key.startswith("sources/") and pod.build:
            build = await self._build(pod.namespace, pod.build)
            if build is not None and build.metadata.uid in pod.owners:
                source = build.spec.source
                named = [one.digest for one in (source.archive, source.artifact) if one]
                if key in {source_key(digest) for digest in named if digest}:
                    return
            raise ForbiddenError(f"the build of this pod does not name {key[:200]!r}")
        result = _ARTIFACT.fullmatch(key)
        if result and pod.deployment:
            if await self._serves(pod, result["build"], key):
                return
            raise ForbiddenError(f"the deployment of this pod does not run {key[:200]!r}")
        raise ForbiddenError(f"a pod may not get {key[:200]!r}")

    async def _serves(self, pod: Pod, build_id: str, key: str) -> bool:
        """Whether the pod's Deployment runs, ran, or may come to run this build."""
        if namespace_of(check_project(build_id)) != pod.namespace:
            return False
        deployment = await self._deployment(pod.namespace, pod.deployment)
        if deployment is None or f"{pod.namespace}.{deployment.spec.project}" != pod.project:
            return False
        name = build_id.partition(".")[2]
        build = await self._build(pod.namespace, name)
        if build is None or build.spec.project != deployment.spec.project:
            return False
        # Pods of an older revision start from what an earlier attempt made.
        if not re.fullmatch(
            r"artifact(-[1-9]\d{0,8})?\.tar\.zst", key.rpartition("/")[2], re.ASCII
        ):
            return False
        spec, status = deployment.spec, deployment.status
        told = {status.build, *(revision.build for revision in status.revisions)}
        if spec.build_ref is not None:
            told.add(spec.build_ref.name)
        # One that follows starts pods of a new build before its status says so.
        return name in told or spec.follow


def _own(pod: Pod, writer: str, hashed: str) -> None:
    if not writer.startswith(f"{pod.uid}/") or len(writer) > 500:
        raise ForbiddenError("the writer is not of this pod: its id begins with the pod's uid")
    if writer_hash(writer) != hashed:
        raise ForbiddenError("the key holds the hash of another writer")
