"""The tables of settings in `docs/configuration.md`, generated from the settings classes (`make docs`).

A table stands between `<!-- settings: package.module:Class -->` and `<!-- end -->`; the document
says which classes it describes, so core need not know the components.
"""

import importlib
import re
import sys
from pathlib import Path

from spanyard_core.settings import Setting, settings_of

_REGION = re.compile(r"(<!-- settings: ([\w.]+):(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def described(document: str) -> set[tuple[str, str]]:
    """Module and class of each table."""
    return {(match[2], match[3]) for match in _REGION.finditer(document)}


def table(settings_class: type) -> str:
    """The settings of a class as Markdown, in their groups."""
    fields = settings_of(settings_class)
    lines: list[str] = []
    groups = dict.fromkeys(field.group for field in fields)
    for group in groups:
        if len(groups) > 1:
            lines += ["", f"**{group[0].upper()}{group[1:]}**" if group else "**Other**"]
        lines += ["", "| variable, flag | default | |", "|---|---|---|"]
        lines += [_row(field) for field in fields if field.group == group]
    return "\n".join(lines) + "\n\n"


def _row(field: Setting) -> str:
    if field.required:
        default = "*required*"
    else:
        shown = field.show(field.default)
        default = f"`{shown}`" if shown else "none"
    limits = f" ({field.limits})" if field.limits else ""
    secret = " Never printed." if field.secret else ""
    first, _, rest = field.help.partition(" ")
    start = first.capitalize() if first.isalpha() else first  # `chdb:///…` stays as it is
    text = f"{start} {rest}{limits}.{secret}".replace("|", "\\|")
    return f"| `{field.variable}`<br>`{field.flag}` | {default} | {text} |"


def refreshed(document: str) -> str:
    """The document with all its tables made anew."""

    def again(match: re.Match[str]) -> str:
        settings_class = getattr(importlib.import_module(match[2]), match[3])
        return match[1] + table(settings_class) + match[4]

    return _REGION.sub(again, document)


def main(path: str) -> None:
    """Refresh the document in place."""
    file = Path(path)
    file.write_text(refreshed(file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
