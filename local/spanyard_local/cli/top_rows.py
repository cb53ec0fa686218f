"""The rows of `spanyard top`: what they are made of, how they are sorted and shown; pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spanyard_local.cli.formats import cost, duration, number
from spanyard_local.cli.tables import Cell, Column, Row

_Key = Callable[[Mapping[str, Any]], Any]
SORTS: dict[str, tuple[str, _Key]] = {
    "name": ("n", lambda row: row["id"]),
    "health": ("h", lambda row: row["healthy"]),
    "requests": ("r", lambda row: -row["requestsPerSecond"]),
    "errors": ("e", lambda row: -row["errorPercent"]),
    "p95": ("p", lambda row: -(row["p95Ns"] or 0)),
    "tokens": ("t", lambda row: -row["tokensPerSecond"]),
    "cost": ("c", lambda row: -row["cost"]),
    "lag": ("l", lambda row: -(row["lagNs"] or 0)),
    "restarts": ("s", lambda row: -row["restarts"]),
}
"""Name → its key on a terminal, and what is compared; the worst first."""
COLUMNS = (
    Column("DEPLOYMENT", flexible=True),
    Column("HEALTH", flexible=True),
    Column("REV", right=True, spare=7),
    Column("READY", right=True, spare=4),
    Column("REQ/S", right=True, spare=2),
    Column("ERRORS", right=True, spare=1),
    Column("P95", right=True, spare=3),
    Column("TOK/S", right=True, spare=8),
    Column("COST", right=True, spare=6),
    Column("LAG", right=True, spare=5),
    Column("RESTARTS", right=True, spare=9),
)


def figures(
    deployment: Mapping[str, Any], total: Mapping[str, Any] | None, seconds: float, lag: int | None
) -> dict[str, Any]:
    """What is shown of a deployment. `total`: of its traces in so many seconds; None: it had none."""
    status = (deployment.get("resource") or {}).get("status") or {}
    ready: Mapping[str, Any] = next(
        (c for c in status.get("conditions") or () if c.get("type") == "Ready"), {}
    )
    of = total or {}
    traces = int(of.get("traces", 0))
    tokens = int(of.get("inputTokens", 0)) + int(of.get("outputTokens", 0))
    return {
        "id": deployment["id"],
        "projectId": deployment["projectId"],
        "healthy": ready.get("status") == "True",
        "reason": str(status.get("reason") or ready.get("reason") or ""),
        "revision": int(status.get("revision", 0)),
        "replicas": int(status.get("replicas", 0)),
        "readyReplicas": int(status.get("readyReplicas", 0)),
        "requestsPerSecond": traces / seconds,
        "errorPercent": 100 * int(of.get("errors", 0)) / traces if traces else 0.0,
        "p95Ns": of.get("p95Ns"),
        "tokensPerSecond": tokens / seconds,
        "cost": float(of.get("cost", 0.0)),
        "lagNs": lag,
        "restarts": int(status.get("restarts", 0)),
    }


def ordered(rows: Iterable[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """By a key of SORTS, then by name."""
    return sorted(sorted(rows, key=lambda row: str(row["id"])), key=SORTS[sort][1])


def cells(row: Mapping[str, Any]) -> Row:
    """A row for people."""
    health = ("healthy", ("green",)) if row["healthy"] else (row["reason"] or "-", ("yellow",))
    errors = f"{row['errorPercent']:.1f}%" if row["requestsPerSecond"] else ""
    lag = row["lagNs"]
    return (
        str(row["id"]),
        Cell(*health),
        str(row["revision"] or ""),
        f"{row['readyReplicas']}/{row['replicas']}",
        f"{row['requestsPerSecond']:.2f}" if row["requestsPerSecond"] else "0",
        Cell(errors, ("red",)) if row["errorPercent"] else errors,
        duration(row["p95Ns"]),
        number(round(row["tokensPerSecond"], 1)) if row["tokensPerSecond"] else "",
        cost(row["cost"]),
        "" if lag is None else duration(lag) if lag else "0",
        Cell(str(row["restarts"]), ("yellow",)) if row["restarts"] else "0",
    )
