"""Values of the engine as the texts that our formats use."""


def rfc3339(column: str) -> str:
    """SQL for a DateTime64(9, 'UTC') as RFC 3339 with nine digits; `datetime` has only six."""
    return f"concat(replaceOne(toString({column}), ' ', 'T'), 'Z')"


def attribute_is(key: str, value: str) -> str:
    """SQL: that an attribute of a signal's table has this value, by the text index.

    `key` and `value` are SQL of constants, mostly bound parameters: `attribute_is("{k:String}",
    "{v:String}")`. 4 ms over 10 million rows where `attribute_map[key] = value` reads for 400.
    Values are compared as text, as `attribute_map` has them, and only those of at most 256 bytes
    are there; a nested object is the value of its first key.
    """
    # The index's token is `key':'value`, escaped as the engine escapes the texts of a map.
    text = f"toString(map({key}, {value}))"
    return f"hasAllTokens(attribute_text, [substring({text}, 3, length({text}) - 4)])"


def words_in(column: str, words: str) -> str:
    """SQL: that all words of a text are in a column with a text index, in any order and case.

    `column` is `message` of logs, `input` or `output` of spans; `words` is SQL of a constant. A
    word is a run of letters, digits and bytes beyond ASCII. Case is folded in ASCII only.
    """
    return f"hasAllTokens(lower({column}), lower({words}))"
