"""What is wrong with a query, and where."""

from spanyard_core.errors import SettingError


class SearchError(SettingError):
    """A query that cannot be answered; `start` and `end` are its characters at fault."""

    def __init__(self, what: str, query: str, start: int, end: int) -> None:
        self.what = what
        self.query = query
        self.start = start
        self.end = end
        super().__init__(f"q: {what}")

    def at(self) -> dict[str, int]:
        """The place in UTF-16 units, in which browsers count: there an emoji counts two."""
        return {"start": _units(self.query[: self.start]), "end": _units(self.query[: self.end])}


def _units(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)
