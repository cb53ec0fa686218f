"""What the chart's files say twice: `make chart` writes it, `--check` (the tests) compares.

From `values.yaml`, its comments and the settings classes: `values.schema.json` and
`docs/reference/values.md`. From `crds/`: the copies that the chart carries. From
`charts/dashboards`: Grafana's JSON.
"""

import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from dashboards import dashboards
from definitions import DEFINITIONS, MANAGED

from spanyard_core.settings import Setting, settings_of

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "spanyard"
VALUES = CHART / "values.yaml"
REFERENCE = ROOT / "docs" / "reference" / "values.md"
ALERTS = ROOT / "charts" / "alerts.yaml"
ALERTS_PAGE = ROOT / "docs" / "alerts.md"


@dataclass(frozen=True)
class Value:
    """One value as values.yaml has it."""

    path: tuple[str, ...]
    default: Any
    says: str
    schema: Mapping[str, Any] | None
    settings: str
    is_section: bool
    """Its own children are values."""


def values(text: str) -> list[Value]:
    """All values in order. Raises ValueError for one without a description."""
    lines = text.split("\n")

    def walk(node: yaml.MappingNode, above: tuple[str, ...]) -> Iterator[Value]:
        for key, child in node.value:
            comments: list[str] = []
            number = key.start_mark.line - 1
            while number >= 0 and lines[number].strip().startswith("#"):
                comments.insert(0, lines[number].strip().removeprefix("#").strip())
                number -= 1
            says = " ".join(c.removeprefix("-- ") for c in comments if c.startswith("-- "))
            schema = next((c for c in comments if c.startswith("@schema ")), "")
            settings = next((c for c in comments if c.startswith("@settings ")), "")
            path = (*above, key.value)
            section = isinstance(child, yaml.MappingNode) and not (schema or settings or says)
            if section and not child.value:
                raise ValueError(f"{'.'.join(path)}: what may stand in it? Add @schema")
            if not section and not says:
                raise ValueError(f"{'.'.join(path)} has no description: add a comment `# -- …`")
            default = yaml.safe_load(yaml.serialize(child))
            yield Value(
                path,
                default,
                says,
                json.loads(schema.removeprefix("@schema ")) if schema else None,
                settings.removeprefix("@settings ").strip(),
                section,
            )
            if section:
                yield from walk(child, path)

    top = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(top, yaml.MappingNode)
    return list(walk(top, ()))


def schema(found: list[Value]) -> dict[str, Any]:
    """JSON Schema of the values: nothing that is not named may be there."""
    made: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart spanyard",
        "$defs": DEFINITIONS,
    } | _section()
    made["properties"]["global"] = {"type": "object"}  # Helm's own: what a parent chart shares
    for value in found:
        place = made
        for name in value.path[:-1]:
            place = place["properties"][name]
        place["properties"][value.path[-1]] = _schema_of(value)
    return made


def _section() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _schema_of(value: Value) -> dict[str, Any]:
    if value.is_section:
        return _section()
    about = {"description": value.says}
    if value.settings:
        return about | settings_schema(value.settings)
    if value.schema is not None:
        # Beside a $ref, draft 7 reads nothing else.
        return (
            {"allOf": [value.schema], **about} if "$ref" in value.schema else about | value.schema
        )
    types = {bool: "boolean", int: "integer", str: "string"}
    return about | {"type": types[type(value.default)]}


def settings_schema(where: str) -> dict[str, Any]:
    """The settings of a component, in camelCase, without those that the chart sets itself."""
    made = _section()
    for setting in free_settings(where):
        made["properties"][camel(setting.name)] = _setting_schema(setting)
    return made


def free_settings(where: str) -> list[Setting]:
    """Settings of `module:Class` that a person sets."""
    module, _, name = where.partition(":")
    found = settings_of(getattr(importlib.import_module(module), name))
    return [s for s in found if s.name not in MANAGED[where]]


