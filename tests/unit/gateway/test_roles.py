"""The roles of the chart are those that the page on security prints, and cover every operation."""

import re
from pathlib import Path
from typing import Any

import yaml

from spanyard_core.resources.kinds import GROUP
from spanyard_gateway.auth.rights import Everywhere
from spanyard_gateway.routes import all_endpoints

ROOT = Path(__file__).resolve().parents[3]


def told() -> dict[str, list[dict[str, Any]]]:
    """By role, from the page."""
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    found = re.findall(r"^`(spanyard-\w+)`.*?```yaml\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return {name: yaml.safe_load(block)["rules"] for name, block in found}


def installed() -> dict[str, list[dict[str, Any]]]:
    """By role, from the chart as it renders by default."""
    text = (ROOT / "tests" / "cluster" / "charts" / "least.rendered.yaml").read_text("utf-8")
    objects = [one for one in yaml.safe_load_all(text) if one and one["kind"] == "ClusterRole"]
    return {one["metadata"]["name"]: one["rules"] for one in objects}


def rights_of(rules: list[dict[str, Any]]) -> set[str]:
    found = set()
    for rule in rules:
        assert rule["apiGroups"] == [GROUP]
        for resource in rule["resources"]:
            name, slash, below = resource.partition("/")
            found |= {f"{verb} {name}.{GROUP}{slash}{below}" for verb in rule["verbs"]}
    return found


def test_the_chart_has_the_roles_that_the_page_prints() -> None:
    chart = installed()
    assert set(told()) == {"spanyard-viewer", "spanyard-editor"}
    for name, rules in told().items():
        assert chart[name] == rules, name


def test_a_viewer_may_all_that_looks_and_an_editor_all_that_changes() -> None:
    viewer, editor = (rights_of(told()[f"spanyard-{name}"]) for name in ("viewer", "editor"))
    assert viewer < editor
    for endpoint in all_endpoints():
        assert endpoint.check is not None
        needed = {str(right) for right in endpoint.check.rights}
        if endpoint.path == "/apply":  # rights of each kind that is in the body
            continue
        assert needed <= editor, endpoint.path
        looks = endpoint.method == "GET" and endpoint.path != "/sources/{digest}"
        if looks or isinstance(endpoint.check, Everywhere):
            assert needed <= viewer, endpoint.path
        elif needed:
            assert not needed <= viewer, endpoint.path
