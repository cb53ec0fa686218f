"""`spanyard projects`, `builds`, `deployments`, `cancel`, `delete`: what is declared, and how it is."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spanyard_local.cli import ids
from spanyard_local.cli.context import Context, NotThereError
from spanyard_local.cli.formats import age, between, number, one_line
from spanyard_local.cli.parser import OK, Command
from spanyard_local.cli.tables import Cell, Column, Row
from spanyard_local.terminal import Terminal, printable

PLURALS = {"project": "projects", "build": "builds", "deployment": "deployments"}
_PHASES = {
    "Succeeded": ("green",),
    "Failed": ("red",),
    "Building": ("yellow",),
    "Cancelled": ("dim",),
    "Queued": ("dim",),
}


def _status(item: Mapping[str, Any]) -> dict[str, Any]:
    return (item.get("resource") or {}).get("status") or {}


def _spec(item: Mapping[str, Any]) -> dict[str, Any]:
    return (item.get("resource") or {}).get("spec") or {}


def _made(item: Mapping[str, Any]) -> str:
    return str(((item.get("resource") or {}).get("metadata") or {}).get("creationTimestamp", ""))


def _of_namespace(context: Context, items: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Those of `--namespace`, where it was given."""
    start = context.named_namespace and f"{context.named_namespace}."
    return (item for item in items if str(item["id"]).startswith(start))


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def _projects(context: Context) -> int:
    now = context.now_ns
    columns = (
        Column("PROJECT"),
        Column("RECORDS", right=True),
        Column("FIRST DAY"),
        Column("LAST DAY"),
        Column("LATEST BUILD"),
        Column("DEPLOYMENTS", right=True),
        Column("AGE", right=True),
    )

    def row(project: dict[str, Any]) -> Row:
        status = _status(project)
        return (
            project["id"],
            number(project["records"]),
            project["firstDay"] or "",
            project["lastDay"] or "",
            status.get("latestBuild", ""),
            str(status.get("deployments", "")),
            age(_made(project), now),
        )

    return context.show(
        _of_namespace(context, context.client.pages("/projects")),
        columns,
        row,
        empty="there is no project yet; `spanyard up PATH` makes one",
    )


# --- builds ------------------------------------------------------------------------------------


def _builds_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", nargs="?", help="of this project alone")
    parser.add_argument("--phase", metavar="PHASE", help="queued, building, succeeded, failed, …")


def _builds(context: Context) -> int:
    given, now = context.given, context.now_ns
    project = ids.project_id(context, given.project) if given.project else None
    found = list(_of_namespace(context, context.client.pages("/builds", {"project": project})))
    if given.phase:
        found = [b for b in found if _phase(b).lower() == given.phase.lower()]
    found.sort(key=lambda b: (_made(b), b["id"]), reverse=True)
    columns = (
        Column("BUILD", flexible=True),
        Column("PROJECT", flexible=True),
        Column("PHASE"),
        Column("STEP"),
        Column("TOOK", right=True),
        Column("AGE", right=True),
        Column("COMMIT", flexible=True, spare=1),
        Column("WHY", flexible=True),
    )

    def row(build: dict[str, Any]) -> Row:
        status, phase = _status(build), _phase(build)
        failure = status.get("failure") or {}
        return (
            build["id"],
            _project(build),
            Cell(phase, _PHASES.get(phase, ())),
            failure.get("step") or status.get("step", ""),
            between(status.get("startedAt"), status.get("finishedAt"), now),
            age(_made(build), now),
            _commit(status.get("source") or {}),
            one_line(failure.get("message") or status.get("message", "")),
        )

    return context.show(
        found, columns, row, empty="there is no build; `spanyard deploy PATH` makes one"
    )


def _commit(source: Mapping[str, Any]) -> str:
    """The beginning of its id, and its subject."""
    commit, dash, dirty = str(source.get("commit", "")).partition("-")
    return one_line(f"{commit[:12]}{dash}{dirty} {source.get('subject', '')}").strip()


