"""Grafana's dashboards: what stands in them, as data; `generate.py` writes the JSON.

The first three ask ClickHouse through its data source (SQL with the plugin's macros); the last one
asks Prometheus about the components themselves. A dashboard chooses its data source by a variable,
so that none of them names one of an installation.
"""

from typing import Any

CLICKHOUSE = "grafana-clickhouse-datasource"
PROMETHEUS = "prometheus"
WIDTH = 24
"""Of Grafana's grid."""

Panel = dict[str, Any]

_IN = "$__timeFilter(timestamp) AND project IN (${project:singlequote})"
_STARTED = "$__timeFilter(start_time) AND ended = 1 AND project IN (${project:singlequote})"
_CALLS = f"{_STARTED} AND model != ''"


def dashboards() -> dict[str, dict[str, Any]]:
    """By the name of the file."""
    return {
        "spanyard-projects": _dashboard(
            "spanyard-projects", "Spanyard / Projects", CLICKHOUSE, _projects()
        ),
        "spanyard-llm": _dashboard("spanyard-llm", "Spanyard / Models", CLICKHOUSE, _models()),
        "spanyard-loss": _dashboard("spanyard-loss", "Spanyard / Loss", CLICKHOUSE, _loss()),
        "spanyard-components": _dashboard(
            "spanyard-components", "Spanyard / Components", PROMETHEUS, _components()
        ),
    }


def _projects() -> list[Panel]:
    return [
        _sql("Requests (root spans)", "timeseries", 12, f"""
            SELECT $__timeInterval(start_time) AS time, status, count() AS requests
            FROM spans WHERE {_STARTED} AND root = 1 GROUP BY time, status ORDER BY time"""),
        _sql("Duration of requests", "timeseries", 12, f"""
            SELECT $__timeInterval(start_time) AS time, quantile(0.5)(duration_ns) AS p50,
                quantile(0.95)(duration_ns) AS p95, quantile(0.99)(duration_ns) AS p99
            FROM spans WHERE {_STARTED} AND root = 1 GROUP BY time ORDER BY time""", unit="ns"),
        _sql("Log lines by level", "timeseries", 12, f"""
            SELECT $__timeInterval(timestamp) AS time, level, count() AS lines
            FROM logs WHERE {_IN} GROUP BY time, level ORDER BY time""", bars=True),
        _sql("Scores", "timeseries", 12, f"""
            SELECT $__timeInterval(timestamp) AS time, name, avg(value) AS score
            FROM scores WHERE {_IN} GROUP BY time, name ORDER BY time"""),
        _sql("Slowest and failed traces", "table", 24, f"""
            SELECT start_time AS time, project, name, status, duration_ns AS duration, trace_id
            FROM spans WHERE {_STARTED} AND root = 1
            ORDER BY status = 'error' DESC, duration_ns DESC LIMIT 100""", unit="ns"),
        _sql("Errors and warnings", "logs", 24, f"""
            SELECT timestamp, message AS body, level, deployment, pod, trace_id AS traceID
            FROM logs WHERE {_IN} AND level IN ('warn', 'error', 'fatal')
            ORDER BY timestamp DESC LIMIT 500"""),
    ]  # fmt: skip


