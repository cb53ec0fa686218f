"""What a word is: a run of letters, digits and bytes beyond ASCII; case is folded in ASCII only.

So the text indexes of ClickHouse divide a text (`splitByNonAlpha` over `lower`), and so must
everybody who wants the same answer without them.
"""

import re
from functools import lru_cache

_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")
once_per_text = lru_cache(maxsize=4)
"""All terms of a query look at a text before the next comes: a line of 1 MB costs 80 ms to divide,
and a query has up to hundreds of phrases. Four: a span has as many texts."""


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, folded."""
    return tuple(found.decode() for found in _WORD.findall(folded(text)))


@once_per_text
def folded(text: str) -> bytes:
    """ASCII letters in lower case, as bytes: the folding of `bytes` knows no others."""
    return text.encode("utf-8", "surrogatepass").lower()


@once_per_text
def line_of_words(text: str) -> bytes:
    """The words with a space before, between and behind them: what phrases are looked for in."""
    return b" %b " % b" ".join(_WORD.findall(folded(text)))