def _project(build: Mapping[str, Any]) -> str:
    project = _spec(build).get("project", "")
    return f"{build['id'].partition('.')[0]}.{project}" if project else ""


def _phase(build: Mapping[str, Any]) -> str:
    """Of what is only known by its log in storage: whether that is whole."""
    if not build.get("resource"):
        return "log whole" if build["complete"] else "log in parts"
    return str(_status(build).get("phase", "Queued"))


# --- deployments -------------------------------------------------------------------------------


def _deployments_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", nargs="?", help="of this project alone")


def _deployments(context: Context) -> int:
    given, now = context.given, context.now_ns
    project = ids.project_id(context, given.project) if given.project else None
    columns = (
        Column("DEPLOYMENT", flexible=True),
        Column("PROJECT", flexible=True),
        Column("READY"),
        Column("REV", right=True),
        Column("BUILD", flexible=True),
        Column("RESTARTS", right=True),
        Column("LOGS", right=True),
        Column("ADDRESS"),
        Column("AGE", right=True),
        Column("STATUS", flexible=True),
    )

    def row(found: dict[str, Any]) -> Row:
        status, spec = _status(found), _spec(found)
        wanted = 0 if spec.get("suspend") else spec.get("replicas", 1)
        ready = status.get("readyReplicas", 0)
        declared = bool(found.get("resource"))
        styles = ("green",) if ready >= wanted else ("red",)
        failure = status.get("failure") or {}
        return (
            found["id"],
            found["projectId"],
            Cell(f"{ready}/{wanted}", styles) if declared else "",
            str(status.get("revision") or ""),
            status.get("build", ""),
            str(status.get("restarts") or ""),
            number(found["logs"]) if found["logs"] is not None else "",
            status.get("endpoint", ""),
            age(_made(found) or found["firstSeen"], now),
            one_line(failure.get("message") or status.get("message", "")),
        )

    return context.show(
        _of_namespace(context, context.client.pages("/deployments", {"project": project})),
        columns,
        row,
        empty="there is no deployment; `spanyard deploy PATH` makes one",
    )


# --- one of them -------------------------------------------------------------------------------


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=tuple(PLURALS), help="project, build or deployment")
    parser.add_argument("name", help="its id, with or without the namespace")


def _id(context: Context) -> tuple[str, str]:
    plural = PLURALS[context.given.kind]
    if plural == "projects":
        return plural, ids.project_id(context, context.given.name)
    return plural, ids.qualified(context, context.given.name, plural)


def _show(context: Context) -> int:
    plural, name = _id(context)
    found = context.client.get(f"/{plural}/{ids.path(name)}")
    if context.output == "json":
        context.json(found)
        return OK
    terminal, now = context.terminal, context.now_ns
    terminal.print(terminal.style(f"{context.given.kind} {name}", "bold"))
    if not found.get("resource"):
        for key, value in found.items():
            if value not in (None, [], "") and key != "id":
                terminal.print(f"  {key}: {printable(str(value))}")
    for title, part in (("spec", _spec(found)), ("status", _status(found))):
        shown = {k: v for k, v in part.items() if k not in {"failure", "conditions"}}
        for key, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            terminal.print(f"  {title}.{key}: {printable(one_line(text))}")
    print_failure(terminal, terminal.print, _status(found).get("failure"))
    for event in found["events"]:
        styles = ("yellow",) if event["type"] == "Warning" else ("dim",)
        times = f" (x{event['count']})" if event.get("count", 1) > 1 else ""
        terminal.print(
            f"  {age(event['time'], now):>4} ago  {terminal.style(event['reason'], *styles)}  "
            + printable(one_line(event["message"]))
            + times
        )
    return OK


def print_failure(
    terminal: Terminal, say: Callable[[str], None], failure: Mapping[str, Any] | None
) -> None:
    """Why something failed, the end of the log, and what to do."""
    if not failure:
        return
    step = f" in step {failure['step']}" if failure.get("step") else ""
    what = terminal.style(f"{failure['reason']}{step}", "red", "bold")
    say(f"{what}: {printable(one_line(failure['message']))}")
    for line in failure.get("lastLines") or []:
        say(terminal.style("  | ", "dim") + printable(line))
    if failure.get("remedy"):
        say("  " + printable(one_line(failure["remedy"])))