def camel(name: str) -> str:
    """`flush_interval` → `flushInterval`."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _setting_schema(setting: Setting) -> dict[str, Any]:
    made: dict[str, Any] = {"description": setting.help}
    if setting.is_list:
        return made | {"type": "array", "items": {"type": "string"}}
    if setting.choices:
        return made | {"enum": list(setting.choices)}
    if setting.unit:
        reference = {"duration": "#/$defs/duration", "size": "#/$defs/size"}[setting.unit]
        return made | {"allOf": [{"$ref": reference}]}
    kinds = {bool: "boolean", int: "integer", float: "number"}
    made["type"] = kinds.get(setting.type, "string")
    if setting.type in {int, float}:
        made |= {"minimum": setting.least} if setting.least is not None else {}
        made |= {"maximum": setting.most} if setting.most is not None else {}
    return made


def reference(found: list[Value]) -> str:
    """The table of all values as a page."""
    lines = [
        "# Values of the chart",
        "",
        "Made from `charts/spanyard/values.yaml` (`make chart`). The same is in",
        "`values.schema.json`: Helm refuses a name that is not here, and says so.",
    ]
    group = ""
    for value in found:
        if value.is_section:
            continue
        top = value.path[0] if len(value.path) > 1 else ""
        if top != group or len(lines) == 4:
            group = top
            lines += [
                "",
                f"## {top or 'Names and scope'}",
                "",
                "| value | default | |",
                "|---|---|---|",
            ]
        shown = json.dumps(value.default, ensure_ascii=False).replace("|", "\\|")
        says = value.says.replace("|", "\\|")
        allowed = (value.schema or {}).get("enum")
        if allowed:
            says += f" ({', '.join(f'`{one}`' for one in allowed if one)})"
        if value.settings:
            names = ", ".join(f"`{camel(s.name)}`" for s in free_settings(value.settings))
            says += f" Here: {names}."
        lines.append(f"| `{'.'.join(value.path)}` | `{shown}` | {says} |")
    return "\n".join(lines) + "\n"


def alerts_page(rules: list[dict[str, str]]) -> str:
    """docs/alerts.md: one section per alert, which its `runbook_url` leads to."""
    lines = [
        "# Alerts",
        "",
        "What `monitoring.prometheusRule.enabled` brings, and what to do at each. Made from",
        "`charts/alerts.yaml` (`make chart`). Leave some out by `monitoring.prometheusRule.disabled`.",
        "Alerts about collectors need `monitoring.podMonitor.enabled`.",
    ]
    for rule in rules:
        said = " ".join((rule["summary"], rule["description"]))
        lines += [
            "",
            f"## {rule['alert']}",
            "",
            f"{rule['severity'].capitalize()}, after {rule['for']}. {_without_templates(said)}",
            "",
            "```promql",
            rule["expr"],
            "```",
            "",
            f"**What to do.** {rule['runbook']}",
        ]
    return "\n".join(lines) + "\n"


def _without_templates(text: str) -> str:
    return re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", text)


def generated() -> dict[Path, str]:
    """Each file and what belongs in it."""
    found = values(VALUES.read_text("utf-8"))
    made = {
        CHART / "values.schema.json": json.dumps(schema(found), indent=1, ensure_ascii=False)
        + "\n",
        REFERENCE: reference(found),
    }
    for crd in sorted((ROOT / "crds").glob("*.yaml")):
        made[CHART / "files" / "crds" / crd.name] = crd.read_text("utf-8")
    alerts = ALERTS.read_text("utf-8")
    made[ALERTS_PAGE] = alerts_page(yaml.safe_load(alerts)["rules"])
    made[CHART / "files" / "alerts.yaml"] = alerts
    for name, dashboard in dashboards().items():
        text = json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"
        made[CHART / "files" / "dashboards" / f"{name}.json"] = text
    return made


def stale() -> list[str]:
    """Files that are not what they should be."""
    made = generated()
    there = {p for p in (CHART / "files").rglob("*") if p.is_file()}
    wrong = [p for p, text in made.items() if not p.exists() or p.read_text("utf-8") != text]
    return sorted(str(p.relative_to(ROOT)) for p in {*wrong, *(there - made.keys())})


def main(arguments: list[str]) -> int:
    """Write, or with `--check` say what is stale."""
    if arguments == ["--check"]:
        wrong = stale()
        if wrong:
            print(f"stale, run `make chart`: {', '.join(wrong)}", file=sys.stderr)
        return int(bool(wrong))
    for path, text in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