def _models() -> list[Panel]:
    return [
        _sql("Calls", "stat", 6, f"SELECT count() AS calls FROM spans WHERE {_CALLS}"),
        _sql("Tokens", "stat", 6,
             f"SELECT sum(input_tokens + output_tokens) AS tokens FROM spans WHERE {_CALLS}"),
        _sql("Cost", "stat", 6, f"SELECT sum(cost) AS cost FROM spans WHERE {_CALLS}",
             unit="currencyUSD"),
        _sql("Failed calls", "stat", 6, f"""
            SELECT countIf(status = 'error') / greatest(count(), 1) AS failed
            FROM spans WHERE {_CALLS}""", unit="percentunit"),
        _sql("Tokens by model", "timeseries", 12, f"""
            SELECT $__timeInterval(start_time) AS time, model, sum(input_tokens) AS input,
                sum(output_tokens) AS output
            FROM spans WHERE {_CALLS} GROUP BY time, model ORDER BY time""", bars=True),
        _sql("Cost by model", "timeseries", 12, f"""
            SELECT $__timeInterval(start_time) AS time, model, sum(cost) AS cost
            FROM spans WHERE {_CALLS} GROUP BY time, model ORDER BY time""",
             unit="currencyUSD", bars=True),
        _sql("Duration of calls (p95)", "timeseries", 12, f"""
            SELECT $__timeInterval(start_time) AS time, model, quantile(0.95)(duration_ns) AS p95
            FROM spans WHERE {_CALLS} GROUP BY time, model ORDER BY time""", unit="ns"),
        _sql("Tools", "table", 12, f"""
            SELECT tool, count() AS calls, countIf(status = 'error') AS failed,
                quantile(0.95)(duration_ns) AS p95
            FROM spans WHERE {_STARTED} AND tool != '' GROUP BY tool ORDER BY calls DESC LIMIT 50""",
             unit="ns"),
        _sql("Models and agents", "table", 24, f"""
            SELECT project, agent, provider, model, count() AS calls,
                sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
                sum(cost) AS cost, countIf(status = 'error') AS failed
            FROM spans WHERE {_CALLS} GROUP BY project, agent, provider, model
            ORDER BY calls DESC LIMIT 100"""),
    ]  # fmt: skip


def _loss() -> list[Panel]:
    return [
        _sql("Lines lost, as far as known", "stat", 8,
             f"SELECT sum(lines) AS lines FROM gaps WHERE {_IN} AND event = 'gap'"),
        _sql("Gaps", "stat", 8, f"SELECT count() AS gaps FROM gaps WHERE {_IN} AND event = 'gap'"),
        _sql("In quarantine", "stat", 8, """
            SELECT count() AS objects FROM quarantine FINAL
            WHERE status = 'open' AND project IN (${project:singlequote})"""),
        _sql("Gaps by cause", "timeseries", 24, f"""
            SELECT $__timeInterval(timestamp) AS time, cause, count() AS gaps
            FROM gaps WHERE {_IN} AND event = 'gap' GROUP BY time, cause ORDER BY time""", bars=True),
        _sql("Gaps", "table", 24, f"""
            SELECT timestamp, project, pod, container, cause, lines, bytes, message
            FROM gaps WHERE {_IN} AND event = 'gap' ORDER BY timestamp DESC LIMIT 200"""),
        _sql("Begun and not ended: running, or an open tail", "table", 24, f"""
            SELECT project, subject, any(pod) AS in_pod, min(timestamp) AS began
            FROM gaps WHERE {_IN} GROUP BY project, subject
            HAVING countIf(event = 'begin') > 0 AND countIf(event = 'end') = 0
            ORDER BY began LIMIT 200"""),
    ]  # fmt: skip


