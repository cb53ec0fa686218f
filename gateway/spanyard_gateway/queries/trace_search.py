"""What a query means for a trace, as SQL over rows of its roots or reports.

Name, status, duration, service and deployment are those of the row itself, the trace's root or
report. Tokens, cost and number of spans are the sums that the list shows. Everything else holds
when it holds for any span of the trace, or for its report: one condition each, so `tool:a tool:b`
finds traces with a span of `a` and another of `b`, and `-tool:a` those without any of `a`.
"""

from spanyard_gateway.queries.search import Conditions, joined
from spanyard_gateway.search.bound import Bound, Compare, Leaf
from spanyard_gateway.where import Where

EARLIER_S = 3_600
"""A clock may be so much behind that of the root, and its spans are still found."""
_OF_REPORTS = {"name", "input", "output", "status = 'error'", "build", "pod", "container"}


def add_trace_search(where: Where, tree: Bound | None, within: str, *, of_reports: str) -> None:
    """Add the condition of a query that is bound to `traces`; None adds nothing.

    `within` and `of_reports`: SQL that says among which rows of `spans` and of `traces` to look.
    """
    if tree is None:
        return
    search = _Search(within, of_reports)
    where.add(joined(tree, search.leaf), **search.conditions.params)


class _Search:
    def __init__(self, within: str, of_reports: str) -> None:
        self.conditions = Conditions()
        self._within, self._of_reports = within, of_reports

    def leaf(self, leaf: Leaf) -> str:
        if leaf.field.scope == "own":
            return self.conditions.leaf(leaf)
        return self._sum(leaf) if leaf.field.scope == "sum" else self._any(leaf)

    def _any(self, leaf: Leaf) -> str:
        found = (
            "SELECT spans.trace_id FROM spans WHERE project = {project:String}"
            f" AND {self._within} AND ({self.conditions.leaf(leaf)})"
        )
        reported = self._reported(leaf)
        if reported:
            found += (
                " UNION ALL SELECT traces.id FROM traces WHERE project = {project:String}"
                f" AND {self._of_reports} AND ({reported})"
            )
        return f"trace_id IN ({found})"

    def _reported(self, leaf: Leaf) -> str:
        """The same of a report, as far as reports have such a thing; else empty."""
        if leaf.key:
            taken = len(self.conditions.params)
            own = Conditions(indexed=False, document="metadata", known=taken)
            found = own.leaf(leaf)
            self.conditions.params.update(own.params)
            return found
        columns = tuple(column for column in leaf.field.columns if column in _OF_REPORTS)
        if leaf.field.name.startswith("span.") or not columns:
            return ""
        return self.conditions.leaf(leaf, columns)

    def _sum(self, leaf: Leaf) -> str:
        test = leaf.test
        if isinstance(test, Compare):
            condition = self.conditions.leaf(leaf)
            rows = (
                "1"
                if leaf.field.name == "spans"
                else "(input_tokens + output_tokens > 0 OR cost != 0)"
            )
            # A trace without such rows has the sum 0: look for the others, whatever 0 says.
            wanted = not _holds_for_nothing(test)
            having = condition if wanted else f"NOT ({condition})"
            return (
                f"trace_id {'IN' if wanted else 'NOT IN'} (SELECT spans.trace_id FROM spans"
                f" WHERE project = {{project:String}} AND {self._within} AND {rows}"
                f" GROUP BY spans.trace_id HAVING {having})"
            )
        raise AssertionError(f"{leaf.field.name} is compared with numbers")


def _holds_for_nothing(test: Compare) -> bool:
    match test.sign:
        case "=":
            return test.number == 0
        case ">":
            return test.number < 0
        case ">=":
            return test.number <= 0
        case "<":
            return test.number > 0
        case "<=":
            return test.number >= 0
