"""Projects, Builds and Deployments in the Kubernetes API: `ResourceApi` of a gateway in a cluster.

Lists come from watches (`kube_cache`), single objects from the server itself: whoever asks right
after a change sees it, also behind another replica. Applying is server-side, after a dry run of
everything: the schema is checked here, with the texts of the laptop, the rules by the server.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from spanyard_core.errors import InvalidResourceError, SpanyardError
from spanyard_core.kube import Kube, KubeError, KubeUnavailableError, Object
from spanyard_core.resources.api import Applied, Outcome, ResourceEvent
from spanyard_core.resources.kinds import Kind, Resource, project_id, resource_id
from spanyard_core.resources.merging import merge_patched
from spanyard_core.resources.schema import decode, title, validate
from spanyard_gateway.kube_cache import APIS, KubeCache
from spanyard_gateway.kube_events import events_of

MANAGER = "spanyard-cli"
"""Whose fields they are: what a later apply leaves out, it gives up; what others set, stays."""
DEFAULT_NAMESPACE = "default"
"""Of manifests that name none; the command line puts in that of the kubeconfig."""
_AT_ONCE = 8
_KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")
_SERVER_METADATA = (
    "uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "managedFields", "selfLink", "generateName",
)  # fmt: skip
"""What a server writes: a manifest that was read from one may carry it; it says nothing here."""
_NO_SUCH_SCHEMA = "failed to create typed patch object"
"""Kubernetes answers 500 where a manifest does not fit the schema that it has."""


Texts = list[str]
"""Named here: below, `list` is a method."""


class KubeResources:
    """See `resources.api.ResourceApi`. Raises KubeUnavailableError when the server is away."""

    def __init__(self, kube: Kube, cache: KubeCache, *, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._kube = kube
        self._cache = cache
        self._namespace = namespace

    async def list(self, kind: Kind, *, project: str = "") -> Sequence[Resource]:
        found = self._cache.all(kind)
        if not project:
            return found
        return [
            r
            for r in found
            if (resource_id(r) if r.kind == "Project" else project_id(r)) == project
        ]

    async def get(self, kind: Kind, resource_id: str) -> Resource | None:
        found = await self._read(kind, resource_id)
        return None if found is None else decode(found)

    async def events(self, kind: Kind, resource_id: str) -> Sequence[ResourceEvent]:
        resource = self._cache.find(kind, resource_id) or await self.get(kind, resource_id)
        if resource is None:
            return ()
        try:
            return await events_of(self._kube, resource)
        except KubeError as error:
            raise _not_permitted(error) from error

    # --- changes -----------------------------------------------------------------------------

    async def apply(
        self, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> Sequence[Applied]:
        wanted = [self._cleaned(manifest) for manifest in manifests]
        problems = _twice(wanted)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def tried(manifest: Object) -> "tuple[Object | None, Object] | InvalidResourceError":
            async with at_once:
                try:
                    return await self._tried(manifest)
                except InvalidResourceError as error:
                    return error

        tries = await asyncio.gather(*(tried(manifest) for manifest in wanted))
        for one in tries:
            if isinstance(one, InvalidResourceError):
                problems += one.problems
        if problems:
            raise InvalidResourceError(problems)
        there = {(str(m["kind"]), _id_of(m)) for m in wanted}
        applied: list[Applied] = []
        for manifest, one in zip(wanted, tries, strict=True):
            assert not isinstance(one, InvalidResourceError)
            old, new = one
            outcome: Outcome = "created" if old is None else _outcome(old, new)
            if not dry_run and outcome != "unchanged":
                await self._put(manifest, applied, len(wanted))
            kind: Kind = manifest["kind"]
            warnings = await self._warnings(manifest, there)
            applied.append(
                Applied(kind=kind, id=_id_of(manifest), outcome=outcome, warnings=warnings)
            )
        return applied

    def _cleaned(self, manifest: Mapping[str, Any]) -> Object:
        """What is to be applied: with a namespace, and nothing that only servers write."""
        made = {name: value for name, value in manifest.items() if name != "status"}
        metadata = made.get("metadata")
        if isinstance(metadata, Mapping):
            kept = {name: v for name, v in metadata.items() if name not in _SERVER_METADATA}
            made["metadata"] = {"namespace": self._namespace, **kept}
        return made

    async def _tried(self, manifest: Object) -> tuple[Object | None, Object]:
        """The object that is there and the one that would be. Raises InvalidResourceError."""
        where = title(manifest)
        validate(manifest, rules=False)
        kind: Kind = manifest["kind"]
        old = await self._read(kind, _id_of(manifest))
        if old is not None and old["metadata"].get("deletionTimestamp"):
            raise InvalidResourceError([(where, "it is being deleted; wait until it is gone")])
        if old is None and kind != "Project":
            project = f"{manifest['metadata']['namespace']}.{manifest['spec']['project']}"
            found = await self._read("Project", project)
            if found is not None and found["metadata"].get("deletionTimestamp"):
                told = f"project {manifest['spec']['project']} is being deleted; name another"
                raise InvalidResourceError([(where, told)])
        return old, await self._applied(manifest, dry_run=True)

    async def _applied(self, manifest: Object, *, dry_run: bool) -> Object:
        try:
            return await self._kube.apply(
                APIS[manifest["kind"]],
                manifest,
                manifest["metadata"]["namespace"],
                manager=MANAGER,
                dry_run=dry_run,
            )
        except KubeError as error:
            raise _invalid(title(manifest), error) from error
        except KubeUnavailableError as error:
            if _NO_SUCH_SCHEMA in str(error):
                told = str(error).partition(_NO_SUCH_SCHEMA)[2]
                raise InvalidResourceError(
                    [(title(manifest), f"the cluster says:{told}")]
                ) from error
            raise

    async def _put(self, manifest: Object, before: Sequence[Applied], count: int) -> None:
        """After the dry run it can still fail: a quota, another's change, the server away."""
        try:
            await self._applied(manifest, dry_run=False)
        except SpanyardError as error:
            done = sum(one.outcome != "unchanged" for one in before)
            if not done or (isinstance(error, InvalidResourceError) and not before):
                raise
            told = f"{done} of {count} were applied before this failed; apply them again: {error}"
            raise KubeUnavailableError(told) from error

    async def _warnings(self, manifest: Object, there: set[tuple[str, str]]) -> Texts:
        if manifest["kind"] == "Project":
            return []
        project = str(manifest["spec"]["project"])
        name = f"{manifest['metadata']['namespace']}.{project}"
        if ("Project", name) in there or await self._read("Project", name) is not None:
            return []
        return [f"there is no project {project} yet; it waits for one"]

    async def patch(self, kind: Kind, resource_id: str, spec: Mapping[str, Any]) -> Resource | None:
        old = await self._read(kind, resource_id)
        if old is None:
            return None
        where = title(old)
        if old["metadata"].get("deletionTimestamp"):
            raise InvalidResourceError([(where, "it is being deleted; wait until it is gone")])
        kept = {k: v for k, v in old["metadata"].items() if k in _KEPT_METADATA}
        merged = merge_patched(old.get("spec", {}), spec)
        # The server drops unknown fields of a merge patch silently.
        validate({**old, "metadata": kept, "spec": merged}, rules=False)
        namespace, _, name = resource_id.partition(".")
        try:
            made = await self._kube.merge(APIS[kind], name, {"spec": dict(spec)}, namespace)
        except KubeError as error:
            raise _invalid(where, error) from error
        return None if made is None else decode(made)

    async def delete(self, kind: Kind, resource_id: str) -> bool:
        namespace, _, name = resource_id.partition(".")
        try:
            return await self._kube.delete(APIS[kind], name, namespace)
        except KubeError as error:
            raise _not_permitted(error) from error

    async def _read(self, kind: Kind, name: str) -> Object | None:
        namespace, _, own = name.partition(".")
        try:
            return await self._kube.get(APIS[kind], own, namespace)
        except KubeError as error:
            raise _not_permitted(error) from error