def _components() -> list[Panel]:
    ingester, gateway, collector = "spanyard_ingester_", "spanyard_gateway_", "spanyard_collector_"
    operator = "spanyard_operator_"
    return [
        _metric("Rows loaded per second", 8, f"sum(rate({ingester}rows_total[$__rate_interval]))"),
        _metric("Age of the oldest pending object", 8, f"max({ingester}backlog_oldest_seconds)",
                unit="s"),
        _metric("Pending bytes", 8, f"max({ingester}backlog_bytes)", unit="bytes"),
        _metric("Seen to loaded", 8, f"max({ingester}seen_to_loaded_seconds_p99)", unit="s",
                legend="p99"),
        _metric("Sent to quarantine per second", 8,
                f"sum(rate({ingester}bad_lines_total[$__rate_interval]))", legend="lines"),
        _metric("Batches refused or given up", 8,
                f"sum(rate({ingester}refused_attempts_total[$__rate_interval])"
                f" + rate({ingester}abandoned_attempts_total[$__rate_interval]))"),
        _metric("Requests to the gateway", 12,
                f"sum by (status) (rate({gateway}requests_total[$__rate_interval]))",
                legend="{{status}}"),
        _metric("Time to answer (p95)", 12,
                "histogram_quantile(0.95, sum by (le, route) "
                f"(rate({gateway}request_seconds_bucket[$__rate_interval])))",
                unit="s", legend="{{route}}"),
        _metric("Records collected per second", 8,
                f"sum by (signal) (rate({collector}records_total[$__rate_interval]))",
                legend="{{signal}}"),
        _metric("Largest spools", 8, f"topk(10, {collector}spool_bytes)", unit="bytes",
                legend="{{pod}}"),
        _metric("Lines lost per second", 8,
                f"sum by (cause) (rate({collector}gap_lines_total[$__rate_interval]))",
                legend="{{cause}}"),
        _metric("Operator: waiting keys", 8, f"max({operator}queue_length)"),
        _metric("Operator: reconciled per second", 8,
                f"sum by (kind, result) (rate({operator}reconciled_total[$__rate_interval]))",
                legend="{{kind}} {{result}}"),
        _metric("Builds by phase", 8, f"max by (phase) ({operator}builds)", legend="{{phase}}"),
    ]  # fmt: skip


def _sql(
    title: str, kind: str, width: int, query: str, *, unit: str = "short", bars: bool = False
) -> Panel:
    lines = [line.strip() for line in query.strip().splitlines()]
    shape = {"timeseries": (0, "timeseries"), "logs": (2, "logs")}.get(kind, (1, "table"))
    target = {
        "refId": "A",
        "datasource": {"type": CLICKHOUSE, "uid": "${datasource}"},
        "editorType": "sql",
        "format": shape[0],
        "queryType": shape[1],
        "rawSql": "\n".join(lines),
    }
    return _panel(title, kind, width, CLICKHOUSE, target, unit, bars=bars)


def _metric(title: str, width: int, query: str, *, unit: str = "short", legend: str = "") -> Panel:
    target = {
        "refId": "A",
        "datasource": {"type": PROMETHEUS, "uid": "${datasource}"},
        "expr": query,
        "legendFormat": legend or "__auto",
    }
    return _panel(title, "timeseries", width, PROMETHEUS, target, unit)


def _panel(
    title: str, kind: str, width: int, source: str, target: Panel, unit: str, *, bars: bool = False
) -> Panel:
    custom = (
        {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}} if bars else {}
    )
    defaults: Panel = {"unit": unit, "custom": custom}
    if kind == "table":  # only what is a duration has a unit there
        defaults = {"custom": {}}
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "unit", "value": unit}],
        }
        for name in ("duration", "p95")
        if kind == "table" and unit == "ns"
    ]
    return {
        "title": title,
        "type": kind,
        "datasource": {"type": source, "uid": "${datasource}"},
        "gridPos": {"w": width, "h": 4 if kind == "stat" else 9, "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": {},
        "targets": [target],
    }


def _dashboard(uid: str, title: str, source: str, panels: list[Panel]) -> dict[str, Any]:
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        place = panel["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        place["x"], place["y"] = x, y
        x, height = x + place["w"], max(height, place["h"])
        panel["id"] = number
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": source}
    ]
    if source == CLICKHOUSE:
        variables.append(
            {
                "name": "project",
                "label": "Project",
                "type": "query",
                "datasource": {"type": CLICKHOUSE, "uid": "${datasource}"},
                "query": "SELECT DISTINCT project FROM logs UNION DISTINCT "
                "SELECT DISTINCT project FROM spans",
                "refresh": 2,
                "multi": True,
                "includeAll": True,
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )
    return {
        "uid": uid,
        "title": title,
        "tags": ["spanyard"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": variables},
        "panels": panels,
    }
