"""The CEL rules of a schema (`x-kubernetes-validations`), evaluated as the API server does.

By cel-cpp, Google's own implementation: of three libraries it was the quickest to import (4 ms;
the one in Rust took 185, the one in Python 300), has the string functions that Kubernetes adds,
and wheels for Linux and macOS. It is imported only when a manifest is validated.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from spanyard_core.errors import SpanyardError
from spanyard_core.resources.crds import Schema
from spanyard_core.resources.structural import Path, Problem, item_key

_OLD = re.compile(r"\boldSelf\b")
_FIELD = re.compile(r"\b(?:self|oldSelf)\b((?:\.\w+\b(?!\())*)")
MISSING = object()


class RuleError(SpanyardError):
    """A rule that does not compile: a mistake in the CRDs."""


class _NoResultError(Exception):
    """A rule met a value that it cannot judge, as when a field is not there."""


def broken(
    value: Any,
    schema: Schema,
    old: Any = MISSING,
    path: Path = (),
    *,
    found: Sequence[Problem] = (),
) -> Iterator[Problem]:
    """The rules that do not hold, inner ones first.

    `old` is the value before; without one, rules about a change are left out. `found` is what
    is wrong already: rules that look there are left out, for they would say it again.
    """
    if isinstance(value, Mapping):
        before = old if isinstance(old, Mapping) else {}
        more: Schema | None = schema.get("additionalProperties")
        for name, inner in value.items():
            part = schema.get("properties", {}).get(name, more)
            if part is not None:
                yield from broken(
                    inner, part, before.get(name, MISSING), (*path, name), found=found
                )
    elif isinstance(value, list) and "items" in schema:
        keys = schema.get("x-kubernetes-list-map-keys", ())
        earlier = {item_key(item, keys): item for item in old} if isinstance(old, list) else {}
        earlier.pop(None, None)  # items of other lists have no before: their places mean nothing
        for index, item in enumerate(value):
            was = earlier.get(item_key(item, keys), MISSING)
            yield from broken(item, schema["items"], was, (*path, index), found=found)
    for rule in schema.get("x-kubernetes-validations", ()):
        if not any(_looks_at(rule["rule"], path, problem) for problem in found):
            yield from _judged(rule, value, old, path, bool(found))


def _looks_at(rule: str, path: Path, problem: Problem) -> bool:
    """Whether a rule at `path` reads what is wrong, or reads an object with a mistyped field."""
    where = problem.path[:-1] if problem.unknown else problem.path
    for field in _fields(rule):
        looked = (*path, *field)
        if problem.unknown:
            if len(path) <= len(where) and looked[: len(where)] == where:
                return True
        elif looked[: len(where)] == where[: len(looked)]:
            return True
    return False


@cache
def _fields(rule: str) -> frozenset[tuple[str, ...]]:
    """The paths that a rule reads, `("spec", "retry")`; functions called on them left out."""
    return frozenset(tuple(match[1].split(".")[1:]) for match in _FIELD.finditer(rule))


def _judged(
    rule: Mapping[str, str], value: Any, old: Any, path: Path, told: bool
) -> Iterator[Problem]:
    text = rule["rule"]
    if _OLD.search(text) and old is MISSING:
        return
    data = {"self": value} if old is MISSING else {"self": value, "oldSelf": old}
    message = rule["message"]
    try:
        if _evaluated(text, data):
            return
    except _NoResultError as e:
        if told:  # what is wrong elsewhere is the likely cause, and comes first
            return
        message += f" (the rule could not be evaluated: {e})"
    if "messageExpression" in rule:
        with contextlib.suppress(_NoResultError):  # then the plain one stands
            message = str(_evaluated(rule["messageExpression"], data)).strip() or message
    field = rule.get("fieldPath", "").strip(".")
    yield Problem((*path, *field.split(".")) if field else path, message)


def _evaluated(text: str, data: Mapping[str, Any]) -> object:
    value = _compiled(text).eval(data=data)
    result: object = value.plain_value()
    if not isinstance(result, (bool, str)) or value.type().name() == "ERROR":
        raise _NoResultError(str(result))
    return result


@cache
def _environment() -> Any:
    try:
        from cel_expr_python import cel
        from cel_expr_python.ext.ext_strings import ExtStrings
    except ImportError as e:
        raise SpanyardError(
            "the rules of manifests need the package cel-expr-python: install spanyard[local]"
        ) from e
    return cel.NewEnv(
        variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}, extensions=[ExtStrings()]
    )


@cache
def _compiled(text: str) -> Any:
    try:
        return _environment().compile(text)
    except RuntimeError as e:
        raise RuleError(f"the rule {text!r} is no CEL: {e}") from e


def compile_rules(schema: Schema) -> int:
    """Compile every rule and message of a schema; how many. Raises RuleError."""
    count = 0
    for rule in schema.get("x-kubernetes-validations", ()):
        for key in ("rule", "messageExpression"):
            if key in rule:
                _compiled(rule[key])
                count += 1
    inner = [*schema.get("properties", {}).values()]
    inner += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    return count + sum(compile_rules(part) for part in inner)
