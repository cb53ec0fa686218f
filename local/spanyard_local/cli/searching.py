"""A search on the command line: how it is given, and how a mistake in it is shown."""

import argparse
from collections.abc import Mapping
from typing import Any

from spanyard_core.errors import SettingError
from spanyard_local.terminal import printable

_WIDTH = 100
"""Characters of a query around its mistake that are shown."""


def add_search(parser: argparse.ArgumentParser) -> None:
    """The query behind the project, or by `-q`, which may stand anywhere."""
    parser.add_argument(
        "query", nargs="?", help="a search (docs/search.md), right behind the project, as one word"
    )
    parser.add_argument(
        "-q",
        "--query",
        dest="search",
        metavar="QUERY",
        help="the same anywhere; one that begins with a minus is given as -q=-word",
    )


def search_of(given: argparse.Namespace) -> str | None:
    """The query that was given. Raises SettingError when there are two."""
    if given.query and given.search:
        raise SettingError(
            f"two searches, {given.query!r} and {given.search!r}: join them with AND or OR"
        )
    found: str | None = given.search or given.query
    return found


def with_place(message: str, given: argparse.Namespace, problem: Mapping[str, Any]) -> str:
    """The message; of a mistake in the query with the query, and carets under the place."""
    query = getattr(given, "search", None) or getattr(given, "query", None)
    at = problem.get("at")
    if not query or not isinstance(at, dict):
        return message
    start, end = (_characters(query, at.get(name)) for name in ("start", "end"))
    begin = max(0, start - _WIDTH // 2)
    # Each character as one: what is no letter of a terminal would push the carets aside.
    shown = "".join(c if printable(c) == c else " " for c in query[begin : begin + _WIDTH])
    carets = "^" * max(1, min(end, begin + len(shown)) - start)
    return f"{message}\n  {shown}\n  {' ' * (start - begin)}{carets}"


def _characters(query: str, units: Any) -> int:
    """The gateway counts in UTF-16 units."""
    if not isinstance(units, int):
        return 0
    return len(
        query.encode("utf-16-le", "surrogatepass")[: 2 * units].decode("utf-16-le", "ignore")
    )
