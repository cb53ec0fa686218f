"""Manifests in and out: from what a person wrote to typed resources, and back.

`crds/*.yaml` says what is valid, here as in the API server: `validate` fills in defaults, checks
every field and evaluates the CEL rules, and tells all problems at once. `decode` and `encode`
change between manifests (JSON as Kubernetes has it) and the types of `kinds`.
"""

import functools
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from spanyard_core.errors import InvalidResourceError
from spanyard_core.resources import cel, crds, metadata, structural
from spanyard_core.resources.kinds import API_VERSION, KINDS, PLURALS, Build, Kind, Resource


def kind_of(manifest: Mapping[str, Any], *, where: str = "") -> Kind:
    """The kind of a manifest of ours. Raises InvalidResourceError for any other."""
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    problems: list[tuple[str, str]] = []
    if version != API_VERSION:
        problems.append(
            (_at(where, "apiVersion"), f"is {_shown(version)}, expected `{API_VERSION}`")
        )
    for known in get_args(Kind):
        if kind == known:
            if problems:
                break
            return known  # type: ignore[no-any-return] # a member of the Literal
    else:
        kinds = ", ".join(f"`{known}`" for known in get_args(Kind))
        problems.append((_at(where, "kind"), f"is {_shown(kind)}, expected one of {kinds}"))
    raise InvalidResourceError(problems)


def title(manifest: Mapping[str, Any]) -> str:
    """How a problem names the object: `builds/support-1`."""
    about = manifest.get("metadata")
    name = about.get("name") if isinstance(about, Mapping) else None
    plural = next((p for kind, p in PLURALS.items() if kind == manifest.get("kind")), "object")
    return f"{plural}/{name}" if isinstance(name, str) and name else plural


def validate(
    manifest: Mapping[str, Any],
    old: Mapping[str, Any] | None = None,
    *,
    where: str = "",
    rules: bool = True,
) -> dict[str, Any]:
    """The manifest as the API server would store it: defaults filled in, every rule kept.

    `old` is what is stored under its name, for rules about changes. The status is never the
    user's: it is that of `old`, or a new object's. Raises InvalidResourceError with all problems;
    `where` (a file) stands before each of them. Without `rules` CEL is left to the API server.
    """
    kind = kind_of(manifest, where=_at(where, title(manifest)))
    if large := structural.oversize(manifest):
        raise InvalidResourceError([(_at(where, title(manifest)), f"{large}: too large")])
    schema = crds.schema(kind)
    of_status = schema["properties"]["status"]
    status = (old or {}).get("status") or of_status.get("default", {})
    made: dict[str, Any] = structural.filled({**manifest, "status": status}, schema)
    judged = {name: value for name, value in made.items() if name not in {"metadata", "status"}}
    found = [*metadata.problems(made.get("metadata"))]
    found += structural.problems(judged, schema, root=schema)
    if rules:
        before = structural.filled(old, schema) if old else cel.MISSING
        found += list(cel.broken(made, schema, before, found=found))
    if found:
        start = _at(where, title(manifest))
        raise InvalidResourceError(
            [(_at(start, structural.place(problem.path)), problem.what) for problem in found]
        )
    return made


def decode(manifest: Mapping[str, Any]) -> Resource:
    """The typed resource. Fields that a newer version added are ignored.

    For what passed `validate` or comes from the API server; InvalidResourceError for what is not
    even of the right types.
    """
    kind = kind_of(manifest, where=title(manifest))
    try:
        return msgspec.convert(_with_quantities_as_texts(manifest), type=KINDS[kind])
    except msgspec.ValidationError as e:
        text = str(e)
        what, _, path = text.partition(" - at `$")
        raise InvalidResourceError(
            [(_at(title(manifest), path.rstrip("`").lstrip(".")), what)]
        ) from e


def _with_quantities_as_texts(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """`cpu: 2` is a quantity too; in the types all of them are texts."""

    def changed(part: object, *path: str) -> object:
        if not isinstance(part, Mapping):
            return part
        if not path:
            return {
                name: str(value) if isinstance(value, int) and value is not True else value
                for name, value in part.items()
            }
        return {**part, path[0]: changed(part[path[0]], *path[1:])} if path[0] in part else part

    made: Any = manifest
    for owner in (("resources",), ("collector", "resources")):
        for part in ("requests", "limits"):
            made = changed(made, "spec", *owner, part)
    return made  # type: ignore[no-any-return] # what came in was a Mapping


def encode(resource: Resource) -> dict[str, Any]:
    """The manifest: JSON types, fields that are not set left out. `decode` gives the same back."""
    body = _fields(resource)
    status: dict[str, Any] = body.get("status", {})
    if isinstance(resource, Build):
        status["phase"] = resource.status.phase  # `Queued` is the default, and worth a column
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": body["metadata"],
        "spec": body.get("spec", {}),
        "status": status,
    }


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    """What differs from its default, at every depth; msgspec would write `{}` for structs."""
    found: dict[str, Any] = {}
    for field in _known(type(struct)):
        value = getattr(struct, field.name)
        default: object = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if value != default:
            found[field.encode_name] = _plain(value)
    return found


@functools.cache
def _known(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)  # 100 µs each time: it reads the annotations


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _at(where: str, path: str) -> str:
    return f"{where}: {path}" if where and path else where or path


def _shown(value: object) -> str:
    return "missing" if value is None else f"`{value}`"
