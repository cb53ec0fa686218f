"""Ids as people type them: a project without its namespace, the beginning of a trace's id."""

import difflib
import re
from collections.abc import Sequence
from urllib.parse import quote

from spanyard_local.cli.context import Context, NotThereError
from spanyard_local.server_client import ServerError

FORBIDDEN = 403
NEWEST = 1_000
"""Records that are looked through where SQL may not be asked."""


def path(text: str) -> str:
    """A value as a part of a path."""
    return quote(text, safe="")


def project_id(context: Context, text: str) -> str:
    """The id of a project: `support` means `{any namespace}.support`, where only one has it.

    Raises NotThereError with what there is.
    """
    known = [str(p["id"]) for p in context.client.pages("/projects")]
    own = f"{context.named_namespace}.{text}"
    if own in known:
        return own
    if "." in text and text not in known:
        _may_be_seen(context, text)
    return pick(text, known, "project")


def _may_be_seen(context: Context, project: str) -> None:
    """Raises ServerError where it is not in the list for want of a right, which it names."""
    try:
        context.client.get(f"/projects/{path(project)}")
    except ServerError as error:
        if error.status == 403:
            raise


def pick(text: str, known: Sequence[str], noun: str) -> str:
    """The one of the known ids that is meant. Raises NotThereError with what there is."""
    if text in known:
        return text
    found = [name for name in known if name.partition(".")[2] == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotThereError(f"several {noun}s are called {text!r}: {', '.join(found)}; say which")
    if not known:
        raise NotThereError(f"no {noun} {text!r}: there is none yet that you may see")
    names = [*known, *(name.partition(".")[2] for name in known)]
    close = difflib.get_close_matches(text, names, n=1)
    shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
    guess = f"did you mean {close[0]!r}? There are" if close else "there are"
    raise NotThereError(f"no {noun} {text!r}; {guess}: {shown}")


def qualified(context: Context, text: str, plural: str) -> str:
    """The id of a build or deployment: `x` is that of the namespace, else the only one."""
    if "." in text:
        return text
    own = f"{context.namespace}.{text}"
    try:
        context.client.get(f"/{plural}/{path(own)}")
    except ServerError as error:
        if error.status != 404:
            raise
    else:
        return own
    known = [str(item["id"]) for item in context.client.pages(f"/{plural}")]
    return pick(text, known, plural.removesuffix("s"))


def trace_of(context: Context, text: str) -> tuple[str, str | None]:
    """A trace's id and project; the beginning of an id is enough where only one begins so.

    The project is None where the whole id was given. Raises NotThereError.
    """
    given = text.lower() if re.fullmatch(r"[0-9A-Fa-f]+", text) else text
    if len(given) == 32:
        return given, None
    found = _begin_with(context, given)
    exact = [pair for pair in found if pair[0] == given]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise NotThereError(
            f"no trace's id begins with {text!r}; `spanyard traces PROJECT` lists them"
        )
    raise NotThereError(
        f"several traces begin with {text!r}: "
        + ", ".join(f"{trace} of {project}" for trace, project in found[:3])
        + "; type more of it"
    )


def _begin_with(context: Context, start: str) -> list[tuple[str, str]]:
    """Ids and projects of some traces whose ids begin so."""
    asked = {
        "query": "SELECT DISTINCT project, trace_id FROM (SELECT project, trace_id FROM"
        " trace_index WHERE startsWith(trace_id, {p:String}) UNION ALL SELECT project,"
        " id AS trace_id FROM traces WHERE startsWith(id, {p:String})) LIMIT 4",
        "params": {"p": start},
    }
    try:
        rows = context.client.post("/sql", asked)["data"]
    except ServerError as error:
        if error.status != FORBIDDEN:
            raise
    else:
        return [(str(row["trace_id"]), str(row["project"])) for row in rows]
    # SQL sees all tenants, and so not everybody may ask it: the newest of the own projects.
    found: list[tuple[str, str]] = []
    for project in context.client.pages("/projects"):
        where = f"/projects/{path(str(project['id']))}/traces"
        traces = [str(trace["id"]) for trace in context.client.pages(where, most=NEWEST)]
        found += [(trace, str(project["id"])) for trace in traces if trace.startswith(start)]
    return found