def _id_of(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    return f"{metadata['namespace']}.{metadata['name']}"


def _twice(manifests: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    keys = [
        f"{APIS[m['kind']].plural}/{_id_of(m)}"
        for m in manifests
        if m.get("kind") in APIS
        and isinstance(m.get("metadata"), Mapping)
        and "name" in m["metadata"]
    ]
    return [
        (key, "it is there twice; apply one of them")
        for key in sorted({key for key in keys if keys.count(key) > 1})
    ]


def _outcome(old: Object, new: Object) -> Outcome:
    """By content: who owns a field is no difference that a person means."""
    same = old.get("spec", {}) == new.get("spec", {}) and all(
        old["metadata"].get(name) == new["metadata"].get(name) for name in _KEPT_METADATA
    )
    return "unchanged" if same else "configured"


def _invalid(where: str, error: KubeError) -> SpanyardError:
    """The server's refusal of an object, field by field where it says so."""
    if error.status == 404:
        told = "there is no such namespace; make it with `kubectl create namespace`"
        return InvalidResourceError([(f"{where}: metadata.namespace", told)])
    if error.status == 401 or _is_ours(error):
        return _not_permitted(error)
    if error.causes:
        return InvalidResourceError(
            [
                (f"{where}: {field}" if field else where, _plain(what))
                for field, what in error.causes
            ]
        )
    return InvalidResourceError([(where, str(error).partition(": ")[2] or str(error))])


def _plain(what: str) -> str:
    """Without what Go prints of the value before the text of the rule."""
    start, mark, rest = what.partition('Invalid value: "')
    if start or not mark:
        return what
    kind, _, told = rest.partition('": ')
    return told if told and kind in {"object", "string", "integer", "array", "boolean"} else what


def _is_ours(error: KubeError) -> bool:
    """RBAC refuses the gateway itself; a quota's or a webhook's refusal is the user's to read."""
    return error.status == 403 and " cannot " in str(error) and "User " in str(error)


def _not_permitted(error: KubeError) -> SpanyardError:
    return SpanyardError(
        f"the Kubernetes API refuses the gateway: {error}. Its ServiceAccount needs the rights of "
        "docs/reference/rbac.md"
    )
