"""Alerts and dashboards ask for what the components really show, and for tables that are there."""

import importlib
import json
import re
import sys
import time
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from spanyard_gateway.metrics import GatewayMetrics
from spanyard_ingester.metrics import IngesterMetrics
from spanyard_operator.metrics import OperatorMetrics
from spanyard_sidecar.metrics import CollectorMetrics
from tests.cluster import chart
from tests.cluster.chart import CHART, ROOT, render
from tests.fakes.engine import migrated_database

sys.path.insert(0, str(ROOT / "charts"))
dashboards = importlib.import_module("dashboards")

ALERTS: list[dict[str, str]] = yaml.safe_load((ROOT / "charts" / "alerts.yaml").read_text())[
    "rules"
]
OWN = re.compile(r"\bspanyard_\w+")
LABELS_OF_PROMETHEUS = {"namespace", "pod", "le"}


class _Anything:
    """Stands for the parts that a metrics collector reads: every attribute, of any depth, is one."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()

    def __call__(self, *given: Any) -> Any:
        return _Anything()

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __float__(self) -> float:
        return 0.0

    def __bool__(self) -> bool:
        return False

    def _number(self, _: Any) -> float:
        return 0.0

    __add__ = __radd__ = __sub__ = __rsub__ = __truediv__ = _number


def families() -> dict[str, Metric]:
    """All metrics of all components by name."""
    gateway, collector = CollectorRegistry(), CollectorMetrics()
    GatewayMetrics(gateway)
    context: Any = _Anything()
    context.kube = _Anything()
    context.kube.writes = {}
    context.queue = _Anything()
    context.queue.results, context.queue.later = {}, 0
    context.events = _Anything()
    context.events.counts = {}
    operator = OperatorMetrics(context, lambda: True)
    ingester = IngesterMetrics(_Anything())  # type: ignore[arg-type]
    found = {}
    for registry in (gateway, collector.registry, operator.registry, ingester.registry):
        found |= {family.name: family for family in registry.collect()}
    # Gauges of parts that are put together when the collector runs.
    source = "".join(
        path.read_text("utf-8") for path in (ROOT / "sidecar" / "spanyard_sidecar").rglob("*.py")
    )
    for name in re.findall(r"\.watch\(\s*\"(\w+)\"", source):
        found[f"spanyard_collector_{name}"] = Metric(f"spanyard_collector_{name}", "", "gauge")
    return found


FAMILIES = families()


def known(series: str) -> Metric | None:
    """The family of a series: counters end with _total, histograms with _bucket, _sum and _count."""
    for suffix, types in (
        ("_total", {"counter"}),
        ("_bucket", {"histogram"}),
        ("_sum", {"histogram"}),
        ("_count", {"histogram"}),
        ("", {"gauge"}),
    ):
        family = FAMILIES.get(series.removesuffix(suffix))
        if series.endswith(suffix) and family is not None and family.type in types:
            return family
    return None


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for rule in ALERTS]
    for name, dashboard in dashboards.dashboards().items():
        found += [
            (f"{name}: {panel['title']}", target["expr"])
            for panel in dashboard["panels"]
            for target in panel["targets"]
            if "expr" in target
        ]
    return found


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_metric_that_is_asked_for_is_shown_by_a_component(
    where: str, expression: str
) -> None:
    names = OWN.findall(expression)
    assert names, f"{where} asks for nothing of ours"
    for name in names:
        assert known(name) is not None, f"{where}: no component shows {name}"
    for counter in re.findall(r"(spanyard_\w+_total)(?!\w)", expression):
        around = expression.split(counter, maxsplit=1)[0]
        assert re.search(r"(rate|increase)\($", around) or "absent(" in around, (
            f"{where}: {counter} is a counter"
        )
    for opened, closed in ("()", "[]", "{}"):
        assert expression.count(opened) == expression.count(closed)


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_label_that_is_asked_for_is_one_of_the_metric(where: str, expression: str) -> None:
    labels = set()
    for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")}
    labels |= set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
    there = set(LABELS_OF_PROMETHEUS)
    source = "".join(
        path.read_text("utf-8")
        for folder in ("gateway", "sidecar", "ingester", "operator")
        for path in (ROOT / folder).rglob("metrics.py")
    )
    there |= {
        label for group in re.findall(r"\[((?:\"\w+\"(?:, )?)+)\]", source)
        for label in re.findall(r"\w+", group)
    }  # fmt: skip
    assert labels <= there, f"{where}: {labels - there}"


def test_an_alert_says_what_happened_and_what_to_do() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))
    page = (ROOT / "docs" / "alerts.md").read_text("utf-8")
    for rule in ALERTS:
        assert set(rule) == {
            "alert", "expr", "for", "severity", "summary", "description", "runbook",
        }  # fmt: skip
        assert rule["severity"] in {"critical", "warning"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert f"## {rule['alert']}\n" in page


def test_alerts_of_the_chart_keep_prometheus_templates_and_link_to_their_page(helm: Any) -> None:
    rule = render("production-aws").one("PrometheusRule", "spanyard")
    made = {one["alert"]: one for one in rule["spec"]["groups"][0]["rules"]}
    assert set(made) == {one["alert"] for one in ALERTS}
    for one in ALERTS:
        got = made[one["alert"]]
        assert (got["expr"], got["for"]) == (one["expr"], one["for"])
        assert got["annotations"]["summary"] == one["summary"]
        assert got["labels"] == {"severity": one["severity"], "team": "platform"}
        assert got["annotations"]["runbook_url"] == f"docs/alerts.md#{one['alert'].lower()}"
    assert "{{ $value | humanizeDuration }}" in json.dumps(made, ensure_ascii=False)
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    quiet = render(
        "least",
        monitoring={
            "prometheusRule": {
                "enabled": True, "disabled": ["SpanyardLinesLost"], "runbookUrl": "https://x/#",
            }
        },
    ).one("PrometheusRule", "spanyard")  # fmt: skip
    names = [one["alert"] for one in quiet["spec"]["groups"][0]["rules"]]
    assert "SpanyardLinesLost" not in names
    assert len(names) == len(ALERTS) - 1


def test_dashboards_are_config_maps_for_grafanas_sidecar(helm: Any) -> None:
    about = {"labels": {"grafana_dashboard": "yes"}, "annotations": {"grafana_folder": "Agents"}}
    found = render("least", grafana={"dashboards": {"enabled": True, **about}})
    maps = [m for m in found.all("ConfigMap") if "dashboard" in m["metadata"]["name"]]
    assert len(maps) == len(dashboards.dashboards()) == 4
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "yes"
        assert one["metadata"]["annotations"]["grafana_folder"] == "Agents"
        ((name, text),) = one["data"].items()
        assert json.loads(text) == dashboards.dashboards()[name.removesuffix(".json")]
    assert not render("least").all("ConfigMap")


def test_the_data_source_is_provisioned(helm: Any) -> None:
    secret = render("production-aws").one("Secret", "spanyard-datasource")
    assert secret["metadata"]["labels"]["grafana_datasource"] == "1"
    ((_, text),) = secret["stringData"].items()
    (source,) = yaml.safe_load(text)["datasources"]
    assert source["type"] == dashboards.CLICKHOUSE
    assert source["jsonData"]["host"] == "clickhouse.clickhouse"
    assert source["jsonData"]["logs"]["otelEnabled"] is True
    assert source["jsonData"]["traces"]["defaultTable"] == "otel_traces"
    assert source["secureJsonData"]["password"] == "$SPANYARD_CLICKHOUSE_PASSWORD"


def test_panels_lie_beside_each_other_and_have_names() -> None:
    for dashboard in dashboards.dashboards().values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken
            assert place["x"] + place["w"] <= dashboards.WIDTH
            taken |= cells
            assert panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def questions() -> list[tuple[str, str]]:
    found = []
    for name, dashboard in dashboards.dashboards().items():
        for panel in dashboard["panels"]:
            where = f"{name}: {panel['title']}"
            found += [(where, t["rawSql"]) for t in panel["targets"] if "rawSql" in t]
        variables = [v for v in dashboard["templating"]["list"] if v["type"] == "query"]
        found += [(f"{name}: ${v['name']}", v["query"]) for v in variables]
    return found


def filled_in(query: str, since: int, until: int) -> str:
    """The macros as the plugin writes them, for one project."""

    def between(match: re.Match[str]) -> str:
        return f"{match[1]} >= toDateTime({since}) AND {match[1]} <= toDateTime({until})"

    query = re.sub(r"\$__timeFilter\((\w+)\)", between, query)
    query = re.sub(
        r"\$__timeInterval\((\w+)\)",
        r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
        query,
    )
    query = query.replace("${project:singlequote}", "'local.agent'")
    assert "$" not in query, query
    return query


@pytest.mark.engine
async def test_every_question_of_a_dashboard_is_answered_by_our_tables() -> None:
    now = int(time.time())
    async with migrated_database() as database:
        await database.command(
            f"""INSERT INTO spans (project, writer, seq, batch, ingest_day, recorded_at, ended, root,
                start_time, end_time, duration_ns, id, trace_id, name, status, span_kind, model, tool,
                input_tokens, output_tokens, cost)
            SELECT 'local.agent', 'w', number + 1, 1, today(), now64(9), 1, 1,
                toDateTime64({now}, 9), toDateTime64({now}, 9), 1000, toString(number), 't', 'ask',
                'error', 'server', 'm', 'search', 10, 5, 0.5
            FROM numbers(10)"""
        )
        for event, signal in (("begin", ""), ("gap", "logs")):
            await database.command(
                f"""INSERT INTO gaps (project, writer, seq, batch, ingest_day, recorded_at, event,
                    timestamp, subject, signal, cause, lines)
                VALUES ('local.agent', 'w', {len(event)}, 1, today(), now64(9), '{event}',
                    toDateTime64({now}, 9), 's', '{signal}', 'rotated', 7)"""
            )
        await database.command(
            f"""INSERT INTO logs (project, writer, seq, batch, ingest_day, recorded_at, timestamp,
                level, message)
            VALUES ('local.agent', 'w', 1, 1, today(), now64(9), toDateTime64({now}, 9), 'error', 'x')"""
        )
        await database.command(
            f"""INSERT INTO scores (project, writer, seq, batch, ingest_day, recorded_at, timestamp,
                name, value)
            VALUES ('local.agent', 'w', 1, 1, today(), now64(9), toDateTime64({now}, 9), 'good', 1)"""
        )
        await database.command(
            """INSERT INTO quarantine (id, project, status, created_at, updated_at)
            VALUES ('q', 'local.agent', 'open', now64(3), now64(3)),
                ('r', 'local.agent', 'replayed', now64(3), now64(3))"""
        )
        asked = questions()
        assert len(asked) > 20
        for where, query in asked:
            rows = await database.rows(filled_in(query, now - 3600, now + 60))
            assert rows, f"{where} has no row for data that it is about"
        (spent,) = await database.rows(
            filled_in(dict(questions())["spanyard-llm: Cost"], now - 60, now + 60)
        )
        assert spent["cost"] == 5.0
        (waiting,) = await database.rows(
            filled_in(dict(questions())["spanyard-loss: In quarantine"], now - 60, now + 60)
        )
        assert waiting["objects"] == 1


def test_files_of_the_chart_are_those_that_are_tested() -> None:
    assert yaml.safe_load((CHART / "files" / "alerts.yaml").read_text("utf-8"))["rules"] == ALERTS
    assert chart.value_sets()
