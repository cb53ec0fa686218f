"""`docs/cli.md`: the reference of all commands, made of their parsers (`make docs`)."""

import argparse
import sys
from pathlib import Path

HEAD = """# Commands

`spanyard COMMAND --help` says what stands here. This page is made of the parsers: `make docs`.

Commands that ask a gateway take the first of these: the cluster of `--context NAME`; `--server URL`;
what runs on `--data DIR`; the variable `SPANYARD_SERVER`; the `spanyard up` or `spanyard demo` that
runs on a data folder (`.spanyard`, `.demo`) of this folder or a parent; the cluster of
`spanyard login`; `http://127.0.0.1:8080`. Working with a cluster is told in
[cluster-cli.md](cluster-cli.md).

A project is named with or without its namespace (`support`, `local.support`), a trace by the
beginning of its id, a build or deployment with or without its namespace; `--namespace` says which
one is meant. Tables are for people:
colours and cut columns on a terminal only, never where `NO_COLOR` is set; scripts take `-o json` (one
document) or `-o jsonl` (a line per item, as it comes).
"""


def reference() -> str:
    """The page."""
    from spanyard_local.command_line import command_parser

    parser = command_parser()
    [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parts = [HEAD, "| command | |\n|---|---|"]
    helps = {action.dest: str(action.help) for action in commands._choices_actions}
    parts[-1] += "".join(
        f"\n| [`{name}`](#spanyard-{name}) | {helps[name]} |" for name in commands.choices
    )
    parts += [_section(name, child) for name, child in commands.choices.items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"## spanyard {name}", "", " ".join((parser.description or "").split()), ""]
    rows = [_row(action) for action in parser._actions if action.dest != "help"]
    if rows:
        lines += ["| argument, option | |", "|---|---|", *rows, ""]
    examples, _, codes = (parser.epilog or "").partition("Exit codes:")
    if examples.strip():
        lines += ["```text", *(x[2:] for x in examples.strip().splitlines()[1:]), "```", ""]
    if codes:
        lines.append("Exit codes: " + " ".join(codes.split()))
    return "\n".join(lines)


def _row(action: argparse.Action) -> str:
    value = ""
    if action.nargs != 0:
        if isinstance(action.metavar, str):
            value = action.metavar
        elif action.choices is not None:
            value = ", ".join(str(choice) for choice in action.choices)
        else:
            value = action.dest.upper()
    if action.option_strings:
        name = ", ".join(f"`{option}`" for option in action.option_strings)
        name += f" `{value}`" if value and not action.choices else ""
        listed = f" ({value})" if value and action.choices else ""
    else:
        name = f"`{action.dest}`"
        listed = f" ({value})" if action.choices else ""
    text = ((action.help or "") + listed).replace("|", "\\|").replace("%%", "%")
    return f"| {name} | {text} |"


def main(path: str) -> None:
    """Write the page."""
    Path(path).write_text(reference(), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
