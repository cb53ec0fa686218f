"""JSON Schemas of records, generated from the types in `records` (`make docs`).

`docs/schema/{signal}.schema.json` describes stored lines, with their identity;
`docs/schema/events/{signal}.schema.json` what applications write (span files, `.jsonl` objects),
where whoever takes the event stamps the identity on it.
"""

import ast
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from spanyard_core import records
from spanyard_core.object_names import PROJECT_PATTERN
from spanyard_core.records import LINE_TYPES, Signal

EVENT_SIGNALS: tuple[Signal, ...] = ("traces", "spans", "logs", "metrics", "scores")
"""Gaps are told by collectors alone."""

_BASE = "https://spanyard.dev/schema"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TIMES = {"timestamp", "startTime", "endTime", "recordedAt", "fromTime", "toTime"}
_TIME_PATTERN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"
_OBJECTS = {"attributes", "resource", "metadata"}
_STAMPED = {
    *("project", "writer", "seq", "uid", "deployment", "build", "pod", "container", "stream"),
    "marks",
}
"""What the collector says of a record, never the application."""


def _field_texts() -> dict[str, dict[str, str]]:
    """Class → field in camelCase → the docstring below the field, on one line."""
    texts: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(records)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = texts.setdefault(node.name, {})
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                head, *rest = field.target.id.split("_")
                name = head + "".join(word.capitalize() for word in rest)
                fields[name] = " ".join(str(after.value.value).split())
    return texts


def _refine(name: str, schema: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """What the Python types do not say: formats, objects, ranges, meaning."""
    if name in _TIMES:
        empty = "|" if schema.get("default") == "" else ""
        schema["pattern"] = f"^({_TIME_PATTERN}{empty})$"
        if "anyOf" in schema:  # endTime: a time or null
            schema["anyOf"] = [
                {**choice, "pattern": schema["pattern"]} if choice["type"] == "string" else choice
                for choice in schema["anyOf"]
            ]
            del schema["pattern"]
    elif name in _OBJECTS:
        schema["type"] = "object"
    elif name == "project":
        schema["pattern"] = f"^{PROJECT_PATTERN}$"
    elif name == "writer":
        schema["minLength"] = 1
    elif name == "seq":
        schema.update(minimum=1, maximum=2**63 - 1)
    elif name in {"count", "bytes", "lines"} or name.endswith(("Seq", "Offset")):
        schema["minimum"] = 0
    if name in texts:
        schema["description"] = texts[name].replace("`", "")
    return schema


def schema_of(signal: Signal, *, event: bool = False) -> dict[str, Any]:
    """The schema of a stored line of `signal`, or of the event behind it."""
    line_type = LINE_TYPES[signal]
    definitions: dict[str, Any] = msgspec.json.schema(line_type)["$defs"]
    texts = _field_texts()
    for title, definition in definitions.items():
        known = {**texts["Line"], **texts.get(title, {})}
        definition["properties"] = {
            name: _refine(name, schema, known)
            for name, schema in definition["properties"].items()
            if not (event and title == line_type.__name__ and name in _STAMPED)
        }
        definition["required"] = [
            name for name in definition["required"] if name in definition["properties"]
        ]
        definition["additionalProperties"] = False
        definition["description"] = definition["description"].split("\n\n")[0].replace("`", "")
    root = definitions.pop(line_type.__name__)
    folder = "events/" if event else ""
    schema = {
        "$schema": _DIALECT,
        "$id": f"{_BASE}/{folder}{signal}.schema.json",
        **root,
        "title": line_type.__name__.removesuffix("Line") + (" event" if event else " line"),
    }
    if definitions:
        schema["$defs"] = definitions
    return schema


def schema_files() -> dict[str, str]:
    """Relative path → text of all published schemas."""
    found = {f"{signal}.schema.json": schema_of(signal) for signal in LINE_TYPES}
    for signal in EVENT_SIGNALS:
        found[f"events/{signal}.schema.json"] = schema_of(signal, event=True)
    return {
        path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for path, schema in found.items()
    }


def main(folder: str) -> None:
    """Write all schemas below `folder`."""
    for path, text in schema_files().items():
        target = Path(folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
