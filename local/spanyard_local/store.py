"""The laptop's resources: a file per object, and who wants to know is told of changes.

Implements `resources.api.ResourceApi` as the Kubernetes API does it in a cluster: generation grows
with the spec alone, status is written by runners, a deleted object stays until its cleanup is done.
A file is written to a temporary name, synced and renamed: after a kill or a power cut an object is
there as it was before or after a change.
"""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from spanyard_core.clock import Clock, rfc3339
from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.files import Files, SystemFiles, write_durably
from spanyard_core.resources.api import Applied, Outcome, ResourceEvent
from spanyard_core.resources.kinds import (
    KINDS,
    PLURALS,
    Build,
    BuildStatus,
    Deployment,
    DeploymentStatus,
    Kind,
    Project,
    ProjectStatus,
    Resource,
)
from spanyard_core.resources.merging import merge_patched
from spanyard_core.resources.schema import decode, title, validate
from spanyard_local.undisturbed import undisturbed

log = logging.getLogger("spanyard.local")

NAMESPACE = "local"
"""Of what names none."""
MAX_EVENTS = 100
"""Per object; the oldest go."""
LIVE_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "Project": (),
    "Build": ("cancel", "retry"),
    "Deployment": ("replicas",),
}
"""Spec fields that are set at run time (cancel, retry, scale): a manifest without them leaves them
as they are, as server-side apply does."""
KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")

Key = tuple[Kind, str]
Texts = list[str]
"""Named here: below, `list` is a method."""
Status = ProjectStatus | BuildStatus | DeploymentStatus


@dataclass(frozen=True, slots=True)
class _Entry:
    manifest: Mapping[str, Any]
    resource: Resource
    events: tuple[ResourceEvent, ...] = ()


@dataclass(eq=False, slots=True)
class Watch:
    """Who wants to know what changes. Changes to one object between two looks are one."""

    keys: set[Key]
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def changed(self) -> set[Key]:
        """What has changed since the last call (at first: all there is). Waits for something."""
        while not self.keys:
            self._wake.clear()
            await self._wake.wait()
        keys, self.keys = self.keys, set()
        return keys

    def add(self, key: Key) -> None:
        """This object changed, or is gone, or is to be looked at again."""
        self.keys.add(key)
        self._wake.set()


