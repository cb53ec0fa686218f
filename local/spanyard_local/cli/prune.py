"""`spanyard prune`: retention on demand, of records and of finished builds."""

import argparse
from typing import Any

from spanyard_core.errors import SettingError
from spanyard_local.cli import ids
from spanyard_local.cli.build_log import FINISHED, phase_of
from spanyard_local.cli.context import Context, NotThereError
from spanyard_local.cli.formats import number, parse_time, size
from spanyard_local.cli.parser import OK, Command
from spanyard_local.cli.resources import confirmed
from spanyard_local.cli.tables import Column, print_table

SIGNALS = ("logs", "spans", "traces", "metrics", "scores")
TIMEOUT_S = 620.0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", nargs="*", help="of these projects; all without one")
    parser.add_argument(
        "--older-than", required=True, metavar="TIME", help="collected before: 30d, 12h, or a time"
    )
    parser.add_argument(
        "--signal", choices=SIGNALS, action="append", default=[],
        help="only these records, no builds; may be repeated",
    )  # fmt: skip
    parser.add_argument("--no-builds", action="store_true", help="records only")
    parser.add_argument("--dry-run", action="store_true", help="count, delete nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _run(context: Context) -> int:
    given, before = context.given, _before(context)
    projects = [ids.project_id(context, name) for name in given.project]
    if not projects:
        projects = [str(p["id"]) for p in context.client.pages("/projects")]
    builds = [] if given.no_builds or given.signal else _old_builds(context, projects, before)
    found = {name: _prune(context, name, before, dry_run=True) for name in projects}
    if given.dry_run:
        return _tell(context, found, builds)
    rows = sum(sum(f["rows"].values()) for f in found.values())
    objects = sum(f["objects"] for f in found.values())
    if not rows and not objects and not builds:
        context.note("there is nothing that old")
        return _tell(context, found, builds) if context.output == "json" else OK
    question = (
        f"Delete {number(rows)} rows, {number(objects)} objects and {number(len(builds))} builds "
        f"of {', '.join(projects)} for ever?"
    )
    if not given.yes and not confirmed(question):
        raise NotThereError("nothing deleted; say --yes where nobody can be asked")
    for build in builds:
        context.client.delete(f"/builds/{ids.path(build)}")
    done = {}
    for name in projects:
        if context.errors.live:
            context.errors.status(f"deleting what is old of {name} …")
        done[name] = _prune(context, name, before, dry_run=False)
    if context.errors.live:
        context.errors.end_status()
    return _tell(context, done, builds)


def _prune(context: Context, project: str, before: int, *, dry_run: bool) -> dict[str, Any]:
    client = context.client.patient(TIMEOUT_S)
    from spanyard_core.clock import rfc3339

    body = {
        "olderThan": rfc3339(before),
        "signals": context.given.signal,
        "dryRun": dry_run,
    }
    found: dict[str, Any] = client.post(f"/projects/{ids.path(project)}/prune", body)
    return found


def _old_builds(context: Context, projects: list[str], before: int) -> list[str]:
    """Finished builds that are older, and that no deployment runs or could be rolled back to."""
    client = context.client
    used = set()
    for item in client.pages("/deployments"):
        resource = item.get("resource") or {}
        status, spec = resource.get("status") or {}, resource.get("spec") or {}
        namespace = str(item["id"]).partition(".")[0]
        names = [r.get("build") for r in status.get("revisions") or []]
        names += [status.get("build"), (spec.get("buildRef") or {}).get("name")]
        used |= {f"{namespace}.{name}" for name in names if name}
    for item in client.pages("/projects"):
        latest = ((item.get("resource") or {}).get("status") or {}).get("latestBuild")
        if latest:
            used.add(f"{str(item['id']).partition('.')[0]}.{latest}")
    old = []
    for item in client.pages("/builds"):
        resource = item.get("resource") or {}
        project = f"{item['id'].partition('.')[0]}.{(resource.get('spec') or {}).get('project')}"
        finished = parse_time(str((resource.get("status") or {}).get("finishedAt", "")))
        if (
            phase_of(item) in FINISHED
            and project in projects
            and finished is not None
            and finished < before
            and item["id"] not in used
        ):
            old.append(str(item["id"]))
    return old


def _before(context: Context) -> int:
    from spanyard_core.resources.durations import seconds

    text = context.given.older_than
    when = parse_time(text)
    if when is not None:
        return when
    try:
        return context.now_ns - int(seconds(text) * 10**9)
    except ValueError as error:
        raise SettingError(
            f"older-than: {text!r} is neither a duration such as 30d nor a time such as "
            "2026-11-21T14:45:00Z"
        ) from error


def _tell(context: Context, found: dict[str, dict[str, Any]], builds: list[str]) -> int:
    given = context.given
    if context.output == "json":
        context.json({"dryRun": given.dry_run, "projects": found, "builds": builds})
        return OK
    tables = [
        t for t in (*SIGNALS, "gaps", "quarantine") if any(t in f["rows"] for f in found.values())
    ]
    columns = [
        Column("PROJECT"),
        *(Column(t.upper(), right=True) for t in tables),
        Column("OBJECTS", right=True),
        Column("SIZE", right=True),
        Column("SOURCES", right=True),
        Column("STAY", right=True),
    ]
    rows = [
        [
            name,
            *(number(f["rows"].get(t, 0)) for t in tables),
            number(f["objects"]),
            size(f["size"]),
            number(f["writers"]),
            number(f["running"] + f["waiting"]),
        ]
        for name, f in found.items()
    ]
    if rows:
        print_table(context.terminal, columns, rows)
    for build in builds:
        context.terminal.print(f"build {build}")
    if any(f["running"] + f["waiting"] for f in found.values()):
        context.note(
            "STAY: old enough, but not ended or not loaded yet; a source goes whole or not"
        )
    context.note("this is what would go; nothing was deleted" if given.dry_run else "deleted")
    return OK


COMMANDS = [
    Command(
        name="prune",
        help="delete records and builds that are old",
        description="Deletes records that were collected before a time, with their objects in the "
        "bucket, and finished builds that nothing runs. A source of records (a run of a container, "
        "a span file) goes whole, when all of it is old and it has ended, so that `spanyard "
        "verify` still proves the rest. Asks first, unless --yes says not to.",
        examples=(
            ("spanyard prune --older-than 30d --dry-run", "what would go?"),
            ("spanyard prune support --older-than 7d --signal logs", "logs of one project"),
            ("spanyard prune --older-than 30d --yes", "for a nightly job"),
        ),
        arguments=_arguments,
        run=_run,
        outputs=("table", "json"),
    )
]
