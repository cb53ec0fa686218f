"""What a word is: a run of letters, digits and bytes beyond ASCII; case is folded in ASCII only.

So the text indexes of ClickHouse divide a text (`splitByNonAlpha` over `lower`), and so must
everybody who wants the same answer without them.
"""

import re

_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, folded."""
    return tuple(found.decode() for found in _WORD.findall(folded(text)))


def folded(text: str) -> bytes:
    """ASCII letters in lower case, as bytes: the folding of `bytes` knows no others."""
    return text.encode("utf-8", "surrogatepass").lower()


def line_of_words(text: str) -> bytes:
    """The words with a space before, between and behind them: what phrases are looked for in."""
    return b" %b " % b" ".join(_WORD.findall(folded(text)))
