"""WHERE clauses with bound parameters: values never become part of the SQL text."""

from typing import Any


class Where:
    """Conditions, joined by AND, and the values bound to them."""

    __slots__ = ("conditions", "params")

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.params: dict[str, Any] = {}

    def add(self, condition: str, **params: Any) -> None:
        """Add a condition such as `level IN {levels:Array(String)}` with its values."""
        clash = params.keys() & self.params.keys()
        assert not clash, f"bound twice: {clash}"
        self.conditions.append(condition)
        self.params.update(params)

    def extend(self, other: "Where") -> None:
        """Add another's conditions and values."""
        for condition in other.conditions:
            self.add(condition)
        self.params.update(other.params)

    def sql(self) -> str:
        """The clause without the word WHERE; `1` when there are no conditions."""
        return " AND ".join(f"({c})" for c in self.conditions) or "1"
