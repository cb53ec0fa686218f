"""The table of fields in docs/search.md: `python -m spanyard_gateway.search.docs docs/search.md`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from spanyard_gateway.search.fields import LOGS, SPANS, TRACES

BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"
_SCOPES = {"own": "its root", "any": "any span", "sum": "sum"}


def table() -> str:
    """A row per field: of which signal, and what it is."""
    rows = ["| field | lines | spans | traces | is |", "|---|---|---|---|---|"]
    for name in dict.fromkeys([*LOGS, *SPANS, *TRACES]):
        if not name:
            continue
        field = LOGS.get(name) or SPANS.get(name) or TRACES[name]
        of_trace = _SCOPES[TRACES[name].scope] if name in TRACES else ""
        choices = ", ".join(f"`{choice}`" for choice in field.choices)
        rows.append(
            f"| `{name}` | {'•' if name in LOGS else ''} | {'•' if name in SPANS else ''}"
            f" | {of_trace} | {field.what}{': ' * bool(choices)}{choices} |"
        )
    return "\n".join(rows)


def with_table(text: str) -> str:
    """The page with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(argv: Sequence[str]) -> None:
    """Write it into the page."""
    page = Path(argv[0])
    page.write_text(with_table(page.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