class ResourceStore:
    """See the module. Resources that it hands out are not to be changed."""

    def __init__(
        self, root: Path, *, clock: Clock, files: Files | None = None, namespace: str = NAMESPACE
    ) -> None:
        self._root = root
        self._clock = clock
        self._files = files or SystemFiles()
        self._namespace = namespace
        self._entries: dict[Key, _Entry] = {}
        self._watches: set[Watch] = set()
        self._changing = asyncio.Lock()
        self._version = 0

    async def open(self) -> None:
        """Read what is there. Raises SpanyardError for a file that is damaged."""
        for kind in KINDS:
            folder = self._root / PLURALS[kind]
            with _told(folder):
                self._files.mkdir(str(folder))
                for name in sorted(self._files.listdir(str(folder))):
                    if name.endswith(".json"):
                        self._load(kind, folder / name)
                    elif name.endswith(".tmp"):  # a write that was cut off: it never took place
                        self._files.unlink(str(folder / name))

    def _load(self, kind: Kind, path: Path) -> None:
        try:
            kept = json.loads(path.read_bytes())
            resource = decode(kept["resource"])
            events = tuple(msgspec.convert(kept.get("events", []), list[ResourceEvent]))
            version = int(resource.metadata.resource_version)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            msgspec.MsgspecError,
            InvalidResourceError,
        ) as error:
            raise SpanyardError(
                f"data: {str(path)!r} is damaged ({error}); move it away to go on without this "
                f"{kind}, or give another folder with --data"
            ) from error
        if resource.kind != kind or _id_of(resource) != path.name.removesuffix(".json"):
            raise SpanyardError(
                f"data: {str(path)!r} holds {resource.kind} {_id_of(resource)}; it was moved there: "
                "remove it, or give another folder with --data"
            )
        self._version = max(self._version, version)
        self._entries[kind, _id_of(resource)] = _Entry(kept["resource"], resource, events)

    # --- reading -----------------------------------------------------------------------------

    async def list(self, kind: Kind, *, project: str = "") -> Sequence[Resource]:
        return self.all(kind, project=project)

    async def get(self, kind: Kind, resource_id: str) -> Resource | None:
        return self.find(kind, resource_id)

    async def events(self, kind: Kind, resource_id: str) -> Sequence[ResourceEvent]:
        entry = self._entries.get((kind, resource_id))
        return entry.events if entry else ()

    def all(self, kind: Kind, *, project: str = "") -> Sequence[Resource]:
        """`list` for those who need not wait."""
        found = [entry.resource for (k, _), entry in self._entries.items() if k == kind]
        if project:
            found = [resource for resource in found if _project_of(resource) == project]
        return sorted(found, key=_id_of)

    def builds(self, project: str = "") -> Sequence[Build]:
        """Builds by id, of a project (id) or all."""
        return [r for r in self.all("Build", project=project) if isinstance(r, Build)]

    def deployments(self, project: str = "") -> Sequence[Deployment]:
        """Deployments by id, of a project (id) or all."""
        return [r for r in self.all("Deployment", project=project) if isinstance(r, Deployment)]

    def projects(self) -> Sequence[Project]:
        """Projects by id."""
        return [r for r in self.all("Project") if isinstance(r, Project)]

    def find(self, kind: Kind, resource_id: str) -> Resource | None:
        """`get` for those who need not wait."""
        entry = self._entries.get((kind, resource_id))
        return entry.resource if entry else None

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """Be told of changes while the block runs."""
        watch = Watch(set(self._entries))
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def touch(self, resource: Resource) -> None:
        """Have it looked at again, though nothing in the store changed."""
        self._tell((resource.kind, _id_of(resource)))

    # --- what users change -------------------------------------------------------------------

    @undisturbed
    async def apply(
        self, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> Sequence[Applied]:
        async with self._changing:
            problems: list[tuple[str, str]] = []
            wanted: list[tuple[Key, Mapping[str, Any], list[str]]] = []
            for manifest in manifests:
                try:
                    wanted.append(self._wanted(manifest))
                except InvalidResourceError as error:
                    problems += error.problems
            keys = [key for key, _, _ in wanted]
            problems += [
                (f"{PLURALS[kind]}/{name}", "it is there twice; apply one of them")
                for kind, name in sorted({key for key in keys if keys.count(key) > 1})
            ]
            if problems:
                raise InvalidResourceError(problems)
            applied = []
            there = {*self._entries, *keys}
            for key, manifest, warnings in wanted:
                old = self._entries.get(key)
                spec, space = manifest.get("spec", {}), key[1].partition(".")[0]
                if key[0] != "Project" and ("Project", f"{space}.{spec['project']}") not in there:
                    warnings.append(f"there is no project {spec['project']} yet; it waits for one")
                outcome: Outcome = "created"
                if old is not None:
                    outcome = "unchanged" if _same(old.manifest, manifest) else "configured"
                if outcome != "unchanged" and not dry_run:
                    await self._put(key, self._changed(old, manifest))
                applied.append(Applied(kind=key[0], id=key[1], outcome=outcome, warnings=warnings))
            return applied

    def _wanted(self, manifest: Mapping[str, Any]) -> "tuple[Key, Mapping[str, Any], list[str]]":  # type: ignore[valid-type]
        """The valid manifest, with what the store's object says of what it leaves open."""
        manifest = {k: v for k, v in manifest.items() if k != "status"}
        metadata = manifest.get("metadata")
        old: _Entry | None = None
        where = title(manifest)
        if isinstance(metadata, Mapping):
            kept = {k: metadata[k] for k in KEPT_METADATA if k in metadata}
            unknown = {
                k: v for k, v in metadata.items() if k not in kept and k not in _SERVER_METADATA
            }
            manifest["metadata"] = {"namespace": self._namespace, **kept, **unknown}
            kind, name = manifest.get("kind"), metadata.get("name")
            if isinstance(kind, str) and kind in KINDS and isinstance(name, str):
                old = self._entries.get((kind, f"{manifest['metadata']['namespace']}.{name}"))
        if old is not None and isinstance(manifest.get("spec"), Mapping):
            live = {
                name: old.manifest["spec"][name]
                for name in LIVE_FIELDS[old.resource.kind]
                if name in old.manifest.get("spec", {})
            }
            manifest["spec"] = {**live, **manifest["spec"]}
        if old is not None and old.resource.metadata.deletion_timestamp:
            raise InvalidResourceError([(where, "it is being deleted; wait until it is gone")])
        valid = validate(manifest, old.manifest if old else None)
        resource = decode(valid)
        warnings: Texts = []
        if resource.kind != "Project":
            project = self._entries.get(("Project", _project_of(resource)))
            if project is not None and project.resource.metadata.deletion_timestamp and old is None:
                told = f"project {resource.spec.project} is being deleted; name another"
                raise InvalidResourceError([(where, told)])
        return (resource.kind, _id_of(resource)), valid, warnings

    def _changed(self, old: _Entry | None, wanted: Mapping[str, Any]) -> _Entry:
        metadata: dict[str, Any] = {
            k: wanted["metadata"][k] for k in KEPT_METADATA if k in wanted["metadata"]
        }
        before = old.manifest["metadata"] if old else {}
        metadata["uid"] = before.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = before.get("creationTimestamp") or self._now()
        for name in ("labels", "annotations", "ownerReferences"):
            if name not in metadata and name in before:
                metadata[name] = before[name]
        generation = before.get("generation", 0)
        if old is None or old.manifest.get("spec") != wanted.get("spec"):
            generation += 1
        metadata["generation"] = generation
        manifest = {**wanted, "metadata": metadata}
        if old is not None and "status" in old.manifest:
            manifest["status"] = old.manifest["status"]
        return _Entry(manifest, decode(manifest), old.events if old else ())

    @undisturbed
    async def patch(self, kind: Kind, resource_id: str, spec: Mapping[str, Any]) -> Resource | None:
        async with self._changing:
            old = self._entries.get((kind, resource_id))
            if old is None:
                return None
            merged = merge_patched(old.manifest.get("spec", {}), spec)
            _, wanted, _ = self._wanted({**old.manifest, "spec": merged})
            if not _same(old.manifest, wanted):
                await self._put((kind, resource_id), self._changed(old, wanted))
            return self._entries[kind, resource_id].resource

    @undisturbed
    async def delete(self, kind: Kind, resource_id: str) -> bool:
        async with self._changing:
            old = self._entries.get((kind, resource_id))
            if old is None:
                return False
            if not old.resource.metadata.deletion_timestamp:
                metadata = {**old.manifest["metadata"], "deletionTimestamp": self._now()}
                await self._put((kind, resource_id), _with(old, metadata=metadata))
            return True

    # --- what runners change -----------------------------------------------------------------

    @undisturbed
    async def set_status(self, resource: Resource, status: Status) -> bool:
        """Write the status of this very object; False when it is gone or another by its name."""
        async with self._changing:
            key: Key = (resource.kind, _id_of(resource))
            old = self._entries.get(key)
            if old is None or old.resource.metadata.uid != resource.metadata.uid:
                return False
            builtins = msgspec.to_builtins(status)
            if builtins != old.manifest.get("status", {}):
                await self._put(key, _with(old, status=builtins))
            return True

    @undisturbed
    async def add_event(
        self, resource: Resource, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Note what happened to this very object; the same again is counted."""
        async with self._changing:
            key: Key = (resource.kind, _id_of(resource))
            old = self._entries.get(key)
            if old is None or old.resource.metadata.uid != resource.metadata.uid:
                return
            same = [
                e for e in old.events if (e.type, e.reason, e.message) == (kind, reason, message)
            ]
            event = ResourceEvent(
                time=self._now(),
                type=kind,
                reason=reason,
                message=message,
                count=1 + sum(e.count for e in same),
            )
            events = [e for e in old.events if e not in same]
            await self._put(key, replace(old, events=(*events, event)[-MAX_EVENTS:]))

    @undisturbed
    async def forget(self, resource: Resource) -> None:
        """The cleanup of an object that was deleted is done: it is gone."""
        async with self._changing:
            key: Key = (resource.kind, _id_of(resource))
            old = self._entries.get(key)
            if old is None or old.resource.metadata.uid != resource.metadata.uid:
                return
            path = self._path(key)
            with _told(path):
                self._files.unlink(str(path))
                await self._files.sync_dir(str(path.parent))
            del self._entries[key]
            self._tell(key)

    # --- files -------------------------------------------------------------------------------

    async def _put(self, key: Key, entry: _Entry) -> None:
        version = self._version + 1
        metadata = {**entry.manifest["metadata"], "resourceVersion": str(version)}
        entry = _with(entry, metadata=metadata)
        path = self._path(key)
        text = json.dumps(
            {"resource": entry.manifest, "events": msgspec.to_builtins(entry.events)}, indent=1
        )
        with _told(path):
            await write_durably(self._files, str(path), [text.encode()])
        self._version = version
        self._entries[key] = entry
        self._tell(key)

    def _path(self, key: Key) -> Path:
        return self._root / PLURALS[key[0]] / f"{key[1]}.json"

    def _tell(self, key: Key) -> None:
        for watch in self._watches:
            watch.add(key)

    def _now(self) -> str:
        return rfc3339(self._clock.time_ns() // 10**9 * 10**9)[:19] + "Z"


_SERVER_METADATA = frozenset(
    {
        "uid",
        "generation",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "managedFields",
        "selfLink",
    }
)
"""What a server writes: a manifest that was read from one may carry it; it says nothing here."""


def _with(entry: _Entry, **parts: Any) -> _Entry:
    manifest = {**entry.manifest, **parts}
    return replace(entry, manifest=manifest, resource=decode(manifest))


def _id_of(resource: Resource) -> str:
    return f"{resource.metadata.namespace}.{resource.metadata.name}"


def _project_of(resource: Resource) -> str:
    if resource.kind == "Project":
        return _id_of(resource)
    return f"{resource.metadata.namespace}.{resource.spec.project}"


def _same(old: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether applying changes nothing; what the manifest leaves open is not compared."""
    if old.get("spec", {}) != wanted.get("spec", {}):
        return False
    given = wanted["metadata"]
    return all(old["metadata"].get(k) == given[k] for k in KEPT_METADATA if k in given)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpanyardError(
            f"data: cannot keep {str(path)!r}: {error.strerror or error}; make room or permit it, "
            "or give another folder with --data"
        ) from error
