"""The page of the operator's rights says what the chart gives."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/spanyard/templates/operator/rbac.yaml"
PAGE = ROOT / "docs/reference/rbac.md"
Right = tuple[str, str, str]


def given() -> set[Right]:
    text = CHART.read_text("utf-8")
    block = text.partition('define "spanyard.operatorRules" -}}')[2].partition("{{- end -}}")[0]
    rules = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "", block))
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def told() -> set[Right]:
    found: set[Right] = set()
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and "`" in cells[2]:
            group = cells[0].strip("`") if "`" in cells[0] else ""
            for resource in re.findall(r"`([^`]+)`", cells[1]):
                found |= {(group, resource, verb) for verb in re.findall(r"`([^`]+)`", cells[2])}
    return found


def test_the_page_says_what_the_chart_gives() -> None:
    assert told() == given()
