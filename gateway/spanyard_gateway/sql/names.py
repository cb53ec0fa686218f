"""The lists of what is allowed, in files beside this module, one word after another."""

from functools import cache
from importlib import resources


@cache
def words(name: str) -> frozenset[str]:
    """The words of `allowed/{name}.txt`; lines that begin with # are for readers."""
    file = resources.files("spanyard_gateway.sql").joinpath("allowed", f"{name}.txt")
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return frozenset(word for line in lines for word in line.split())


@cache
def small_words(name: str) -> frozenset[str]:
    """The same in small letters, for names that the engine compares without case."""
    return frozenset(word.lower() for word in words(name))
