"""`spanyard verify`: the proof that nothing is missing, per writer, with an exit code."""

import json
from typing import Any
from urllib.parse import quote

from spanyard_local.cli.ids import pick
from spanyard_local.server_client import ServerClient, not_a_gateway
from spanyard_local.terminal import Terminal, count, printable

COMPLETE, LOST, USAGE, NOT_YET = 0, 1, 2, 3
"""Exit codes: all proven; something is lost or doubled; wrong usage; open or pending writers."""


def fetch_proof(client: ServerClient, project: str | None) -> dict[str, Any]:
    """The proof of a project, or of everything. Raises ServerError."""
    path = f"/projects/{quote(project, safe='')}/proof" if project is not None else "/proof"
    proof = client.get(path)
    if not isinstance(proof, dict) or not {"totals", "writers", "gaps"} <= proof.keys():
        raise not_a_gateway(client.address)
    return proof


def verdict(proof: dict[str, Any]) -> int:
    """The exit code that a proof deserves."""
    totals = proof["totals"]
    if totals["missing"] or totals["doubled"] or totals["gaps"]:
        return LOST
    if totals["pending"] or totals["open"]:
        return NOT_YET
    return COMPLETE


def print_proof(terminal: Terminal, proof: dict[str, Any], *, whole: bool) -> None:
    """A table per writer (the troubled ones only, unless `whole`), gaps, a sentence."""
    writers = proof["writers"]
    shown = [w for w in writers if whole or _troubled(w)]
    if shown:
        terminal.table(
            (
                "WRITER",
                "SIGNAL",
                "STATE",
                "EXPECTED",
                "STORED",
                "QUARANTINED",
                "PENDING",
                "MISSING",
                "DOUBLED",
                "GAPS",
            ),
            [
                (
                    w["writer"],
                    w["signal"],
                    w["state"],
                    w["expected"],
                    w["stored"],
                    w["quarantined"],
                    w["pending"],
                    w["missing"],
                    w["doubled"],
                    w["gaps"],
                )
                for w in shown
            ],
        )
        terminal.print()
    for gap in proof["gaps"]:
        lost = [
            count(gap[k], k[:-1]) if gap[k] is not None else f"an unknown number of {k}"
            for k in ("lines", "bytes")
        ]
        terminal.print(
            terminal.style("lost", "red")
            + printable(
                f"  {gap['writer']} after record {gap['afterSeq']}: {gap['cause']}, "
                f"{lost[0]}, {lost[1]}. {gap['message']}"
            )
        )
    totals = proof["totals"]
    terminal.print(
        f"{count(totals['writers'], 'writer')}: {totals['expected']:,} records expected, "
        f"{totals['stored']:,} stored, {totals['quarantined']:,} quarantined, "
        f"{totals['missing']:,} missing, {totals['doubled']:,} doubled, "
        f"{totals['pending']:,} pending, {count(totals['gaps'], 'gap')}, {totals['open']:,} open"
    )
    code = verdict(proof)
    if code == COMPLETE:
        terminal.print(terminal.style("Complete: every record is stored once.", "green", "bold"))
    elif code == LOST:
        terminal.print(
            terminal.style("Not complete: something was lost or doubled, see above.", "red", "bold")
        )
    else:
        terminal.print(
            terminal.style(
                "Nothing lost so far; what is open or pending is not proven yet.", "yellow", "bold"
            )
        )


def _troubled(writer: dict[str, Any]) -> bool:
    return bool(
        writer["missing"]
        or writer["doubled"]
        or writer["gaps"]
        or writer["pending"]
        or writer["quarantined"]
        or writer["state"] == "open"
    )


def verify(
    client: ServerClient, project: str | None, *, whole: bool, output: str, terminal: Terminal
) -> int:
    """Print the proof; returns the exit code. Raises ServerError, NotThereError."""
    if project is not None and "." not in project:
        known = [str(item["id"]) for item in client.pages("/projects")]
        project = pick(project, known, "project")
    proof = fetch_proof(client, project)
    if output == "json":
        terminal.print(json.dumps(proof, indent=2))
    else:
        print_proof(terminal, proof, whole=whole)
    return verdict(proof)
