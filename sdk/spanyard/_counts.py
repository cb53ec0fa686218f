"""Counts by text, of bounded size: texts may hold what the application made up."""

from collections import Counter

MOST_KINDS = 100
"""Texts told apart; further ones are counted together."""
OTHERS = "others"
_LONGEST = 300


class Counts(Counter[str]):
    """How often each text came."""

    def count(self, text: str) -> bool:
        """Count one; whether it is the first of its kind that is told apart."""
        text = text[:_LONGEST]
        if text not in self and len(self) >= MOST_KINDS:
            text = OTHERS
        self[text] += 1
        return self[text] == 1
