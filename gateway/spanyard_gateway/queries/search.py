"""From a bound query to SQL with bound parameters.

Words ask the text indexes. In every place of a condition, also under OR and NOT, the engine reads
the answer from the index instead of the column, where a part has one (26.7 on).
"""

from collections.abc import Callable, Sequence
from typing import Any

from spanyard_gateway.queries.common import (
    INDEXED_BYTES,
    attribute_equals,
    every_attribute,
)
from spanyard_gateway.search.bound import (
    Begins,
    Bound,
    Compare,
    Equals,
    Holds,
    Leaf,
    Part,
    Present,
    Test,
    Words,
    bound,
)
from spanyard_gateway.search.fields import Signal
from spanyard_gateway.search.nodes import All, AnyOf, Not
from spanyard_gateway.where import Where

MOST_TOKENS = 50
"""The engine takes 64 at most; the phrase itself is compared anyway."""
_DECIMAL = "^-?[0-9]{1,18}([.][0-9]{1,18})?$"


class Conditions:
    """SQL of conditions, and the values bound to them under the names `q0`, `q1`, …"""

    def __init__(
        self, *, indexed: bool = True, document: str = "attributes", known: int = 0
    ) -> None:
        """`indexed`: the rows are those of a table with its indexes and `attribute_map`.
        `document`: the column with the attributes' JSON. `known`: names that are taken."""
        self.params: dict[str, Any] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._indexed = indexed
        self._document = document
        self._known = known

    def bind(self, kind: str, value: Any) -> str:
        """The SQL that stands for a value; of equal ones the same, as they travel in addresses."""
        said = self._said.get((kind, repr(value)))
        if said is None:
            name = f"q{self._known + len(self.params)}"
            self.params[name] = value
            said = self._said[kind, repr(value)] = f"{{{name}:{kind}}}"
        return said

    def leaf(self, leaf: Leaf, columns: Sequence[str] = ()) -> str:
        """One condition on a row; `columns` instead of all those of its field."""
        if leaf.key:
            return self._attribute(leaf.key, leaf.test)
        found = " OR ".join(
            self._test(column, leaf.test) for column in columns or leaf.field.columns
        )
        return f"ended AND {found}" if leaf.field.kind == "duration" else found

    def _test(self, column: str, test: Test) -> str:
        match test:
            case Words():
                return self._words(column, test)
            case Part(text):
                return f"positionCaseInsensitiveUTF8({column}, {self.bind('String', text)}) > 0"
            case Equals(texts):
                return f"{column} IN {self.bind('Array(String)', list(texts))}" if texts else "0"
            case Begins(text):
                return f"startsWith({column}, {self.bind('String', text)})"
            case Present():
                return f"notEmpty({column})"
            case Compare(sign, number):
                return f"{column} {sign} {self._number(number)}"
            case Holds(wanted):
                return f"({column})" if wanted else f"NOT ({column})"

    def _number(self, number: float) -> str:
        return self.bind("Int64" if isinstance(number, int) else "Float64", number)

    def _words(self, column: str, test: Words) -> str:
        whole = test.words[:-1] if test.prefix else test.words
        conditions = []
        if whole:
            some = " ".join(list(dict.fromkeys(whole))[:MOST_TOKENS])
            conditions.append(f"hasAllTokens(lower({column}), {self.bind('String', some)})")
        if test.prefix:
            last = self.bind("String", test.words[-1])
            conditions.append(f"position(lower({column}), {last}) > 0")
        if test.prefix or len(test.words) > 1:
            line = " " + " ".join(test.words) + ("" if test.prefix else " ")
            conditions.append(
                "position(concat(' ', arrayStringConcat(tokens(lower(toString("
                f"{column})), 'splitByNonAlpha'), ' '), ' '), {self.bind('String', line)}) > 0"
            )
        return f"({' AND '.join(conditions)})"

    def _attribute(self, key: str, test: Test) -> str:
        name = self.bind("String", key)
        if isinstance(test, Equals):
            return " OR ".join(
                attribute_equals(
                    key,
                    text,
                    (name, self.bind("String", text)),
                    indexed=self._indexed,
                    document=self._document,
                )
                for text in test.texts
            )
        every = f"{every_attribute(self._document)}[{name}]"
        # A document that is no longer than that has no attribute that the map leaves out.
        value = (
            f"if(mapContains(attribute_map, {name}) OR length({self._document}) <= {INDEXED_BYTES},"
            f" attribute_map[{name}], {every})"
            if self._indexed
            else every
        )
        if isinstance(test, Compare):
            return (
                f"match({value}, '{_DECIMAL}')"
                f" AND toFloat64OrZero({value}) {test.sign} {self._number(test.number)}"
            )
        return self._test(value, test)


def joined(tree: Bound, leaf: Callable[[Leaf], str]) -> str:
    """SQL of a tree, given that of its leaves."""
    match tree:
        case Leaf():
            return f"({leaf(tree)})"
        case Not(part):
            return f"NOT {joined(part, leaf)}"
        case All(parts):
            return f"({' AND '.join(joined(part, leaf) for part in parts) or '1'})"
        case AnyOf(parts):
            return f"({' OR '.join(joined(part, leaf) for part in parts) or '0'})"


def add_search(where: Where, query: str | None, signal: Signal, *, indexed: bool = True) -> None:
    """Add the condition of a query on `logs` or `spans`; None adds nothing. Raises SearchError."""
    if query is None:
        return
    conditions = Conditions(indexed=indexed)
    where.add(joined(bound(query, signal), conditions.leaf), **conditions.params)