def _address_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("deployment", help="the deployment, with or without its namespace")


def _address(context: Context) -> int:
    name = ids.qualified(context, context.given.deployment, "deployments")
    found = context.client.get(f"/deployments/{ids.path(name)}")
    endpoint = _status(found).get("endpoint")
    if not endpoint:
        raise NotThereError(
            f"{name} serves nowhere yet; `spanyard show deployment {name}` says why"
        )
    context.terminal.print(endpoint)
    return OK


def _cancel_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("build", help="the build, with or without its namespace")


def _cancel(context: Context) -> int:
    name = ids.qualified(context, context.given.build, "builds")
    context.client.post(f"/builds/{ids.path(name)}/cancel", {})
    context.terminal.print(f"build {name} is being cancelled")
    return OK


def _delete(context: Context) -> int:
    plural, name = _id(context)
    if not context.given.yes and not confirmed(f"Delete {context.given.kind} {name}?"):
        raise NotThereError("not deleted; say --yes where nobody can be asked")
    context.client.delete(f"/{plural}/{ids.path(name)}")
    context.terminal.print(f"{context.given.kind} {name} is being deleted")
    return OK


def confirmed(question: str) -> bool:
    """Ask at a terminal; elsewhere nobody can be asked, and the answer is no."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _delete_arguments(parser: argparse.ArgumentParser) -> None:
    _show_arguments(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


COMMANDS = [
    Command(
        name="projects",
        help="list projects",
        description="Lists projects: those that are declared and those that have records.",
        examples=(
            ("spanyard projects", "all of them"),
            ("spanyard projects -o json", "for a script"),
        ),
        arguments=_no_arguments,
        run=_projects,
    ),
    Command(
        name="builds",
        help="list builds",
        description="Lists builds, the newest first, with their phase and, of those that failed, "
        "why.",
        examples=(
            ("spanyard builds", "of all projects"),
            ("spanyard builds support --phase failed", "what failed in one"),
        ),
        arguments=_builds_arguments,
        run=_builds,
    ),
    Command(
        name="deployments",
        help="list deployments",
        description="Lists deployments: how many replicas are ready, which build serves, and where.",
        examples=(
            ("spanyard deployments", "of all projects"),
            ("spanyard deployments support -o json", "of one, for a script"),
        ),
        arguments=_deployments_arguments,
        run=_deployments,
    ),
    Command(
        name="show",
        help="show a project, build or deployment with its events",
        description="Shows what is declared of one project, build or deployment, its status, what "
        "went wrong and what happened to it.",
        examples=(
            ("spanyard show build support-3", "why did it fail?"),
            ("spanyard show deployment support", "what happened to it?"),
        ),
        arguments=_show_arguments,
        run=_show,
        outputs=("table", "json"),
    ),
    Command(
        name="address",
        help="print where a deployment serves",
        description="Prints the address of a deployment, for a script or another command.",
        examples=(('curl "$(spanyard address support)/health"', "ask the server"),),
        arguments=_address_arguments,
        run=_address,
        outputs=(),
        exits="0 printed, 1 there is none or it serves nowhere yet, 2 wrong usage, 3 no gateway "
        "answers",
    ),
    Command(
        name="cancel",
        help="stop a build",
        description="Stops a build that is queued or runs; its log stays.",
        examples=(("spanyard cancel support-3", "as `spanyard builds` names it"),),
        arguments=_cancel_arguments,
        run=_cancel,
        outputs=(),
    ),
    Command(
        name="delete",
        help="delete a project, build or deployment",
        description="Deletes what is declared: a deployment is stopped and drained, a build goes "
        "with its log and artifact. What they wrote stays; `spanyard prune` removes that.",
        examples=(
            ("spanyard delete deployment support", "asks first"),
            ("spanyard delete build support-3 --yes", "asks nothing"),
        ),
        arguments=_delete_arguments,
        run=_delete,
        outputs=(),
    ),
]
