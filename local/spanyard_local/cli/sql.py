"""`spanyard sql`: ask in SQL, reading only."""

import argparse
import json
import sys
from typing import Any

from spanyard_local.cli.context import Context
from spanyard_local.cli.formats import number
from spanyard_local.cli.parser import OK, USAGE, Command, pair
from spanyard_local.cli.tables import Column, print_table

_FORMATS = {"jsonl": "JSONEachRow", "csv": "CSVWithNames", "tsv": "TabSeparatedWithNames"}
_NUMBERS = ("Int", "UInt", "Float", "Decimal")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="one statement that only reads; '-' takes it from the input")
    parser.add_argument(
        "--param",
        type=pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="fills {NAME:Type} in the query; may be repeated",
    )


def _run(context: Context) -> int:
    given = context.given
    query = sys.stdin.read() if given.query == "-" else given.query
    if not query.strip():
        context.note("spanyard: the query is empty")
        return USAGE
    body = {"query": query, "params": dict(given.param)}
    body["format"] = _FORMATS.get(context.output, "JSON")
    with context.client.stream("/sql", body=body) as (headers, blocks):
        form = headers.get("X-ClickHouse-Format", "JSON")
        if form != "JSON" or context.output in _FORMATS:
            for block in blocks:
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return OK
        answer = json.loads(b"".join(blocks))
    if context.output == "json":
        context.json(answer["data"])
    else:
        _table(context, answer)
    return OK


def _table(context: Context, answer: dict[str, Any]) -> None:
    columns = [
        Column(c["name"], right=_is_number(c["type"]), flexible=not _is_number(c["type"]))
        for c in answer["meta"]
    ]
    names = [c["name"] for c in answer["meta"]]
    rows = [[_cell(row[name]) for name in names] for row in answer["data"]]
    if columns:
        print_table(context.terminal, columns, rows, keep_empty=True)
    count = len(rows)
    seconds = (answer.get("statistics") or {}).get("elapsed")
    took = f" in {seconds:.3f} s" if isinstance(seconds, float) else ""
    if context.terminal.live:
        context.note(f"{number(count)} row{'' if count == 1 else 's'}{took}")


def _is_number(kind: str) -> bool:
    for wrapper in ("LowCardinality(", "Nullable("):
        kind = kind.removeprefix(wrapper)
    return kind.startswith(_NUMBERS)


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


COMMANDS = [
    Command(
        name="sql",
        help="ask in SQL (reading only)",
        description="Runs one statement that only reads (SELECT, WITH, SHOW, DESCRIBE, EXISTS, "
        "EXPLAIN) over the stored records. Tables: logs, spans, traces, metrics, scores, and views "
        "with OpenTelemetry's names (otel_logs, otel_traces, …).",
        examples=(
            ("spanyard sql 'SHOW TABLES'", "what there is"),
            ("spanyard sql 'SELECT level, count() FROM logs GROUP BY level'", "a table"),
            (
                "spanyard sql 'SELECT * FROM spans WHERE name = {n:String}' --param n=chat -o csv",
                "a value that is bound",
            ),
            ("spanyard sql - -o jsonl < query.sql", "from a file, row by row"),
        ),
        arguments=_arguments,
        run=_run,
        outputs=("table", "json", "jsonl", "csv", "tsv"),
        exits="0 done, 2 the statement is wrong or may not run, 3 no gateway answers",
    )
]
