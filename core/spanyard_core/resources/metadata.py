"""The metadata of a manifest, checked as the API server checks that of every object; pure."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from spanyard_core.resources.structural import Problem, shown

MAX_NAME = 50
"""Characters of a name or namespace: both stand in object names, with more around them."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)

FIELDS = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "selfLink",
)

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_KEY_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_KEY_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_MAX_ANNOTATIONS = 256 * 1024
"""Bytes, of all keys and values: Kubernetes' own limit."""


def problems(metadata: Any) -> Iterator[Problem]:
    """What is wrong with it. How a name is spelled is a rule of the kind, not of this module."""
    if not isinstance(metadata, Mapping):
        yield Problem(("metadata",), "must be an object with a name")
        return
    name = metadata.get("name")
    if name is None or name == "":
        yield Problem(("metadata", "name"), "is missing: every object has a name")
    elif not isinstance(name, str):
        yield Problem(("metadata", "name"), f"is {shown(name)}, must be a text: put it in quotes")
    elif "\0" in name:  # the kind's rule sees what stands before it
        yield Problem(("metadata", "name"), "has a NUL character")
    namespace = metadata.get("namespace", "")
    if namespace and not (
        isinstance(namespace, str) and NAME.fullmatch(namespace) and len(namespace) <= MAX_NAME
    ):
        yield Problem(
            ("metadata", "namespace"),
            f"is {shown(namespace)}, must be at most {MAX_NAME} lower-case letters, digits and `-`",
        )
    for field in metadata:
        if field not in FIELDS:
            close = difflib.get_close_matches(str(field), FIELDS, n=1)
            meant = f"; did you mean `metadata.{close[0]}`?" if close else ""
            yield Problem(("metadata", str(field)), f"is no field of metadata{meant}", unknown=True)
    yield from _map(metadata.get("labels"), "labels")
    yield from _map(metadata.get("annotations"), "annotations")


def _map(texts: Any, field: str) -> Iterator[Problem]:
    if texts is None:
        return
    if not isinstance(texts, Mapping):
        yield Problem(("metadata", field), f"is {shown(texts)}, must be an object of texts")
        return
    size = 0
    for key, value in texts.items():
        path = ("metadata", field, str(key))
        prefix, slash, name = str(key).rpartition("/")
        if not _KEY_NAME.fullmatch(name) or (slash and not _KEY_PREFIX.fullmatch(prefix)):
            yield Problem(
                path, "is no key: at most 63 letters, digits, `-`, `_`, `.`, after a domain and `/`"
            )
        if not isinstance(value, str):
            yield Problem(path, f"is {shown(value)}, must be a text: put it in quotes")
        elif field == "labels" and not _LABEL_VALUE.fullmatch(value):
            yield Problem(
                path, f"is {shown(value)}, must be at most 63 letters, digits, `-`, `_`, `.`"
            )
        else:
            size += len(str(key)) + len(value)
    if field == "annotations" and size > _MAX_ANNOTATIONS:
        yield Problem(("metadata", field), f"has {size} bytes, may have {_MAX_ANNOTATIONS}")
