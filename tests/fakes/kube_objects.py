"""Bodies of Kubernetes objects as an API server handles them: merged, compared, selected."""

from typing import Any

import msgspec

from spanyard_core.kube import Object


def copied(body: Any) -> Any:
    """As over the wire; twenty times quicker than `copy.deepcopy`."""
    return msgspec.json.decode(msgspec.json.encode(body))


def merged(before: Object, patch: Object) -> Object:
    made = dict(copied(before))
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, dict):
            inner = made.get(name)
            made[name] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            made[name] = copied(value)
    return made


def without(before: Object, previous: Object, said: Object) -> Object:
    """`before` without what a manager said last time and does not say now."""
    made = copied(before)
    for name, value in previous.items():
        if name not in said:
            made.pop(name, None)
        elif (
            isinstance(value, dict)
            and isinstance(said[name], dict)
            and isinstance(made.get(name), dict)
        ):
            made[name] = without(made[name], value, said[name])
    return made


def parts(before: Object, made: Object, subresource: str) -> Object:
    """A change of the status changes nothing else, and the other way round."""
    if subresource == "status":
        return {**copied(before), "status": made.get("status", {})}
    kept = {name: value for name, value in made.items() if name != "status"}
    return kept | ({"status": copied(before["status"])} if "status" in before else {})


def same(before: Object, made: Object) -> bool:
    def content(body: Object) -> Object:
        about = {
            k: v
            for k, v in body["metadata"].items()
            if k not in {"resourceVersion", "generation", "uid", "creationTimestamp"}
        }
        return {**body, "metadata": about}

    return content(before) == content(made)


def selected(body: Object, labels: str, fields: str) -> bool:
    has = body["metadata"].get("labels") or {}
    for part in filter(None, labels.split(",")):
        if "!=" in part:
            name, _, value = part.partition("!=")
            if has.get(name) == value:
                return False
        elif "=" in part:
            name, _, value = part.partition("=")
            if has.get(name.rstrip("=")) != value.lstrip("="):
                return False
        elif part.startswith("!"):
            if part[1:] in has:
                return False
        elif part not in has:
            return False
    for part in filter(None, fields.split(",")):
        path, _, value = part.partition("=")
        found: Any = body
        for name in path.split("."):
            found = (found or {}).get(name) if isinstance(found, dict) else None
        if str(found or "") != value:
            return False
    return True
