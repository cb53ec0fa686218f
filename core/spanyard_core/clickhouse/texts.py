"""Values of the engine as the texts that our formats use."""


def rfc3339(column: str) -> str:
    """SQL for a DateTime64(9, 'UTC') as RFC 3339 with nine digits; `datetime` has only six."""
    return f"concat(replaceOne(toString({column}), ' ', 'T'), 'Z')"


def attribute_is(key: str, value: str) -> str:
    """SQL: that an attribute of a signal's table has this value, by the text index.

    `key` and `value` are SQL of constants, mostly bound parameters: `attribute_is("{k:String}",
    "{v:String}")`. 4 ms over 10 million rows where `attribute_map[key] = value` reads for 400.
    Values are compared as text, as `attribute_map` has them, and only those of at most 256 bytes
    are there; a nested object is the value of its first key. A key that is a comma, or ends with a
    quote and a comma, is not found: for those ask `attribute_map`.
    """
    # The index's token is `key':'value`, escaped as the engine escapes the texts of a map, and cut
    # at `','`. A value that is a comma, or ends with a quote and a comma, is cut too early: it
    # leaves its end to the next token.
    text = f"toString(map({key}, {value}))"
    token = f"substring({text}, 3, length({text}) - 4)"
    cut = f"replaceRegexpOne({token}, '\\',$', '')"
    tokens = f"[{token}, concat(',\\'', {token}), {cut}, concat(',\\'', {cut})]"
    return f"hasAnyTokens(attribute_text, {tokens})"


def words_in(column: str, words: str) -> str:
    """SQL: that all words of a text are in a column with a text index, in any order and case.

    `column` is `message` of logs, `input` or `output` of spans; `words` is SQL of a constant. A
    word is a run of letters, digits and bytes beyond ASCII. Case is folded in ASCII only.
    """
    return f"hasAllTokens(lower({column}), lower({words}))"
