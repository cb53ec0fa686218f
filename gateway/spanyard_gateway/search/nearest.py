"""Which known word somebody may have meant."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word with the fewest edits, if they are few against its length."""
    word = word.lower()[:40]
    best = min(((_edits(word, each.lower()), each) for each in known), default=None)
    if best is None or best[0] > max(1, min(len(word), len(best[1])) // 3):
        return None
    return best[1]


def _edits(a: str, b: str) -> int:
    """Letters to change, add, leave out or swap with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        earlier, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
