"""`spanyard metrics` and `spanyard scores`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from spanyard_local.cli import ids
from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import age, number, one_line, short
from spanyard_local.cli.parser import (
    Command,
    add_attributes,
    add_rows,
    add_times,
    asked_rows,
    filters,
)
from spanyard_local.cli.tables import Cell, Column, Row
from spanyard_local.server_client import ServerError

DEFAULT_POINTS = 20
_OVERVIEW = (
    "SELECT name, kind, any(unit) AS unit, uniqExact(series) AS series, count() AS points,"
    " argMax(value, timestamp) AS value,"
    " formatDateTime(max(timestamp), '%Y-%m-%dT%H:%i:%SZ', 'UTC') AS last"
    " FROM metrics WHERE project = {project:String} GROUP BY name, kind ORDER BY name, kind"
)


def _metrics_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", help="the project, with or without its namespace")
    parser.add_argument("name", nargs="?", help="show the points of this metric")
    add_times(parser)
    add_rows(parser, DEFAULT_POINTS)
    parser.add_argument("--deployment", metavar="NAME", help="of this deployment")
    parser.add_argument("--service", metavar="NAME", help="of this OpenTelemetry service")
    add_attributes(parser)


def _metrics(context: Context) -> int:
    given, now = context.given, context.now_ns
    project = ids.project_id(context, given.project)
    if given.name is None:
        return _overview(context, project)
    params = filters(given, "name", "deployment", "service")
    where = f"/projects/{ids.path(project)}/metrics"
    found = context.client.pages(where, params, most=asked_rows(given, DEFAULT_POINTS))
    columns = (
        Column("AGE", right=True),
        Column("KIND"),
        Column("VALUE", right=True),
        Column("COUNT", right=True),
        Column("UNIT"),
        Column("ATTRIBUTES", flexible=True),
        Column("TRACE"),
    )

    def row(point: dict[str, Any]) -> Row:
        return (
            age(point["timestamp"], now),
            point["kind"],
            number(point["value"]),
            number(point["count"]) if point["kind"] == "histogram" else "",
            point["unit"],
            _attributes(point["attributes"]),
            short(point["traceId"]),
        )

    empty = (
        f"no point of {given.name!r} matches; `spanyard metrics {given.project}` lists the names"
    )
    return context.show(found, columns, row, empty=empty)


def _overview(context: Context, project: str) -> int:
    now = context.now_ns
    found = _summed_up(context, project)
    columns = (
        Column("METRIC", flexible=True),
        Column("KIND"),
        Column("UNIT"),
        Column("SERIES", right=True),
        Column("POINTS", right=True),
        Column("LAST VALUE", right=True),
        Column("AGE", right=True),
    )

    def row(metric: dict[str, Any]) -> Row:
        return (
            metric["name"],
            metric["kind"],
            metric["unit"],
            number(int(metric["series"])),
            number(int(metric["points"])),
            number(metric["value"]) if metric["value"] is not None else "",
            age(metric["last"], now),
        )

    return context.show(found, columns, row, empty=f"{project} has no metrics yet")


def _summed_up(context: Context, project: str) -> list[dict[str, Any]]:
    """A row per metric."""
    try:
        asked = {"query": _OVERVIEW, "params": {"project": project}}
        rows: list[dict[str, Any]] = context.client.post("/sql", asked)["data"]
    except ServerError as error:
        if error.status != ids.FORBIDDEN:
            raise
    else:
        return rows
    # SQL sees all tenants, and so not everybody may ask it.
    where = f"/projects/{ids.path(project)}/metrics"
    points = list(context.client.pages(where, most=ids.NEWEST))
    if len(points) == ids.NEWEST:
        context.note(
            f"of the newest {ids.NEWEST:,} points: to count all takes the right to ask SQL"
        )
    return summary(points)


def summary(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the overview says, of points that come the newest first."""
    metrics: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for point in points:
        metrics.setdefault((str(point["name"]), str(point["kind"])), []).append(point)
    return [
        {
            "name": name,
            "kind": kind,
            "unit": found[0]["unit"],
            "series": len({json.dumps(one["attributes"], sort_keys=True) for one in found}),
            "points": len(found),
            "value": found[0]["value"],
            "last": found[0]["timestamp"],
        }
        for (name, kind), found in sorted(metrics.items())
    ]


def _attributes(found: Any) -> str:
    if not isinstance(found, dict):
        return ""
    return one_line(" ".join(f"{key}={value}" for key, value in sorted(found.items())))


def _scores_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", help="the project, with or without its namespace")
    add_times(parser)
    add_rows(parser, DEFAULT_POINTS)
    parser.add_argument("--name", help="of this name")
    parser.add_argument("--min", metavar="NUMBER", type=float, help="not below this")
    parser.add_argument("--max", metavar="NUMBER", type=float, help="not above this")
    parser.add_argument("--trace", metavar="ID", help="of this trace")
    add_attributes(parser)


def _scores(context: Context) -> int:
    given, now = context.given, context.now_ns
    project = ids.project_id(context, given.project)
    params: dict[str, Any] = dict(filters(given, "name"))
    params |= {"minValue": given.min, "maxValue": given.max}
    if given.trace:
        params["traceId"] = ids.trace_of(context, given.trace)[0]
    where = f"/projects/{ids.path(project)}/scores"
    found = context.client.pages(where, params, most=asked_rows(given, DEFAULT_POINTS))
    columns = (
        Column("AGE", right=True),
        Column("SCORE"),
        Column("VALUE", right=True),
        Column("TRACE"),
        Column("COMMENT", flexible=True),
    )

    def row(score: dict[str, Any]) -> Row:
        return (
            age(score["timestamp"], now),
            score["name"],
            Cell(number(score["value"])),
            short(score["traceId"]),
            one_line(score["comment"]),
        )

    return context.show(found, columns, row, empty="no score matches; leave out a filter")


COMMANDS = [
    Command(
        name="metrics",
        help="list metrics of a project, or points of one",
        description="Without a name: which metrics a project has, with their last values. With one: "
        "its points, the newest first.",
        examples=(
            ("spanyard metrics support", "names, kinds, last values"),
            ("spanyard metrics support requests -n 5", "the newest points of one"),
            ("spanyard metrics support latency --since 1h -o jsonl", "for a script"),
        ),
        arguments=_metrics_arguments,
        run=_metrics,
    ),
    Command(
        name="scores",
        help="list scores of a project",
        description="Lists judgements of traces and spans, the newest first.",
        examples=(
            ("spanyard scores support", "the newest 20"),
            (
                "spanyard scores support --name helpful --max 0.5",
                "bad ones, to look at their traces",
            ),
        ),
        arguments=_scores_arguments,
        run=_scores,
    ),
]
