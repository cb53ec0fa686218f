"""Values of the engine as the texts that our formats use."""


def rfc3339(column: str) -> str:
    """SQL for a DateTime64(9, 'UTC') as RFC 3339 with nine digits; `datetime` has only six."""
    return f"concat(replaceOne(toString({column}), ' ', 'T'), 'Z')"
